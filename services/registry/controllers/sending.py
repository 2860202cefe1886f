"""Sends what is replicated to other installations: a line each, so that one that is away holds up no other. What is to
be deleted there waits in them too; what is to be deleted here has a line of its own."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import structlog

from contracts.records.registry import IMAGE, IMAGE_REPLICATION, IMAGE_TAG, PEER, Image, Peer
from services.registry.decisions.names import RepositoryId
from services.registry.decisions.peers import Standing, wait_s
from services.registry.handlers.replication import Replication
from services.registry.handlers.sending import Sending
from services.shared.clock import Clock
from services.shared.errors import StateUnavailable
from services.shared.state import Change, Conflict, Store
from services.shared.waiting import woken

log = structlog.get_logger()

HERE = ""
"""The line of what is to be deleted at this installation."""


class Work(NamedTuple):
    """An image that is to be somewhere."""

    source: RepositoryId
    target: RepositoryId
    digest: str


class _Line:
    """What waits for one installation. When it fails, whatever was tried goes to the end, and all wait for a while."""

    def __init__(self, sending: Sending, clock: Clock) -> None:
        self._sending = sending
        self._clock = clock
        self._waiting: dict[Work, None] = {}
        self._wake = asyncio.Event()
        self._poked = asyncio.Event()
        self._error = ""
        self._reached_at = 0.0
        self.task: asyncio.Task[None] | None = None

    def add(self, work: Work) -> None:
        self._waiting[work] = None
        self._wake.set()

    def poke(self) -> None:
        """Try at once."""
        self._poked.set()

    def standing(self) -> Standing:
        return Standing(len(self._waiting), self._error, self._reached_at)

    async def run(self) -> None:
        failures = 0
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                work = next(iter(self._waiting))
                failures = await self._try(work, failures)
                if failures:
                    self._poked.clear()
                    await woken(self._poked, wait_s(failures))

    async def _try(self, work: Work, failures: int) -> int:
        """How often in a row it failed now."""
        # It is out of the line while it is sent, so that a tag that moves meanwhile puts it there again.
        marked = self._waiting.pop(work)
        try:
            await self._sending.send(*work)
        except (StateUnavailable, Conflict) as error:
            self._error = str(error)
            self._waiting.setdefault(work, marked)
            log.warning("replication.waits", target=work.target.arn, image=work.digest, error=str(error))
            return failures + 1
        except Exception:
            log.exception("replication.broken", target=work.target.arn, image=work.digest)
            self._error = f"{work.digest} can't be sent: see the registry's log"
            return 0
        self._error, self._reached_at = "", self._clock()
        return 0


class SendingController:
    """`heard` is a listener of the store; `run` works until cancelled."""

    def __init__(self, sending: Sending, replication: Replication, store: Store, clock: Clock) -> None:
        self._sending = sending
        self._replication = replication
        self._images, self._peers = store.table(IMAGE), store.table(PEER)
        self._brought = store.table(IMAGE_REPLICATION)
        self._clock = clock
        self._lines: dict[str, _Line] = {}
        self._changed = asyncio.Event()
        self._changed.set()

    def heard(self, change: Change) -> None:
        """An image was pushed, tagged, untagged or deleted, or an installation is known anew."""
        if change.kind is PEER:
            self._changed.set()
            return
        if change.kind not in (IMAGE, IMAGE_TAG) or not (len(self._peers) or len(self._brought)):
            return
        lost = change.old if change.new is None or change.kind is IMAGE_TAG else None
        if lost is not None:
            self._add(self._sending.recorded((*change.key[:3], lost.record.digest)))
        if change.new is not None and (change.kind is IMAGE_TAG or not change.old):
            image = self._images.record(*change.key[:3], change.new.record.digest)
            if image is not None:
                source = RepositoryId(*change.key[:3])
                for each in (image, *self._sending.indexes_of(source, image.digest)):
                    self._mark(each)

    def standing(self, peer: Peer) -> Standing:
        """How it goes with one."""
        line = self._lines.get(peer.name)
        return line.standing() if line is not None else Standing()

    def waiting(self) -> dict[tuple[str, ...], float]:
        """How many images wait, by installation."""
        return {(name,): float(line.standing().waiting) for name, line in self._lines.items() if name != HERE}

    def poke(self, peer: Peer) -> None:
        """What waits for one is to be tried at once."""
        if peer.name in self._lines:
            self._lines[peer.name].poke()

    def _mark(self, image: Image) -> None:
        source = RepositoryId(image.account, image.region, image.repository)
        for target in self._replication.targets(source, image):
            if self._sending.peer_of(target) is not None:
                self._add([(source, target, image.digest)])

    def _add(self, works: list[tuple[RepositoryId, RepositoryId, str]]) -> None:
        for work in works:
            peer = self._sending.peer_of(work[1])
            line = self._lines.get(peer.name if peer is not None else HERE)
            if line is not None and self._sending.is_due(*work):
                line.add(Work(*work))

    async def run(self) -> None:
        """Bring the lines to what is known of installations, whenever that changes."""
        try:
            await self._follow()
        finally:
            await asyncio.gather(*(self._end(name) for name in list(self._lines)))

    async def _follow(self) -> None:
        known: list[Peer] | None = None
        while True:
            await self._changed.wait()
            self._changed.clear()
            peers = sorted(self._peers.records(), key=lambda peer: peer.name)
            if peers != known:
                await self._reconcile(peers)
                known = peers

    async def _reconcile(self, peers: list[Peer]) -> None:
        names = {HERE, *(peer.name for peer in peers)}
        for name in self._lines.keys() - names:
            await self._end(name)
        for name in names - self._lines.keys():
            line = self._lines[name] = _Line(self._sending, self._clock)
            line.task = asyncio.get_running_loop().create_task(line.run())
        for line in self._lines.values():
            line.poke()
        self._add(self._sending.recorded())
        if peers:
            for image in self._images.records():
                self._mark(image)

    async def _end(self, name: str) -> None:
        task = self._lines.pop(name).task
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
