"""Lists in pages. A marker is the last name of the page before, in base64."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable
from typing import TypeVar

from services.shared.errors import AwsError

T = TypeVar("T")


def page(
    items: Iterable[T], name_of: Callable[[T], str], marker: str | None, limit: int, bad: str = "ValidationError"
) -> tuple[list[T], str | None]:
    """Up to `limit` items after the marker, in the order of their names, and the next marker (None at the end).
    Raises AwsError(bad) for what is no marker."""
    after = _read(marker, bad) if marker else None
    ordered = sorted((item for item in items if after is None or name_of(item) > after), key=name_of)
    taken = ordered[:limit]
    return taken, _write(name_of(taken[-1])) if len(ordered) > limit else None


def _write(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode()


def _read(marker: str, bad: str) -> str:
    try:
        return base64.b64decode(marker.encode("ascii"), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError, ValueError):
        raise AwsError(bad, "The marker (or token) is not one that was given out here") from None
