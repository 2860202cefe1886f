"""EC2's filters and pages. https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Filtering.html"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from contracts.aws import ec2
from services.network.decisions.permissions import invalid
from services.shared.errors import AwsError

Facts = Mapping[str, Iterable[str]]
"""What a filter may ask of a thing: the filter's name -> the values that it has."""

T = TypeVar("T")


def tag_facts(tags: Mapping[str, str]) -> dict[str, Iterable[str]]:
    """What filters may ask of tags."""
    return {"tag-key": list(tags), **{f"tag:{key}": [value] for key, value in tags.items()}}


def selected(
    things: Iterable[T], filters: Sequence[ec2.Filter] | None, names: Iterable[str], facts: Callable[[T], Facts]
) -> list[T]:
    """The things that pass every filter, each of which lets any of its values pass. Raises AwsError for a name that is
    not one of `names` and no tag's."""
    known, wanted = set(names), []
    for each in filters or ():
        name = each.name or ""
        if name not in known and not name.startswith("tag:"):
            raise invalid(f"The filter '{name}' is invalid")
        wanted.append((name, [_pattern(value) for value in each.values or ()]))
    found = []
    for thing in things:
        told = facts(thing) if wanted else {}
        if all(any(p.fullmatch(v) for p in patterns for v in told.get(name, ())) for name, patterns in wanted):
            found.append(thing)
    return found


def _pattern(value: str) -> re.Pattern[str]:
    """`*` any characters, `?` one; a backslash takes the meaning away."""
    parts = re.findall(r"\\.|.", value, re.DOTALL)
    wild = {"*": ".*", "?": "."}
    return re.compile("".join(wild.get(part) or re.escape(part[-1]) for part in parts), re.DOTALL)


def page(
    things: Iterable[T], key: Callable[[T], str], most: int | None, token: str | None
) -> tuple[list[T], str | None]:
    """Some of the things in the order of their keys, and the token of the next page, None when there is none. Raises
    AwsError."""
    ordered = sorted(things, key=key)
    if token:
        try:
            after = base64.urlsafe_b64decode(token).decode()
        except (binascii.Error, ValueError):
            raise AwsError("InvalidPaginationToken", "The pagination token is not valid") from None
        ordered = [thing for thing in ordered if key(thing) > after]
    shown = ordered[:most] if most else ordered
    if len(shown) == len(ordered):
        return shown, None
    return shown, base64.urlsafe_b64encode(key(shown[-1]).encode()).decode()
