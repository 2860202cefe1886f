"""Leases: at most one holder of a name at a time. A controller that must be single per shard holds one.

A lease is an entity of the service's own state, `state.<service>.lease.<name>`, taken by compare-and-set, renewed by
its holder and lost when it was not renewed for its time to live. Its sequence grows with each new holder and fences
the holder's writes: what an older holder still tries can be told by its smaller number.
"""

from __future__ import annotations

import asyncio
import contextlib

import msgspec
import structlog

from contracts.kinds import Kind
from services.shared.bus import Bus, Conflict
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


def lease_kind(service: str) -> Kind[LeaseRecord]:
    """The kind under which a service's leases lie."""
    return Kind(service, "lease", LeaseRecord, ("name",))


class Lease:
    """Wanting to hold one name. `held` says whether it is so now; `fence` is the term's number."""

    def __init__(self, bus: Bus, name: str, holder: str, *, ttl_s: float = TTL_S, clock: Clock = system_clock) -> None:
        self._bus = bus
        self._kind = lease_kind(bus.service)
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
        sequence, current = await fetch_entry(self._bus, self._kind, (self._name,))
        mine = current is not None and current.holder == self._holder
        if current is not None and not mine and current.holder and current.expires_at > now:
            return False
        fence = self.fence if mine and self.fence else (current.fence if current else 0) + 1
        self._sequence = sequence
        try:
            await self._write(
                LeaseRecord(name=self._name, holder=self._holder, expires_at=now + self._ttl, fence=fence)
            )
        except Conflict:
            return False
        self.fence = fence
        self._expires_at = now + self._ttl
        return True

    async def _write(self, record: LeaseRecord) -> None:
        headers = {"Nats-Expected-Last-Subject-Sequence": str(self._sequence), "Event": "lease.taken.v1"}
        subject = self._kind.subject((self._name,))
        self._sequence = await self._bus.publish(subject, msgspec.json.encode(record), headers)
