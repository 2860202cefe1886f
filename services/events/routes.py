"""The events service's own door: webhooks, and the events themselves as lines. For a person of this machine.

Reading is open to whoever reaches the port, as it is with the other services. What changes something takes the key that
lies in the service's directory.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from contracts.records.events import WEBHOOK, Webhook
from contracts.subjects import AWS_EVENTS_STREAM, aws_event
from services.events.decisions import patterns, requests
from services.events.handlers import Courier, Webhooks
from services.shared.bus import Bus
from services.shared.door_key import KeyedDoor
from services.shared.errors import AwsError
from services.shared.http import Query, Route, answer, bind, problem
from services.shared.state import Conflict, Store
from services.shared.tails import Tail
from services.shared.waiting import within

LOOK_BACK = 4096
"""Events that are looked at for the last ones that match."""
MOST_LINES = 1000
LOOK_S = 5.0
"""How often a reader who hears nothing is looked at, whether it is still there."""
MOST_WAITING = 10_000
"""Events that wait for a reader who is slow; then its answer ends."""


class WebhookView(msgspec.Struct, kw_only=True, frozen=True):
    """A webhook, and how it fares: events `waiting` to be told or passed over, and since the service began how many
    deliveries went well, failed, and were given up. `secret` is told once, to who makes it."""

    account: str
    region: str
    name: str
    url: str
    pattern: dict[str, Any]
    created_at: float
    waiting: int = 0
    delivered: int = 0
    failed: int = 0
    given_up: int = 0
    last_error: str = ""
    secret: str = ""


class WebhookList(msgspec.Struct, frozen=True):
    """All webhooks."""

    webhooks: list[WebhookView]


class Door(KeyedDoor):
    """The routes."""

    def __init__(
        self,
        bus: Bus,
        store: Store,
        webhooks: Webhooks,
        courier: Courier,
        waiting: Callable[[Webhook], Awaitable[int]],
        key: Path,
    ) -> None:
        super().__init__(key)
        self._bus = bus
        self._store = store
        self._webhooks = webhooks
        self._courier = courier
        self._waiting = waiting

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """All of them."""
        return bind(ROUTES, self)

    async def list_webhooks(self, request: web.Request) -> web.Response:
        """A WebhookList."""
        known = sorted(self._store.table(WEBHOOK).records(), key=WEBHOOK.key_of)
        try:
            waiting = await asyncio.gather(*(self._waiting(webhook) for webhook in known))
        except AwsError as error:
            return problem(error.message, 503)
        return answer(WebhookList([self._view(w, waiting=n) for w, n in zip(known, waiting, strict=True)]))

    def _view(self, webhook: Webhook, *, waiting: int = 0, secret: str = "") -> WebhookView:
        tally = msgspec.to_builtins(self._courier.tallies.get(webhook.id))
        told = {name: getattr(webhook, name) for name in ("account", "region", "name", "url", "pattern", "created_at")}
        return WebhookView(**told, **(tally or {}), waiting=waiting, secret=secret)

    async def add_webhook(self, request: web.Request) -> web.Response:
        """Make a webhook: 201 with its secret; 400 naming the member that is wrong, 409 when the name is taken."""
        try:
            wanted = requests.read(await request.read())
            webhook, secret = await self._webhooks.add(wanted)
        except requests.BadWebhook as error:
            return problem(str(error), 400)
        except Conflict:
            return problem(f"there is a webhook {wanted.name} in {wanted.account}, {wanted.region} already", 409)
        return answer(self._view(webhook, secret=secret), 201)

    async def remove_webhook(self, request: web.Request) -> web.Response:
        """Forget a webhook; 404 when there is none."""
        account, region, name = (request.match_info[part] for part in ("account", "region", "name"))
        webhook = await self._webhooks.remove(account, region, name)
        if webhook is None:
            return problem(f"there is no webhook {name} in {account}, {region}", 404)
        return answer(self._view(webhook))

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Events as lines of JSON: the last `limit`, and with `follow` those that come."""
        limit = request.query.get("limit", "20")
        if not limit.isdecimal() or int(limit) > MOST_LINES:
            return problem(f"limit is a number from 0 to {MOST_LINES}", 400)
        try:
            pattern = patterns.check(msgspec.json.decode(request.query.get("pattern") or "{}"))
        except (msgspec.DecodeError, patterns.BadPattern) as error:
            return problem(f"pattern: {error}", 400)
        response = web.StreamResponse(headers={"content-type": "application/x-ndjson"})
        lines = Lines(self._bus, lambda event: patterns.matches(pattern, event))
        try:
            latest = await lines.start(int(limit))
            await response.prepare(request)
            for line in latest:
                await response.write(line)
            while "follow" in request.query and not _gone(request):
                line = await lines.next(LOOK_S)
                if line == b"":
                    break
                if line is not None:
                    await response.write(line)
        except AwsError as error:
            return problem(error.message, 503)
        except ConnectionError:
            return response
        finally:
            await lines.stop()
        with contextlib.suppress(ConnectionError):
            await response.write_eof()
        return response


