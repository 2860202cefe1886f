"""Pages of what may change while somebody goes through it: a token is a place, not an item or a count of them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")
_MARK = "at "


class BadToken(ValueError):
    """A token that was not given out."""


def page(
    items: Iterable[Item], key: Callable[[Item], str], token: str | None, limit: int, *, descending: bool = False
) -> tuple[list[Item], str | None]:
    """At most `limit` items behind the token, in the order of `key`, and the next token when there are more. What went
    or came between two pages neither hides nor repeats another. Raises BadToken."""
    after = _place(token) if token is not None else None
    placed = sorted(((key(item), item) for item in items), key=lambda each: each[0], reverse=descending)
    if after is not None:
        placed = [each for each in placed if (each[0] < after if descending else each[0] > after)]
    shown = placed[:limit]
    following = base64.urlsafe_b64encode((_MARK + shown[-1][0]).encode()).decode() if len(placed) > limit else None
    return [item for _, item in shown], following


def _place(token: str) -> str:
    try:
        text = base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise BadToken(token) from None
    if not text.startswith(_MARK):
        raise BadToken(token)
    return text.removeprefix(_MARK)
