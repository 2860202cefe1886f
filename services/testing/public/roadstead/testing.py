"""A platform for your tests: `Roadstead` on this machine, `RoadsteadContainer` in a container (needs testcontainers).

With pytest, ask for the fixture `roadstead`. services/testing/README.md shows a whole test.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from services.testing.endpoint import Endpoint, until
from services.testing.platform import PlatformFailed, Roadstead, roadstead
from services.testing.pushing import PushFailed

if TYPE_CHECKING:
    from services.testing.container import RoadsteadContainer

__all__ = ["Endpoint", "PlatformFailed", "PushFailed", "Roadstead", "RoadsteadContainer", "roadstead", "until"]


def __getattr__(name: str) -> Any:
    """RoadsteadContainer on demand: who does not use it need not have testcontainers."""
    if name == "RoadsteadContainer":
        from services.testing.container import RoadsteadContainer

        return RoadsteadContainer
    raise AttributeError(name)
