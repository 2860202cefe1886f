"""What the events service needs from outside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol


class Answer(NamedTuple):
    """What a target answered: its status, or None and why it gave none."""

    status: int | None
    why: str = ""


class Targets(Protocol):
    """The targets of webhooks."""

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send it; never raises for what a target does or does not do."""
        ...
