"""A service's own state: one stream, an entity the newest message of its subject, a change one compare-and-set publish.

The rule is in architecture.md, "One write per change". A writer sees its own writes: a change is in the service's
tables before the call that made it returns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import structlog

from contracts.kinds import Key, Kind
from services.shared import telemetry
from services.shared.bus import Bus, Conflict, Fence
from services.shared.errors import StateUnavailable
from services.shared.views import DELETE_TTL_S, Change, Entry, Listener, Table, View

__all__ = ["Change", "Conflict", "Entry", "Store", "Table", "View"]

log = structlog.get_logger()

R = TypeVar("R", bound=msgspec.Struct)

ATTEMPTS = 16
_encode = msgspec.json.Encoder().encode


class Store:
    """The state of one service, read and written by it alone. Open it with `Store.open`."""

    def __init__(self, bus: Bus, view: View) -> None:
        self._bus = bus
        self._view = view
        self._doubtful: dict[tuple[str, Key], Kind[Any]] = {}

    @classmethod
    async def open(cls, bus: Bus, kinds: tuple[Kind[Any], ...], listen: Listener | None = None) -> Store:
        """Read all there is of these kinds; they must belong to the bus' service."""
        foreign = [kind for kind in kinds if kind.service != bus.service]
        if foreign:
            raise ValueError(f"{bus.service} does not own {foreign}")
        return cls(bus, await View.open(bus, *kinds, listen=listen))

    async def close(self) -> None:
        """Stop following."""
        await self._view.close()

    def table(self, kind: Kind[R]) -> Table[R]:
        """The records of one kind."""
        return self._view.table(kind)

    def listen(self, listener: Listener) -> None:
        """Be told of every change from now on, one's own included."""
        self._view.listen(listener)

    async def put(
        self,
        kind: Kind[R],
        record: R,
        event: str,
        *,
        expect: int | None = None,
        cause: str | None = None,
        trace: str | None = None,
        fence: Fence | None = None,
    ) -> Entry[R]:
        """Write a record. `expect` is the sequence it replaces: 0 for one that must be new, None for what the table
        shows. `event` is the domain event (`task.placed.v1`); `trace` the traceparent to hand on when there is no
        span now. With a `fence` the server looks at that alone: for records under a key that nobody else can have
        chosen. Raises Conflict, StateUnavailable."""
        key = kind.key_of(record)
        table = self.table(kind)
        entry = table.get(*key)
        if expect == 0 and entry is not None:
            raise Conflict(kind.subject(key))
        payload = _encode(record)
        if fence is not None:
            headers = {**self._headers(event, 0, cause, trace), **fence.headers()}
            return await self._publish(kind, key, record, payload, headers)
        try:
            return await self._publish(
                kind, key, record, payload, self._headers(event, expect or table.sequence(key), cause, trace)
            )
        except Conflict:
            # The server forgets a delete after its TTL, and a table may not know of one: read again before giving up.
            if entry is not None or await self.refresh(kind, key) is not None:
                raise
            return await self._publish(
                kind, key, record, payload, self._headers(event, table.sequence(key), cause, trace)
            )

    async def _publish(self, kind: Kind[R], key: Key, record: R, payload: bytes, headers: dict[str, str]) -> Entry[R]:
        sequence = await self._write(kind, key, payload, headers)
        written = Entry(record, sequence, headers.get("traceparent"))
        self._view.changed(self.table(kind).apply(key, written, sequence))
        _tell(kind, key, headers)
        return written

    async def _write(self, kind: Kind[Any], key: Key, payload: bytes, headers: dict[str, str]) -> int:
        sent = self._bus.connected.is_set()
        try:
            sequence = await self._bus.publish(kind.subject(key), payload, headers)
        except StateUnavailable:
            if sent:
                self._doubtful[kind.prefix, key] = kind  # stored or not, nobody said
            raise
        self._doubtful.pop((kind.prefix, key), None)
        return sequence

    async def settle(self) -> None:
        """Find out what became of writes that were not answered. Who decides anew after StateUnavailable settles first,
        or does once more what was done. Raises StateUnavailable."""
        for (prefix, key), kind in list(self._doubtful.items()):
            await self.refresh(kind, key)
            self._doubtful.pop((prefix, key), None)

    async def delete(
        self, kind: Kind[R], key: Key, event: str, *, expect: int | None = None, cause: str | None = None
    ) -> None:
        """Delete an entity; no error when there is none. Raises Conflict, StateUnavailable."""
        table = self.table(kind)
        entry = table.get(*key)
        if entry is None:
            return
        headers = self._headers(event, entry.sequence if expect is None else expect, cause, entry.trace)
        headers["Op"] = "delete"
        headers["Nats-Rollup"] = "sub"  # the versions before it, or they would be the newest when it has timed out
        headers["Nats-TTL"] = f"{DELETE_TTL_S}s"
        sequence = await self._write(kind, key, b"", headers)
        self._view.changed(table.apply(key, None, sequence))
        _tell(kind, key, headers)

    async def remove(self, kind: Kind[R], key: Key, event: str, *, cause: str | None = None) -> None:
        """Delete an entity whatever it has become: again from a fresh read when someone else was quicker. No error when
        there is none. Raises Conflict, StateUnavailable."""
        for _ in range(ATTEMPTS):
            try:
                return await self.delete(kind, key, event, cause=cause)
            except Conflict:
                await self.refresh(kind, key)
        raise Conflict(kind.subject(key))

    async def update(
        self,
        kind: Kind[R],
        key: Key,
        change: Callable[[R | None], R | None],
        event: str,
        *,
        cause: str | None = None,
        trace: str | None = None,
    ) -> R | None:
        """Read, change, compare-and-set; again from a fresh read when someone else was quicker.

        `change` gets the record (None when there is none) and returns the new one, or what it got (or None) to leave
        things as they are. It may raise. It may be called several times.
        """
        for _ in range(ATTEMPTS):
            entry = self.table(kind).get(*key)
            old = entry.record if entry else None
            new = change(old)
            if new is None or new is old:
                return old
            try:
                expect = entry.sequence if entry else 0
                return (await self.put(kind, new, event, expect=expect, cause=cause, trace=trace)).record
            except Conflict:
                await self.refresh(kind, key)
        raise Conflict(kind.subject(key))

    async def refresh(self, kind: Kind[R], key: Key) -> Entry[R] | None:
        """Read one entity from the server into the table."""
        message = await self._bus.request(f"$JS.API.DIRECT.GET.{kind.stream}.{kind.subject(key)}")
        sequence = (message.headers or {}).get("Nats-Sequence")
        if sequence is not None:
            self._view.apply(kind.subject(key), message.data, message.headers, int(sequence))
        else:
            self._view.changed(self.table(kind).forget(key))
        return self.table(kind).get(*key)

    def _headers(self, event: str, expect: int, cause: str | None, trace: str | None) -> dict[str, str]:
        headers = {"Nats-Expected-Last-Subject-Sequence": str(expect), "Event": event}
        if cause:
            headers["Cause"] = cause
        telemetry.inject(headers)
        if trace and "traceparent" not in headers:
            headers["traceparent"] = trace
        return headers


def _tell(kind: Kind[Any], key: Key, headers: dict[str, str]) -> None:
    """One log line a change, with the ids of what it is about: what `roadstead logs` shows of a service's work."""
    own = "service_name" if kind.name == "service" else kind.name  # `service` is who writes the line
    about = {own if f in ("id", "name") else f: value for f, value in zip(kind.key_fields, key, strict=True)}
    if trace := headers.get("traceparent"):
        about["trace_id"] = trace.split("-")[1]
    log.info(headers["Event"], **about)


async def fetch_entry(bus: Bus, kind: Kind[R], key: Key) -> tuple[int, R | None]:
    """The last sequence of a key on the server (0 for none) and its record, None when it was deleted."""
    message = await bus.request(f"$JS.API.DIRECT.GET.{kind.stream}.{kind.subject(key)}")
    headers = message.headers or {}
    sequence = int(headers.get("Nats-Sequence", 0))
    if not sequence or headers.get("Op") == "delete":
        return sequence, None
    return sequence, kind.decoder.decode(message.data)


async def fetch(bus: Bus, kind: Kind[R], key: Key) -> R | None:
    """One record of another service, read from the server now (a direct get)."""
    return (await fetch_entry(bus, kind, key))[1]
