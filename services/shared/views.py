"""The present, in memory: a service's own records and those it may read of others, kept up to date by NATS.

A view is level-triggered: it starts with what is, then follows. It remembers the stream sequence it has reached and
resumes from there when the connection comes back, when a message is missing, or when the heartbeat stays away, so a
restart of NATS costs nothing but the time it takes (nats-py's own watcher goes silent for 17 s in that case).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import msgspec
import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from contracts.kinds import Key, Kind
from services.shared.bus import ApiError, Bus
from services.shared.errors import StateUnavailable
from services.shared.waiting import within, woken

log = structlog.get_logger()

R = TypeVar("R", bound=msgspec.Struct)

HEARTBEAT_S = 5.0
DELETE_TTL_S = 3600
"""How long a delete stays readable for those who were away; away for longer, a view reads everything anew."""

REMEMBERED_DELETES = 20_000


class Entry(NamedTuple, Generic[R]):  # type: ignore[misc]
    """A record with the sequence of the message that holds it and the trace that wrote it (a traceparent)."""

    record: R
    sequence: int
    trace: str | None


class Change(NamedTuple):
    """What a listener is told: `new` is None for a delete, `old` for a creation."""

    kind: Kind[Any]
    key: Key
    old: Entry[Any] | None
    new: Entry[Any] | None


class Table(Generic[R]):
    """The records of one kind. Reading it is reading memory."""

    def __init__(self, kind: Kind[R]) -> None:
        self.kind = kind
        self._entries: dict[Key, Entry[R]] = {}
        self._deleted: dict[Key, int] = {}
        self._by_prefix: dict[Key, dict[Key, Entry[R]]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, *key: str) -> Entry[R] | None:
        """The entity with this whole key."""
        return self._entries.get(key)

    def record(self, *key: str) -> R | None:
        """The record alone."""
        entry = self._entries.get(key)
        return entry.record if entry is not None else None

    def entries(self, *prefix: str) -> Iterator[Entry[R]]:
        """The entities whose key begins with these fields; a snapshot, in no order."""
        if not prefix:
            return iter(list(self._entries.values()))
        return iter(list(self._by_prefix.get(prefix, {}).values()))

    def records(self, *prefix: str) -> list[R]:
        """Their records."""
        return [entry.record for entry in self.entries(*prefix)]

    def sequence(self, key: Key) -> int:
        """What a compare-and-set on this key has to expect: the last sequence, also of a delete; 0 for none."""
        entry = self._entries.get(key)
        return entry.sequence if entry is not None else self._deleted.get(key, 0)

    def apply(self, key: Key, entry: Entry[R] | None, sequence: int) -> Change | None:
        """Take in a message unless something newer is here. The change it made, if any."""
        if sequence <= self.sequence(key):
            return None
        if entry is None:
            self._deleted[key] = sequence
            if len(self._deleted) > REMEMBERED_DELETES:
                del self._deleted[next(iter(self._deleted))]
            return self._remove(key)
        old = self._entries.get(key)
        self._deleted.pop(key, None)
        self._entries[key] = entry
        for size in range(1, len(key)):
            self._by_prefix.setdefault(key[:size], {})[key] = entry
        return Change(self.kind, key, old, entry)

    def forget(self, key: Key) -> Change | None:
        """The server has nothing on this key, not even a delete."""
        self._deleted.pop(key, None)
        return self._remove(key)

    def _remove(self, key: Key) -> Change | None:
        old = self._entries.pop(key, None)
        if old is None:
            return None
        for size in range(1, len(key)):
            group = self._by_prefix[key[:size]]
            del group[key]
            if not group:
                del self._by_prefix[key[:size]]
        return Change(self.kind, key, old, None)

    def all_keys(self) -> list[Key]:
        """All keys."""
        return list(self._entries)


Listener = Callable[[Change], None]


class Followed(Protocol):
    """What a follower brings up to date: it is told every message of its stream and filter, in order. `reads` is NATS'
    word for which of those that are there it is told of at first: all, or last_per_subject."""

    stream: str
    reads: str
    _bus: Bus

    def apply(self, subject: str, data: bytes, headers: dict[str, str] | None, sequence: int) -> None:
        """A message."""

    def forget_missing(self, filter_subject: str, seen: set[str], upto: int) -> None:
        """After a reading from the beginning, up to a sequence: these subjects were there, no others are."""


class View:
    """Tables of some kinds of ONE stream, kept up to date. Open it with `View.open`.

    `filters` narrow a kind (`kind.filter(node="n1")`); without, all of the kind. Listeners are called in the event
    loop, at once and in order, and must not block: they mark what is to be looked at again.
    """

    reads = "last_per_subject"
    """What was before an entity's newest version is not of the present."""

    def __init__(self, bus: Bus, kinds: tuple[Kind[Any], ...], filters: tuple[str, ...] = ()) -> None:
        streams = {kind.stream for kind in kinds}
        if len(streams) != 1:
            raise ValueError(f"a view reads one stream, not {sorted(streams)}")
        self.stream = streams.pop()
        self._bus = bus
        self._tables: dict[str, Table[Any]] = {kind.prefix: Table(kind) for kind in kinds}
        self._filters = filters or tuple(f"{kind.prefix}.>" for kind in kinds)
        self._listeners: list[Listener] = []
        self._followers: list[Follower] = []
        self.ready = False

    @classmethod
    async def open(
        cls, bus: Bus, *kinds: Kind[Any], filters: tuple[str, ...] = (), listen: Listener | None = None
    ) -> View:
        """A view that has read all there is. Raises StateUnavailable when the stream does not answer."""
        view = cls(bus, kinds, filters)
        if listen is not None:
            view.listen(listen)
        view._followers = [Follower(view, f) for f in view._filters]
        await asyncio.gather(*(follower.start() for follower in view._followers))
        view.ready = True
        return view

    async def close(self) -> None:
        """Stop following."""
        for follower in self._followers:
            await follower.stop()

    def table(self, kind: Kind[R]) -> Table[R]:
        """The table of one of its kinds."""
        return self._tables[kind.prefix]

    def listen(self, listener: Listener) -> None:
        """Be told of every change from now on."""
        self._listeners.append(listener)

    def apply(self, subject: str, data: bytes, headers: dict[str, str] | None, sequence: int) -> None:
        """Take in one message of the stream."""
        table = self._tables.get(".".join(subject.split(".", 3)[:3]))
        if table is None:
            return
        key = table.kind.key_from(subject)
        if sequence <= table.sequence(key):
            return  # a writer's own change comes back from the stream: it is here already
        entry: Entry[Any] | None = None
        if not (headers and headers.get("Op") == "delete"):
            try:
                record = table.kind.decoder.decode(data)
            except msgspec.MsgspecError as error:
                log.error("view.unreadable", subject=subject, sequence=sequence, error=str(error))
                return
            entry = Entry(record, sequence, headers.get("traceparent") if headers else None)
        self.changed(table.apply(key, entry, sequence))

    def changed(self, change: Change | None) -> None:
        """Tell the listeners."""
        if change is None:
            return
        for listener in self._listeners:
            try:
                listener(change)
            except Exception:
                log.exception("view.listener_failed", kind=repr(change.kind), key=change.key)

    def forget_missing(self, filter_subject: str, seen: set[str], upto: int) -> None:
        """After a reading from the beginning: what was not there any more has been deleted."""
        for table in self._tables.values():
            for key in table.all_keys():
                subject = table.kind.subject(key)
                if matches(filter_subject, subject) and subject not in seen and table.sequence(key) <= upto:
                    self.changed(table.apply(key, None, upto + 1))


