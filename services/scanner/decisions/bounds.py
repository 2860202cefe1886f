"""What reading one file may cost, so that what is made to be expensive is not."""

from __future__ import annotations

import json
from typing import Any

LOCK_LIMIT = 16 << 20
"""The largest lock file that is read (bytes)."""
ARCHIVE_LIMIT = 256 << 20
"""The largest archive that is read (bytes)."""
UNPACKED_LIMIT = 1 << 30
"""What the archives and packed sections of one layer may unpack to, all together (bytes)."""
DEPTH = 6
"""How deep archives may lie in each other."""
MEMBERS_LIMIT = 200_000
"""How many members an archive may have."""
NAME_LIMIT = 512
"""The longest name or version (characters): what is longer is none."""


class Broken(Exception):
    """Nothing can be read of a file. The message says why."""


class Budget:
    """What is left for a layer to unpack, in bytes."""

    def __init__(self, unpacked: int = UNPACKED_LIMIT) -> None:
        self.left = unpacked

    def spend(self, size: int) -> None:
        """Raises Broken when there is not so much left."""
        if size > self.left:
            raise Broken("it unpacks to more than what is read of a layer")
        self.left -= size


def parsed(data: bytes) -> dict[str, Any]:
    """A JSON object. Raises Broken."""
    try:
        told = json.loads(data.removeprefix(b"\xef\xbb\xbf"))
    except (ValueError, RecursionError) as error:
        raise Broken(f"it is no JSON: {str(error)[:80]}") from None
    return told if isinstance(told, dict) else {}


def name_of(*values: Any) -> bool:
    """Whether these are texts that can be names and versions."""
    return all(isinstance(each, str) and 0 < len(each) <= NAME_LIMIT and each.isprintable() for each in values)


def member(table: Any, name: str) -> dict[str, Any]:
    """A table in a table; {} for none."""
    found = table.get(name) if isinstance(table, dict) else None
    return found if isinstance(found, dict) else {}


def members(table: Any, name: str) -> list[dict[str, Any]]:
    """The tables of a list in a table."""
    found = table.get(name) if isinstance(table, dict) else None
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
