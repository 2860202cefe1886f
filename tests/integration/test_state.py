"""State, views, leases and commands against a real nats-server."""

import asyncio

import pytest
import structlog

from contracts.records.agent import NODE, Node
from contracts.records.scheduler import CLUSTER, KINDS, TASK, Cluster
from contracts.rpc.registry import ISSUE_PULL_TOKEN, IssuePullToken, PullToken
from contracts.subjects import METRICS_STREAM, metrics
from services.shared.bus import ApiError, CommandRefused, Conflict
from services.shared.errors import AwsError, StateUnavailable
from services.shared.leases import Lease
from services.shared.state import Store, fetch
from services.shared.tails import Tail
from services.shared.views import View
from tests.builders.waiting import until


def cluster(name: str, status: str = "ACTIVE") -> Cluster:
    return Cluster(account="000000000000", region="us-east-1", name=name, status=status, created_at=1.0)


KEY = ("000000000000", "us-east-1", "main")


async def test_a_writer_sees_its_own_write_at_once(nats_platform):
    store = await Store.open(await nats_platform.bus("scheduler"), KINDS)
    await store.put(CLUSTER, cluster("main"), "cluster.created.v1", expect=0)
    assert store.table(CLUSTER).record(*KEY) == cluster("main")


async def test_of_two_writers_one_meets_a_conflict(nats_platform):
    first = await Store.open(await nats_platform.bus("scheduler"), KINDS)
    second = await Store.open(await nats_platform.bus("scheduler"), KINDS)
    made = await first.put(CLUSTER, cluster("main"), "cluster.created.v1", expect=0)
    await until(lambda: second.table(CLUSTER).get(*KEY))
    await first.put(CLUSTER, cluster("main", "INACTIVE"), "cluster.deleted.v1", expect=made.sequence)
    with pytest.raises(Conflict):
        await second.put(CLUSTER, cluster("main", "OTHER"), "cluster.changed.v1", expect=made.sequence)


async def test_an_update_starts_again_from_what_the_other_wrote(nats_platform):
    stores = [await Store.open(await nats_platform.bus("scheduler"), KINDS) for _ in range(4)]
    await stores[0].put(CLUSTER, cluster("main", ""), "cluster.created.v1", expect=0)
    await until(lambda: all(s.table(CLUSTER).get(*KEY) for s in stores))

    def add(letter):
        return lambda old: cluster("main", old.status + letter)

    await asyncio.gather(
        *(s.update(CLUSTER, KEY, add(c), "cluster.changed.v1") for s, c in zip(stores, "abcd", strict=True))
    )
    written = [(await s.refresh(CLUSTER, KEY)).record.status for s in stores]
    assert [sorted(text) for text in written] == [list("abcd")] * 4


async def test_a_removal_takes_what_the_other_wrote_too(nats_platform):
    first = await Store.open(await nats_platform.bus("scheduler"), KINDS)
    second = await Store.open(await nats_platform.bus("scheduler"), KINDS)
    await first.put(CLUSTER, cluster("main"), "cluster.created.v1", expect=0)
    await until(lambda: second.table(CLUSTER).get(*KEY))
    await second.close()  # it does not hear of what comes
    await first.put(CLUSTER, cluster("main", "OTHER"), "cluster.changed.v1")
    await second.remove(CLUSTER, KEY, "cluster.removed.v1")
    await until(lambda: not first.table(CLUSTER).get(*KEY))
    await second.remove(CLUSTER, KEY, "cluster.removed.v1")


async def test_a_deleted_entity_can_be_made_again(nats_platform):
    store = await Store.open(await nats_platform.bus("scheduler"), KINDS)
    reader = await Store.open(await nats_platform.bus("scheduler"), KINDS)
    for _ in range(3):
        await store.put(CLUSTER, cluster("main"), "cluster.created.v1", expect=0)
        await until(lambda: reader.table(CLUSTER).get(*KEY))
        await store.delete(CLUSTER, KEY, "cluster.removed.v1")
        await until(lambda: not reader.table(CLUSTER).get(*KEY))
    late = await Store.open(await nats_platform.bus("scheduler"), KINDS)
    assert late.table(CLUSTER).get(*KEY) is None
    await late.put(CLUSTER, cluster("main"), "cluster.created.v1", expect=0)


async def test_a_view_misses_nothing_when_nats_restarts(nats_platform):
    writer = await Store.open(await nats_platform.bus("agent"), (NODE,))
    view = await View.open(await nats_platform.bus("scheduler"), NODE)

    def node(name):
        return Node(node=name, zone="a", cpu_units=1, memory_mib=1, registered_at=1.0, session="s")

    await writer.put(NODE, node("n1"), "node.registered.v1")
    await nats_platform.server.stop()
    with pytest.raises(StateUnavailable):
        await writer.put(NODE, node("n2"), "node.registered.v1")
    await nats_platform.server.start()

    async def again():
        while True:
            try:
                return await writer.put(NODE, node("n2"), "node.registered.v1")
            except StateUnavailable:
                await asyncio.sleep(0.02)

    await asyncio.wait_for(again(), 30)
    await until(lambda: {k[0] for k in view.table(NODE).all_keys()} == {"n1", "n2"})