def _gone(request: web.Request) -> bool:
    """Whether nobody reads the answer any more; no handler is told of that."""
    return request.transport is None or request.transport.is_closing()


class Lines:
    """The events of the stream that are wanted, as lines."""

    def __init__(self, bus: Bus, wanted: Callable[[dict[str, Any]], bool]) -> None:
        self._bus = bus
        self._wanted = wanted
        self._tail = Tail(bus, AWS_EVENTS_STREAM, aws_event(), self._take)
        self._latest: deque[bytes] | None = None
        self._coming: asyncio.Queue[bytes] = asyncio.Queue()

    async def start(self, limit: int) -> list[bytes]:
        """Begin: the last ones. Raises StateUnavailable."""
        self._latest = deque(maxlen=limit)
        state = (await self._bus.api(f"STREAM.INFO.{AWS_EVENTS_STREAM}"))["state"]
        last = state["last_seq"] if state["messages"] else 0
        await self._tail.start(max(state["first_seq"], state["last_seq"] + 1 - LOOK_BACK, 1))
        await self._tail.reached(last)
        latest, self._latest = list(self._latest), None
        return latest

    def _take(self, subject: str, data: bytes, sequence: int) -> None:
        with contextlib.suppress(msgspec.DecodeError):
            if self._wanted(msgspec.json.decode(data)):
                if self._latest is not None:
                    self._latest.append(data + b"\n")
                elif self._coming.qsize() < MOST_WAITING:
                    self._coming.put_nowait(data + b"\n")
                else:
                    self._coming.put_nowait(b"")

    async def next(self, within_s: float) -> bytes | None:
        """The next one that comes, None when none did in this time; empty when the reader was too slow."""
        try:
            return await within(within_s, self._coming.get())
        except TimeoutError:
            return None

    async def stop(self) -> None:
        """Stop following."""
        await self._tail.stop()


_LOCK = {401: "the key is missing or wrong", 503: "NATS is away"}
ROUTES = (
    Route("GET", "/webhooks", "list_webhooks", WebhookList, "All webhooks.", errors={503: "NATS is away"}),
    Route(
        "POST",
        "/webhooks",
        "add_webhook",
        WebhookView,
        "Make a webhook: it is told of what happens from now on.",
        errors={400: "a member is wrong; says which", 409: "the name is taken", **_LOCK},
        status=201,
        body=requests.NewWebhook,
        locked=True,
    ),
    Route(
        "DELETE",
        "/webhooks/{account}/{region}/{name}",
        "remove_webhook",
        WebhookView,
        "Forget a webhook; what it was.",
        errors={404: "there is none", **_LOCK},
        locked=True,
    ),
    Route(
        "GET",
        "/events",
        "events",
        None,
        "The latest events in EventBridge's form, a line each.",
        (
            Query("limit", f"how many of the last ones (0 to {MOST_LINES})", "integer", 20),
            Query("pattern", "only those that match this event pattern (JSON)"),
            Query("follow", "go on with those that come"),
        ),
        {400: "`limit` or `pattern` is none", 503: "NATS is away"},
        media="application/x-ndjson",
    ),
)
