"""Whose pulls count."""

from __future__ import annotations

import re
from collections.abc import Iterable

_SESSION = re.compile(r"arn:(aws[a-z-]*):sts::(\d{12}):assumed-role/([^/]+)/.+\Z")
_ROLE = re.compile(r"arn:(aws[a-z-]*):iam::(\d{12}):role/(?:.+/)?([^/]+)\Z")


def excluded(principal: str, exclusions: Iterable[str]) -> bool:
    """Whether the pulls of a principal (an ARN) are not to be recorded: it is named itself, or it is a session of a
    role that is. A session's ARN has its role's name without the path."""
    session = _SESSION.match(principal)
    for exclusion in exclusions:
        role = _ROLE.match(exclusion)
        if exclusion == principal or (session is not None and role is not None and role.groups() == session.groups()):
            return True
    return False