@pytest.mark.parametrize("stored", [True, False])
async def test_a_write_that_was_not_answered_is_found_out_about(nats_platform, monkeypatch, stored):
    store = await Store.open(await nats_platform.bus("scheduler"), KINDS)
    await store.close()  # it hears nothing by itself
    publish = store._bus.publish

    async def unanswered(*arguments):
        if stored:
            await publish(*arguments)
        raise StateUnavailable

    monkeypatch.setattr(store._bus, "publish", unanswered)
    with pytest.raises(StateUnavailable):
        await store.put(CLUSTER, cluster("main"), "cluster.created.v1", expect=0)
    assert store.table(CLUSTER).get(*KEY) is None
    await store.settle()
    assert (store.table(CLUSTER).get(*KEY) is not None) == stored


async def test_a_service_may_not_write_or_read_what_is_not_its_own(nats_platform):
    edge = await nats_platform.bus("edge")
    with pytest.raises(StateUnavailable):
        await asyncio.wait_for(edge.publish(NODE.subject(("n1",)), b"{}"), 30)
    with pytest.raises((StateUnavailable, ApiError)):
        await View.open(edge, TASK)


async def test_every_change_is_in_the_event_log(nats_platform):
    store = await Store.open(await nats_platform.bus("scheduler"), KINDS)
    await store.put(CLUSTER, cluster("main"), "cluster.created.v1", expect=0)
    operator = await nats_platform.bus("operator")
    heard = await operator.client.jetstream().subscribe("events.scheduler.>", stream="EVENTS", ordered_consumer=True)
    message = await heard.next_msg(30)
    assert (message.subject, message.headers["Event"]) == (
        "events.scheduler.cluster.000000000000.us-east-1.main",
        "cluster.created.v1",
    )


async def test_changes_that_follow_one_another_at_once_are_all_in_the_event_log(nats_platform):
    store = await Store.open(await nats_platform.bus("scheduler"), KINDS)
    states = ("ACTIVE", "DEPROVISIONING", "ACTIVE", "INACTIVE")

    async def live(name: str) -> None:
        for status in states:
            await store.put(CLUSTER, cluster(name, status), "cluster.changed.v1")

    names = [f"c{number}" for number in range(60)]
    await asyncio.gather(*(live(name) for name in names))  # at once: the streams were made a moment ago
    operator = await nats_platform.bus("operator")

    async def copied() -> bool:
        return (await operator.api("STREAM.INFO.EVENTS"))["state"]["messages"] >= len(names) * len(states)

    await until(copied)


async def test_what_is_deleted_does_not_come_back_when_its_deletion_is_forgotten(nats_platform):
    bus, operator = await nats_platform.bus("scheduler"), await nats_platform.bus("operator")
    store = await Store.open(bus, KINDS)
    for status in ("ACTIVE", "DEPROVISIONING"):
        await store.put(CLUSTER, cluster("main", status), "cluster.changed.v1")
    await store.delete(CLUSTER, KEY, "cluster.deleted.v1")
    info = (await operator.api("STREAM.INFO.STATE_SCHEDULER", {"subjects_filter": CLUSTER.subject(KEY)}))["state"]
    assert info["subjects"] == {CLUSTER.subject(KEY): 1}, "the deletion alone, and that times out"
    await operator.api("STREAM.MSG.DELETE.STATE_SCHEDULER", {"seq": info["last_seq"]})
    assert await fetch(bus, CLUSTER, KEY) is None
    fresh = await Store.open(await nats_platform.bus("scheduler"), KINDS)
    assert fresh.table(CLUSTER).records() == []


async def test_a_view_that_is_opened_reads_the_newest_of_each_entity_alone(nats_platform):
    store = await Store.open(await nats_platform.bus("scheduler"), KINDS)
    for status in ("ACTIVE", "DEPROVISIONING", "INACTIVE"):
        await store.put(CLUSTER, cluster("main", status), "cluster.changed.v1")
    changes = []
    fresh = await Store.open(await nats_platform.bus("scheduler"), KINDS, listen=changes.append)
    assert fresh.table(CLUSTER).records() == [cluster("main", "INACTIVE")]
    assert [change.new.record.status for change in changes] == ["INACTIVE"]


