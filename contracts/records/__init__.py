"""What is stored: one module per owning service. `KINDS` is the table of all kinds of entities."""

from contracts.kinds import Kind
from contracts.records import (
    agent,
    app_runner_gateway,
    autoscaler,
    discovery,
    events,
    identity,
    monitor,
    network,
    registry,
    scanner,
    scheduler,
)

KINDS: tuple[Kind, ...] = (
    *scheduler.KINDS,
    *agent.KINDS,
    *registry.KINDS,
    *scanner.KINDS,
    *identity.KINDS,
    *monitor.KINDS,
    *discovery.KINDS,
    *autoscaler.KINDS,
    *app_runner_gateway.KINDS,
    *events.KINDS,
    *network.KINDS,
)
