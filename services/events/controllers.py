"""Keeps a durable consumer of AWS_EVENTS for each webhook, and follows it.

How far a webhook was told is the consumer's: it outlives this process, several copies of the service share it, and a
target that is away holds up nobody else's.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime

import structlog

from contracts.records.events import WEBHOOK, Webhook
from contracts.streams import AWS_EVENTS_AGE_S
from contracts.subjects import AWS_EVENTS_STREAM, aws_event
from services.events.handlers import Courier
from services.shared.bus import ApiError, Bus
from services.shared.consumers import Puller
from services.shared.errors import StateUnavailable
from services.shared.state import Change, Store
from services.shared.waiting import woken

log = structlog.get_logger()

RETRY_S = 0.5
_NS = 1_000_000_000


def consumer_name(webhook: Webhook) -> str:
    """The name of a webhook's consumer."""
    return f"webhook-{webhook.id}"


class Deliverers:
    """A follower for each webhook there is, none for those that are gone."""

    def __init__(self, bus: Bus, store: Store, courier: Courier, *, at_once: int, timeout_s: float) -> None:
        self._bus = bus
        self._store = store
        self._courier = courier
        self._at_once = at_once
        # One may wait for its turn as long as another takes; nobody else is given it meanwhile.
        self._ack_wait_s = 2 * timeout_s + 10
        self._running: dict[str, tuple[Webhook, Puller]] = {}
        self._wake = asyncio.Event()

    def heard(self, change: Change) -> None:
        """A webhook came or went."""
        if change.kind is WEBHOOK:
            self._wake.set()

    async def run(self) -> None:
        """Bring what runs to what is wanted, whenever that changes."""
        try:
            while True:
                self._wake.clear()
                delay = None
                try:
                    await self._reconcile()
                except (StateUnavailable, ApiError) as error:
                    log.warning("webhooks.not_followed", error=str(error))
                    delay = RETRY_S
                await woken(self._wake, delay)
        finally:
            await asyncio.gather(*(puller.stop() for _, puller in self._running.values()))

    async def _reconcile(self) -> None:
        wanted = {webhook.id: webhook for webhook in self._store.table(WEBHOOK).records()}
        for identity in self._running.keys() - wanted.keys():
            webhook, puller = self._running[identity]
            await puller.stop()
            with contextlib.suppress(ApiError):  # another copy of this service was quicker
                await self._bus.api(f"CONSUMER.DELETE.{AWS_EVENTS_STREAM}.{consumer_name(webhook)}")
            del self._running[identity]
        for identity in wanted.keys() - self._running.keys():
            puller = self._puller(wanted[identity])
            await puller.start()
            self._running[identity] = wanted[identity], puller

    def _puller(self, webhook: Webhook) -> Puller:
        began = datetime.fromtimestamp(webhook.created_at, UTC)
        return Puller(
            self._bus,
            AWS_EVENTS_STREAM,
            consumer_name(webhook),
            lambda message: self._courier.take(webhook, message),
            at_once=self._at_once,
            ack_wait=int(self._ack_wait_s * _NS),
            filter_subject=aws_event(webhook.account, webhook.region),
            deliver_policy="by_start_time",
            opt_start_time=began.isoformat().replace("+00:00", "Z"),
            # One whose webhook was removed while nobody could say so goes when the events are gone that it waits for.
            inactive_threshold=AWS_EVENTS_AGE_S * _NS,
        )

    async def waiting(self, webhook: Webhook) -> int:
        """How many events are still to be told or passed over. Raises StateUnavailable."""
        try:
            info = await self._bus.api(f"CONSUMER.INFO.{AWS_EVENTS_STREAM}.{consumer_name(webhook)}")
        except ApiError:
            return 0
        return int(info["num_pending"]) + int(info["num_ack_pending"])
