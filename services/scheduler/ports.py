"""What the scheduler needs from outside, beside NATS."""

from __future__ import annotations

from typing import Any, Protocol


class HookAway(Exception):
    """A hook's target could not be asked; it may be asked again."""


class Hooks(Protocol):
    """The targets of lifecycle hooks."""

    async def ask(self, url: str, payload: dict[str, Any]) -> Any:
        """The target's answer, as JSON; None for what is none. Raises HookAway."""