def matches(pattern: str, subject: str) -> bool:
    """Whether a subject matches a NATS filter (`*` one token, `>` the rest)."""
    wanted, given = pattern.split("."), subject.split(".")
    for i, token in enumerate(wanted):
        if token == ">":
            return len(given) > i
        if i >= len(given) or token not in ("*", given[i]):
            return False
    return len(wanted) == len(given)


class Follower:
    """Follows one filter of a stream with an ephemeral push consumer that it makes anew whenever it may have missed
    something."""

    def __init__(self, view: Followed, filter_subject: str, reached: int = 0) -> None:
        self._view = view
        self._bus = view._bus
        self._filter = filter_subject
        self._reached = reached
        self._expected = 1
        self._heard = 0.0
        self._generation = 0
        self._subscription: Subscription | None = None
        self._consumer = ""
        self._caught_up = asyncio.Event()
        self._wake = asyncio.Event()
        self._seen: set[str] | None = None
        self._target = 0

    async def start(self) -> None:
        await self._resume(from_start=not self._reached)
        await within(60, self._caught_up.wait())
        self._bus.on_reconnect(self._wake.set)
        self._task = self._bus.spawn(self._watch(), f"view.{self._filter}")

    async def stop(self) -> None:
        self._bus.forget_listener(self._wake.set)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._drop()

    async def _drop(self) -> None:
        self._generation += 1
        if self._subscription is not None:
            with contextlib.suppress(nats.errors.Error):
                await self._subscription.unsubscribe()
            self._subscription = None
            if self._consumer and not self._bus.node:  # an external node may not; they end by themselves when idle
                with contextlib.suppress(StateUnavailable, ApiError):
                    await self._bus.api(f"CONSUMER.DELETE.{self._view.stream}.{self._consumer}")
                self._consumer = ""

    async def _resume(self, from_start: bool = False) -> None:
        await self._drop()
        generation = self._generation
        state = (await self._bus.api(f"STREAM.INFO.{self._view.stream}"))["state"]
        from_start = from_start or state["last_seq"] < self._reached
        self._seen, self._target = (set(), state["last_seq"]) if from_start else (None, 0)
        inbox = self._bus.client.new_inbox()

        async def heard(message: Msg) -> None:
            if generation == self._generation:
                self._on_message(message)

        self._subscription = await self._bus.client.subscribe(
            inbox, cb=heard, pending_msgs_limit=0, pending_bytes_limit=0
        )
        self._expected = 1
        name = f"v{self._bus.service}-{inbox.rsplit('.', 1)[1]}"
        start = (
            {"deliver_policy": self._view.reads}
            if from_start
            else {"deliver_policy": "by_start_sequence", "opt_start_seq": self._reached + 1}
        )
        config = {
            "name": name,
            "deliver_subject": inbox,
            "filter_subject": self._filter,
            "ack_policy": "none",
            "replay_policy": "instant",
            "max_deliver": 1,
            "mem_storage": True,
            "num_replicas": 1,
            "flow_control": True,
            "idle_heartbeat": int(HEARTBEAT_S * 1e9),
            "inactive_threshold": int(30e9),
            **start,
        }
        self._heard = asyncio.get_running_loop().time()
        answer = await self._bus.api(
            f"CONSUMER.CREATE.{self._view.stream}.{name}.{self._filter}",
            {"stream_name": self._view.stream, "config": config, "action": "create"},
        )
        self._consumer = name
        if not answer.get("num_pending"):
            self._finish_reading(max(self._reached, state["last_seq"] if from_start else 0))

    def _on_message(self, message: Msg) -> None:
        self._heard = asyncio.get_running_loop().time()
        headers = message.headers
        if headers and "Status" in headers and not message.data:
            if message.reply and headers.get("Description") == "FlowControl Request":
                self._bus.spawn(self._bus.tell(message.reply), "flow")
            elif headers.get("Nats-Consumer-Stalled"):
                self._bus.spawn(self._bus.tell(headers["Nats-Consumer-Stalled"]), "flow")
            return
        tokens = message.reply.split(".")
        sequence, delivered, pending = int(tokens[-4]), int(tokens[-3]), int(tokens[-1])
        if delivered != self._expected:
            self._generation += 1
            self._wake.set()
            return
        self._expected += 1
        self._bus.waiting[self._filter] = pending
        self._view.apply(message.subject, message.data, headers, sequence)
        self._reached = max(self._reached, sequence)
        if self._seen is not None:
            self._seen.add(message.subject)
        if pending == 0:
            self._finish_reading(self._reached)

    def _finish_reading(self, upto: int) -> None:
        self._reached = max(self._reached, upto)
        if self._seen is not None:
            seen, self._seen = self._seen, None
            self._view.forget_missing(self._filter, seen, self._target)
        self._caught_up.set()

    async def _watch(self) -> None:
        """Resume when woken (a reconnect, a gap) or when the consumer has gone silent."""
        loop = asyncio.get_running_loop()
        while True:
            await woken(self._wake, HEARTBEAT_S)
            silent_for = loop.time() - self._heard
            if not self._wake.is_set() and silent_for < 2.5 * HEARTBEAT_S:
                continue
            if not self._bus.connected.is_set():
                continue
            self._wake.clear()
            try:
                await self._resume(from_start=silent_for > DELETE_TTL_S / 2 or self._seen is not None)
            except (StateUnavailable, ApiError) as error:
                log.warning("view.resume_failed", stream=self._view.stream, error=str(error))
                self._wake.set()
                await asyncio.sleep(0.2)
