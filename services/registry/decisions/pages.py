"""Pages of long listings, and ranges of uploads."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

Item = TypeVar("Item")
_CONTENT_RANGE = re.compile(r"(?:bytes )?(\d{1,18})-(\d{1,18})(?:/(?:\d+|\*))?\Z")
_tokens = msgspec.json.Decoder(list[str])


class BadToken(ValueError):
    """A nextToken that was not given out."""


def page(
    items: Sequence[Item], key: Callable[[Item], tuple[str, ...]], size: int, token: str | None
) -> tuple[list[Item], str | None]:
    """At most `size` items after the place that `token` remembers, and the token of the next page (None at the end).

    The token is the last item's key, so that items which come and go in between are neither missed nor told twice.
    Raises BadToken.
    """
    ordered = sorted(items, key=key)
    if token is not None:
        after = _read_token(token)
        ordered = [item for item in ordered if key(item) > after]
    taken = ordered[:size]
    more = len(ordered) > len(taken) and taken
    return taken, _make_token(key(taken[-1])) if more else None


def _make_token(key: tuple[str, ...]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).decode()


def _read_token(token: str) -> tuple[str, ...]:
    try:
        return tuple(_tokens.decode(base64.b64decode(token, altchars=b"-_", validate=True)))
    except (binascii.Error, ValueError, msgspec.DecodeError):
        raise BadToken("the nextToken is not valid") from None


def tags_after(tags: Sequence[str], last: str | None, count: int | None) -> tuple[list[str], bool]:
    """The tags of one page of OCI's list, in byte order, and whether there are more."""
    ordered = sorted(tag for tag in tags if last is None or tag > last)
    if count is None:
        return ordered, False
    return ordered[:count], len(ordered) > count > 0


def chunk_start(content_range: str | None, content_length: int | None) -> int | None:
    """Where a chunk says that it begins; None when it does not say. Raises ValueError for a range that is none, or
    that is not as long as the chunk."""
    if content_range is None:
        return None
    found = _CONTENT_RANGE.match(content_range.strip())
    if found is None:
        raise ValueError(f"{content_range!r} is not a range")
    start, end = int(found[1]), int(found[2])
    if end < start or (content_length is not None and content_length != end - start + 1):
        raise ValueError(f"the range {content_range!r} is not as long as the content")
    return start


def query_int(value: str | None, largest: int = 10_000) -> int | None:
    """A non-negative whole number of a query, at most `largest`. Raises ValueError."""
    if value is None:
        return None
    if not value.isascii() or not value.isdigit():
        raise ValueError(f"{value!r} is not a number")
    return min(int(value[:9]), largest)