async def test_a_tail_takes_every_message_there_is_also_of_one_subject(nats_platform):
    bus = await nats_platform.bus("monitor")
    for number in range(3):
        await bus.publish(metrics("monitor", "t"), str(number).encode())
    taken: list[bytes] = []
    tail = Tail(bus, METRICS_STREAM, "metrics.>", lambda subject, data, sequence: taken.append(data))
    await tail.start(1)
    await bus.publish(metrics("monitor", "t"), b"3")
    await until(lambda: len(taken) >= 4)
    await tail.stop()
    assert taken == [b"0", b"1", b"2", b"3"]


async def test_a_lease_has_one_holder_and_its_restart_follows_at_once(nats_platform):
    bus, other = await nats_platform.bus("scheduler"), await nats_platform.bus("scheduler")
    now = 1000.0

    def lease(bus, holder):
        return Lease(bus, "controller", holder, ttl_s=1.0, clock=lambda: now)

    first, second, restarted = lease(bus, "one"), lease(other, "two"), lease(bus, "one")
    await first.acquire()
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(0.3)  # longer than it waits before it looks again
    assert (first.held, waiting.done()) == (True, False)
    await asyncio.wait_for(restarted.acquire(), 30)
    assert restarted.fence > first.fence
    assert not waiting.done()
    now += 1.1
    await asyncio.wait_for(waiting, 30)
    assert second.held and second.fence > restarted.fence


async def test_what_a_holder_writes_late_is_refused_by_the_server(nats_platform):
    bus, other = await nats_platform.bus("scheduler"), await nats_platform.bus("scheduler")
    now = 1000.0
    first = Lease(bus, "controller", "one", ttl_s=1.0, clock=lambda: now)
    second = Lease(other, "controller", "two", ttl_s=1.0, clock=lambda: now + 2)
    store = await Store.open(bus, KINDS)
    await first.acquire()
    in_time = first.writes
    assert (await store.put(CLUSTER, cluster("a"), "cluster.created.v1", expect=0, fence=in_time)).sequence > 0
    await second.acquire()
    assert (first.held, first.writes) == (True, in_time), "by its own clock nothing has happened"
    with pytest.raises(Conflict):
        await store.put(CLUSTER, cluster("b"), "cluster.created.v1", expect=0, fence=first.writes)
    assert await fetch(other, CLUSTER, CLUSTER.key_of(cluster("b"))) is None
    await store.put(CLUSTER, cluster("b"), "cluster.created.v1", expect=0, fence=second.writes)


async def test_two_who_begin_a_term_at_once_do_not_both_have_it(nats_platform):
    buses = [await nats_platform.bus("scheduler") for _ in range(8)]
    leases = [Lease(bus, "controller", str(i), ttl_s=3600.0) for i, bus in enumerate(buses)]
    waiting = [asyncio.create_task(lease.acquire()) for lease in leases]
    _, others = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.sleep(0.3)  # longer than a losing attempt takes
    assert [lease.held for lease in leases].count(True) == len([w for w in waiting if w.done()]) == 1
    for one in others:
        one.cancel()


async def test_a_command_is_answered_and_its_refusal_has_the_code(nats_platform):
    registry, agent = await nats_platform.bus("registry"), await nats_platform.bus("agent")

    async def issue(request: IssuePullToken) -> PullToken:
        if request.image == "nosuch":
            raise AwsError("RepositoryNotFoundException", "there is no nosuch")
        return PullToken(local=True, image=f"localhost:5000/{request.image}")

    await registry.serve(ISSUE_PULL_TOKEN, issue)
    ask = IssuePullToken(image="shop", account="1", region="r")
    assert await agent.call(ISSUE_PULL_TOKEN, ask) == PullToken(local=True, image="localhost:5000/shop")
    with pytest.raises(CommandRefused) as refused:
        await agent.call(ISSUE_PULL_TOKEN, IssuePullToken(image="nosuch", account="1", region="r"))
    assert (refused.value.code, refused.value.message) == ("RepositoryNotFoundException", "there is no nosuch")


async def test_each_change_is_one_log_line_with_the_ids_of_what_it_is_about(nats_platform):
    store = await Store.open(await nats_platform.bus("scheduler"), KINDS)
    with structlog.testing.capture_logs() as lines:
        await store.put(CLUSTER, cluster("main"), "cluster.created.v1", expect=0, trace=f"00-{'a' * 32}-{'b' * 16}-01")
        await store.update(CLUSTER, KEY, lambda old: old, "cluster.changed.v1")
        await store.delete(CLUSTER, KEY, "cluster.deleted.v1")
    ids = {"account": "000000000000", "region": "us-east-1", "cluster": "main", "trace_id": "a" * 32}
    assert lines == [
        {"event": "cluster.created.v1", "log_level": "info", **ids},
        {"event": "cluster.deleted.v1", "log_level": "info", **ids},
    ]
