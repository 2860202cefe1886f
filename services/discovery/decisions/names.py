"""Ids, ARNs, pages."""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable, Sequence
from typing import TypeVar

from services.shared.errors import AwsError

Item = TypeVar("Item")
_LETTERS = string.ascii_lowercase + string.digits


def _random(length: int) -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(length))


def namespace_id() -> str:
    """`ns-` and 16 letters."""
    return f"ns-{_random(16)}"


def service_id() -> str:
    """`srv-` and 16 letters."""
    return f"srv-{_random(16)}"


def operation_id() -> str:
    """As Cloud Map has them."""
    return f"{_random(32)}-{_random(8)}"


def hosted_zone_id() -> str:
    """`Z` and 20 letters."""
    return f"Z{_random(20).upper()}"


def arn(account: str, region: str, kind: str, identifier: str) -> str:
    """The ARN of a `namespace` or a `service`."""
    return f"arn:aws:servicediscovery:{region}:{account}:{kind}/{identifier}"


def id_of(reference: str) -> str:
    """The id in an ARN, or the id itself."""
    return reference.rsplit("/", 1)[-1] if reference.startswith("arn:") else reference


def page(
    items: Sequence[Item], key: Callable[[Item], str], size: int | None, token: str | None
) -> tuple[list[Item], str | None]:
    """At most `size` (100) items after the one that the token names, by key, and the next token. Raises AwsError."""
    ordered = sorted(items, key=key)
    if token:
        if not token.startswith("after:"):
            raise AwsError("InvalidInput", "The next token is not valid.")
        ordered = [item for item in ordered if key(item) > token[6:]]
    taken = ordered[: size or 100]
    return taken, f"after:{key(taken[-1])}" if len(ordered) > len(taken) else None
