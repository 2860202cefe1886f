"""Makes the streams of the platform, or brings them up to date. Run once by whoever starts the platform."""

from __future__ import annotations

from typing import Any

from contracts.streams import all_streams
from services.shared.bus import ApiError, Bus

PATIENCE_S = 60.0
_STREAM_NOT_FOUND = 10059


async def provision(bus: Bus) -> None:
    """Create or update every stream of contracts.streams; the bus must be the operator's. A busy disk may take its
    time: nothing can start without streams, and nobody tries again."""
    with bus.patient(PATIENCE_S):
        for config in all_streams():
            await _ensure(bus, config)


async def _ensure(bus: Bus, config: dict[str, Any]) -> None:
    try:
        info = await bus.api(f"STREAM.INFO.{config['name']}")
    except ApiError as error:
        if error.code != _STREAM_NOT_FOUND:
            raise
        await bus.api(f"STREAM.CREATE.{config['name']}", config)
        return
    current = info["config"]
    if any(current.get(member) != value for member, value in config.items()):
        await bus.api(f"STREAM.UPDATE.{config['name']}", {**current, **config})
