"""Durable consumers of events against a real nats-server."""

import asyncio

import pytest

from contracts import grants
from contracts.records.scheduler import CLUSTER, KINDS, Cluster
from services.shared import telemetry
from services.shared.consumers import Consumer, Event, Retry
from services.shared.state import Store


def cluster(name: str) -> Cluster:
    return Cluster(account="1", region="r", name=name, status="ACTIVE", created_at=1.0)


class Heard:
    """Collects events; fails the first `failures` of them."""

    def __init__(self, failures: int = 0, error: Exception | None = None) -> None:
        self.events: list[Event] = []
        self.traces: list[str | None] = []
        self.failures = failures
        self.error = error or RuntimeError("a mistake")
        self.arrived = asyncio.Event()

    async def __call__(self, event: Event) -> None:
        self.events.append(event)
        self.traces.append(telemetry.current_trace_id())
        if self.failures:
            self.failures -= 1
            raise self.error
        self.arrived.set()


@pytest.fixture(autouse=True)
def granted(monkeypatch):
    """The scheduler's user may have the consumer of these tests. Asked for before NATS starts with its users."""
    monkeypatch.setitem(grants.CONSUMES, "scheduler", {"test": (CLUSTER,)})


@pytest.fixture
async def parts(granted, nats_platform):
    store = await Store.open(await nats_platform.bus("scheduler"), KINDS)
    return store, await nats_platform.bus("scheduler"), nats_platform


async def test_each_change_is_handed_over_once_with_its_record_and_trace(parts):
    store, bus, _ = parts
    heard = Heard()
    await Consumer(bus, "test", (CLUSTER,), {"cluster.created.v1": heard}).start()
    with telemetry.span("create"):
        trace = telemetry.current_trace_id()
        entry = await store.put(CLUSTER, cluster("main"), "cluster.created.v1", expect=0)
    await asyncio.wait_for(heard.arrived.wait(), 30)
    assert [event._replace(logged=0, at=0.0) for event in heard.events] == [
        Event("cluster.created.v1", CLUSTER, ("1", "r", "main"), cluster("main"), entry.sequence, None)
    ]
    assert heard.traces == [trace]


async def test_a_delete_has_no_record(parts):
    store, bus, _ = parts
    heard = Heard()
    await Consumer(bus, "test", (CLUSTER,), {"cluster.deleted.v1": heard}).start()
    await store.put(CLUSTER, cluster("main"), "cluster.created.v1", expect=0)
    await store.delete(CLUSTER, ("1", "r", "main"), "cluster.deleted.v1")
    await asyncio.wait_for(heard.arrived.wait(), 30)
    assert [(e.name, e.record) for e in heard.events] == [("cluster.deleted.v1", None)]


@pytest.mark.parametrize("error", [Retry("not yet", 0.05), RuntimeError("a mistake")])
async def test_what_failed_comes_again(parts, error):
    store, bus, _ = parts
    heard = Heard(failures=1, error=error)
    await Consumer(bus, "test", (CLUSTER,), {"cluster.created.v1": heard}).start()
    await store.put(CLUSTER, cluster("main"), "cluster.created.v1", expect=0)
    await asyncio.wait_for(heard.arrived.wait(), 30)
    assert [e.key[2] for e in heard.events] == ["main", "main"]


async def test_what_happened_while_nobody_listened_is_heard_afterwards(parts):
    store, bus, platform = parts
    heard = Heard()
    first = Consumer(bus, "test", (CLUSTER,), {"cluster.created.v1": heard})
    await first.start()
    await first.stop()
    await store.put(CLUSTER, cluster("missed"), "cluster.created.v1", expect=0)
    await platform.server.stop()
    await platform.server.start()
    await asyncio.wait_for(bus.connected.wait(), 30)
    await Consumer(bus, "test", (CLUSTER,), {"cluster.created.v1": heard}).start()
    await asyncio.wait_for(heard.arrived.wait(), 30)
    assert [e.key[2] for e in heard.events] == ["missed"]
