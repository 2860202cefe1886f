"""Which tags may be moved, and which must stay."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any


def is_immutable(settings: Mapping[str, Any], tag: str) -> bool:
    """Whether a tag of a repository with these settings may not name another image once it names one.

    https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-tag-mutability.html: the exclusion filters turn the
    rule round for the tags that they match; `*` stands for any characters.
    """
    mutability = settings.get("imageTagMutability", "MUTABLE")
    excluded = any(_matches(each["filter"], tag) for each in settings.get("imageTagMutabilityExclusionFilters") or [])
    if mutability == "IMMUTABLE_WITH_EXCLUSION":
        return not excluded
    if mutability == "MUTABLE_WITH_EXCLUSION":
        return excluded
    return bool(mutability == "IMMUTABLE")


def _matches(pattern: str, tag: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), tag) is not None
