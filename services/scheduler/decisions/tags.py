"""Tags: a map in our records, a list of pairs on the wire.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-using-tags.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from contracts.aws import ecs
from services.shared.errors import AwsError

LIMIT = 50


def read(tags: Iterable[ecs.Tag] | None) -> dict[str, str]:
    """A request's tags as a map. Raises InvalidParameterException for reserved, missing or doubled keys."""
    found: dict[str, str] = {}
    for tag in tags or ():
        if not tag.key:
            raise AwsError("InvalidParameterException", "Tag key must not be null or empty.")
        if tag.key.lower().startswith("aws:"):
            raise AwsError("InvalidParameterException", "Tag keys that begin with 'aws:' are reserved for system use.")
        if tag.key in found:
            raise AwsError("InvalidParameterException", f"Duplicate tag key: {tag.key}.")
        found[tag.key] = tag.value or ""
    return found


def joined(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    """Old tags with the new ones over them. Raises InvalidParameterException when they become too many."""
    both = {**old, **new}
    if len(both) > LIMIT:
        raise AwsError("InvalidParameterException", f"A resource can have at most {LIMIT} tags.")
    return both


def write(tags: Mapping[str, str]) -> list[ecs.Tag]:
    """The tags as responses have them."""
    return [ecs.Tag(key=key, value=value) for key, value in tags.items()]
