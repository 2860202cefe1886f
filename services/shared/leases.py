"""Leases: at most one holder of a name at a time. A controller that must be single per shard holds one.

A lease is an entity of the service's own state, `state.<service>.lease.<name>`, taken by compare-and-set, renewed by
its holder and lost when it was not renewed for its time to live.

No look at a clock keeps a holder from acting late: it may stall between the look and the write. So each term begins
with one more record, `state.<service>.term.<name>`, and a write that must not be done by two holders carries a `Fence`:
the server takes it only while that record is the newest of its subject. What an older holder still has under way is
refused there as a Conflict.
"""

from __future__ import annotations

import asyncio
import contextlib

import msgspec
import structlog

from contracts.kinds import Kind
from services.shared.bus import Bus, Conflict, Fence
from services.shared.clock import Clock, system_clock
from services.shared.errors import StateUnavailable
from services.shared.state import fetch_entry

log = structlog.get_logger()

TTL_S = 10.0


class LeaseRecord(msgspec.Struct, kw_only=True, frozen=True):
    """Who holds it until when. `fence` is the number of the holder's term."""

    name: str
    holder: str
    expires_at: float
    fence: int


class TermRecord(msgspec.Struct, kw_only=True, frozen=True):
    """Whose term it is since when, by the number of the term."""

    name: str
    holder: str
    began_at: float
    fence: int


def lease_kind(service: str) -> Kind[LeaseRecord]:
    """The kind under which a service's leases lie."""
    return Kind(service, "lease", LeaseRecord, ("name",))


def term_kind(service: str) -> Kind[TermRecord]:
    """The kind under which the terms of a service's leases lie."""
    return Kind(service, "term", TermRecord, ("name",))


class Lease:
    """Wanting to hold one name. `held` says whether it is so now; `fence` is the term's number."""

    def __init__(self, bus: Bus, name: str, holder: str, *, ttl_s: float = TTL_S, clock: Clock = system_clock) -> None:
        self._bus = bus
        self._kind = lease_kind(bus.service)
        self._term_kind = term_kind(bus.service)
        self._term = 0
        self._name = name
        self._holder = holder
        self._ttl = ttl_s
        self._clock = clock
        self._sequence = 0
        self._expires_at = 0.0
        self._changed = asyncio.Event()
        self.fence = 0

    @property
    def held(self) -> bool:
        """Whether this holder has it, by its own clock; it lets go before others may take it."""
        return self.fence > 0 and self._clock() < self._expires_at - self._ttl * 0.1

    @property
    def writes(self) -> Fence | None:
        """What the holder's writes carry, so that none is taken once another's term has begun; None when not held."""
        return Fence(self._term_kind.subject((self._name,)), self._term) if self.held else None

    async def acquire(self) -> None:
        """Return when it is held. A holder of the same name (itself, restarted) is followed at once."""
        while not await self._try():  # noqa: ASYNC110
            await asyncio.sleep(
                min(1.0, self._ttl / 4)
            )  # another's lease ends by the clock, there is no event to wait on

    async def keep(self) -> None:
        """Renew it until cancelled; returns when it was lost."""
        while True:
            await asyncio.sleep(self._ttl / 3)
            try:
                if not await self._try():
                    log.warning("lease.lost", lease=self._name)
                    self.fence = 0
                    return
            except StateUnavailable:
                if not self.held:
                    self.fence = 0
                    return

    async def release(self) -> None:
        """Give it up, so that another may have it at once."""
        if self.fence:
            with contextlib.suppress(StateUnavailable, Conflict):
                await self._write(LeaseRecord(name=self._name, holder="", expires_at=0.0, fence=self.fence))
        self.fence = 0

    async def _try(self) -> bool:
        now = self._clock()
        # Before the lease: a term that another begins from here on is found by the compare-and-set of this one's.
        term = (await fetch_entry(self._bus, self._term_kind, (self._name,)))[0] if not self.fence else 0
        sequence, current = await fetch_entry(self._bus, self._kind, (self._name,))
        mine = current is not None and current.holder == self._holder
        if current is not None and not mine and current.holder and current.expires_at > now:
            return False
        begins = not (mine and self.fence)
        if begins and self.fence:
            return False  # it was another's meanwhile: this term is over
        fence = (current.fence if current else 0) + 1 if begins else self.fence
        self._sequence = sequence
        try:
            await self._write(
                LeaseRecord(name=self._name, holder=self._holder, expires_at=now + self._ttl, fence=fence)
            )
            if begins:
                await self._begin(TermRecord(name=self._name, holder=self._holder, began_at=now, fence=fence), term)
        except Conflict:
            return False
        self.fence = fence
        self._expires_at = now + self._ttl
        return True

    async def _begin(self, record: TermRecord, expect: int) -> None:
        headers = {"Nats-Expected-Last-Subject-Sequence": str(expect), "Event": "term.began.v1"}
        subject = self._term_kind.subject((self._name,))
        self._term = await self._bus.publish(subject, msgspec.json.encode(record), headers)

    async def _write(self, record: LeaseRecord) -> None:
        headers = {"Nats-Expected-Last-Subject-Sequence": str(self._sequence), "Event": "lease.taken.v1"}
        subject = self._kind.subject((self._name,))
        self._sequence = await self._bus.publish(subject, msgspec.json.encode(record), headers)
