"""`python -m deploy.programs.provision`: waits for NATS and makes the platform's streams, then ends."""

from __future__ import annotations

import asyncio
import sys

from contracts.grants import OPERATOR
from services.shared.bus import Bus
from services.shared.errors import AwsError
from services.shared.provision import provision
from services.shared.runner import HostSettings
from services.shared.settings import SettingsError, load

WAIT_S = 60.0


async def run(settings: HostSettings) -> None:
    """Make or update every stream, as the operator. Raises StateUnavailable when NATS stays away."""
    bus = await Bus.connect(settings.nats_url, OPERATOR, user=OPERATOR, password=settings.nats_password, wait_s=WAIT_S)
    try:
        await provision(bus)
    finally:
        await bus.close()


if __name__ == "__main__":
    try:
        asyncio.run(run(load(HostSettings, "ROADSTEAD_")))
    except (AwsError, SettingsError) as error:
        sys.exit(f"provision: {error}")
    print("provisioned", flush=True)
