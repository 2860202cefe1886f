"""Pages of a listing. A token names the last item seen, so that a listing that changes skips and repeats nothing."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

from services.shared.errors import AwsError


def page(
    items: Sequence[str], token: str | None, size: int | None, *, largest: int = 100, reverse: bool = False
) -> tuple[list[str], str | None]:
    """The items after `token`, at most `size`, and the token of the next page. `items` are in order.

    Raises InvalidParameterException for a size out of 1..largest or a token that is none.
    """
    if size is not None and not 1 <= size <= largest:
        raise AwsError("InvalidParameterException", f"maxResults must be between 1 and {largest}.")
    after = _decode(token) if token else None
    rest = [i for i in items if after is None or (i < after if reverse else i > after)]
    size = size or largest
    shown = rest[:size]
    return shown, _encode(shown[-1]) if len(rest) > size else None


def _encode(item: str) -> str:
    return base64.urlsafe_b64encode(item.encode()).decode()


def _decode(token: str) -> str:
    try:
        return base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise AwsError("InvalidParameterException", "Invalid token.") from None
