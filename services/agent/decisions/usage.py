"""What a task used between two readings of its containers' counters."""

from __future__ import annotations

from collections.abc import Mapping

from contracts.records.metrics import TaskUsage
from contracts.records.scheduler import Task
from services.agent.values import Stats

MIB = 1024 * 1024


def task_usage(
    task: Task,
    started: Mapping[str, float],
    before: Mapping[str, Stats],
    now: Mapping[str, Stats],
    since: float,
    period_s: float,
    *,
    own_network: bool = True,
) -> TaskUsage | None:
    """The usage over `period_s` seconds since the reading `before` at `since`; None when none of its containers runs.

    `started` is when each container did (seconds). A container that is not in `before` counts from zero when it started
    since, and from its next reading on when it is older: an adopted one's counters hold what it used all its life.
    The containers of a task share its network, so its counters are told by any one of them; `own_network` is False
    where they are the machine's.
    """
    running = [identifier for identifier in started if identifier in now]
    if not running:
        return None
    cpu_ns = received = sent = 0
    for identifier in running:
        old = before.get(identifier)
        if old is None and started[identifier] < since:
            continue
        cpu_ns += max(0, now[identifier].cpu_ns - (old.cpu_ns if old is not None else 0))
    if own_network:
        known = next((i for i in running if i in before), None)
        reading = now[known or running[0]]
        if known is not None:
            received = max(0, reading.network_rx_bytes - before[known].network_rx_bytes)
            sent = max(0, reading.network_tx_bytes - before[known].network_tx_bytes)
        elif min(started[i] for i in running) >= since:
            received, sent = reading.network_rx_bytes, reading.network_tx_bytes
    return TaskUsage(
        account=task.account,
        region=task.region,
        cluster=task.cluster,
        service=task.service,
        task=task.id,
        cpu_units=cpu_ns / (period_s * 1e9) * 1024,
        memory_mib=sum(now[identifier].memory_bytes for identifier in running) / MIB,
        cpu_reserved=task.cpu_units,
        memory_reserved=task.memory_mib,
        rx_bytes=received,
        tx_bytes=sent,
    )
