"""Webhooks made and removed, and what they are told."""

from __future__ import annotations

import base64
import os
import secrets
from collections import defaultdict

import msgspec
import structlog
from msgspec.structs import replace
from nats.aio.msg import Msg

from contracts.records.events import WEBHOOK, Webhook
from services.events.decisions import deliveries, patterns
from services.events.decisions.deliveries import Rules
from services.events.decisions.requests import NewWebhook
from services.events.ports import Answer, Targets
from services.shared import telemetry
from services.shared.clock import Clock
from services.shared.consumers import ACK, TERMINATE, Delivery, again_after
from services.shared.metrics import Metrics
from services.shared.sealing import CannotOpen, Vault
from services.shared.state import Store

log = structlog.get_logger()

SECRET_BYTES = 32


class Tally(msgspec.Struct, frozen=True):
    """What became of a webhook's deliveries since this process began. `last_error` is empty when the last one went
    well."""

    delivered: int = 0
    failed: int = 0
    given_up: int = 0
    last_error: str = ""


class Webhooks:
    """Makes and removes webhooks, one write each."""

    def __init__(self, store: Store, vault: Vault, clock: Clock) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock

    async def add(self, wanted: NewWebhook) -> tuple[Webhook, str]:
        """A new webhook, told of what happens from now on, and its secret. Raises Conflict when the name is taken."""
        secret = deliveries.read_secret(wanted.secret) if wanted.secret else os.urandom(SECRET_BYTES)
        identity = secrets.token_hex(8)
        webhook = Webhook(
            account=wanted.account,
            region=wanted.region,
            name=wanted.name,
            id=identity,
            url=wanted.url,
            secret=base64.b64encode(self._vault.seal(secret, identity)).decode(),
            created_at=self._clock(),
            pattern=wanted.pattern,
        )
        await self._store.put(WEBHOOK, webhook, "webhook.created.v1", expect=0)
        return webhook, deliveries.write_secret(secret)

    async def remove(self, account: str, region: str, name: str) -> Webhook | None:
        """Forget a webhook: what it was, None when there is none."""
        webhook = self._store.table(WEBHOOK).record(account, region, name)
        if webhook is not None:
            await self._store.delete(WEBHOOK, WEBHOOK.key_of(webhook), "webhook.deleted.v1")
        return webhook


class Courier:
    """Brings events to webhooks: at least once, the same `webhook-id` each time."""

    def __init__(self, vault: Vault, targets: Targets, rules: Rules, clock: Clock, metrics: Metrics) -> None:
        self._vault = vault
        self._targets = targets
        self._rules = rules
        self._clock = clock
        self._counted = metrics.counter(
            "webhook_deliveries_total", "Attempts to tell a webhook of an event", ("webhook", "outcome")
        )
        self.tallies: defaultdict[str, Tally] = defaultdict(Tally)

    async def take(self, webhook: Webhook, message: Msg) -> bytes:
        """Tell a webhook of an event that it wants to know of; how the message is acknowledged."""
        event = msgspec.json.decode(message.data)
        if not patterns.matches(webhook.pattern, event):
            return ACK
        delivery = Delivery.of(message)
        about = {"webhook": webhook.name, "event_id": event["id"], "attempt": delivery.attempt}
        with telemetry.received("deliver webhook", message.headers, kind="PRODUCER", **about):
            answer = await self._post(webhook, event["id"], message.data)
        if deliveries.delivered(answer.status):
            self._count(webhook, "delivered")
            return ACK
        why = answer.why or f"it answered {answer.status}"
        wait = deliveries.wait(self._rules, delivery.attempt, self._clock() - delivery.at)
        if wait is not None:
            log.warning("webhook.failed", **about, why=why, again_in_s=wait)
            self._count(webhook, "failed", why)
            return again_after(wait)
        # What was not told is still in the stream, under this sequence, until it ages out.
        log.error("webhook.given_up", **about, why=why, stream_sequence=delivery.sequence, subject=message.subject)
        self._count(webhook, "given_up", why)
        return TERMINATE

    async def _post(self, webhook: Webhook, event_id: str, body: bytes) -> Answer:
        try:
            secret = self._vault.unseal(base64.b64decode(webhook.secret), webhook.id)
        except CannotOpen:
            return Answer(None, "its secret was sealed with a key that is not here")
        headers = deliveries.headers(secret, event_id, body, self._clock())
        telemetry.inject(headers)
        return await self._targets.post(webhook.url, body, headers)

    def _count(self, webhook: Webhook, outcome: str, why: str = "") -> None:
        self._counted.labels(webhook.name, outcome).inc()
        tally = self.tallies[webhook.id]
        self.tallies[webhook.id] = replace(tally, **{outcome: getattr(tally, outcome) + 1}, last_error=why)
