"""Acting on each change: a durable consumer on EVENTS, edge-triggered, at least once.

A handler returns when it has done its part (the event is acknowledged), raises `Retry` to get it again later, or
anything else that is a mistake: the event comes again with a growing delay and is given up, with an error in the log,
after ATTEMPTS. Handlers are idempotent on the event's key and sequence.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import msgspec
import nats.errors
import structlog
from nats.aio.msg import Msg

from contracts.kinds import Key, Kind
from contracts.subjects import EVENTS_STREAM
from services.shared import telemetry
from services.shared.bus import Bus
from services.shared.errors import StateUnavailable

log = structlog.get_logger()

ATTEMPTS = 10
BATCH = 32
ACK_WAIT_S = 30
PULL_S = 30.0
_NS = 1_000_000_000


class Retry(Exception):
    """Not now: try again after `delay_s` seconds."""

    def __init__(self, reason: str, delay_s: float = 1.0) -> None:
        super().__init__(reason)
        self.delay_s = delay_s


class Event(NamedTuple):
    """One change: the event's name with its version, the entity it happened to, its record (None for a delete), the
    state stream's sequence, and the message that led to it."""

    name: str
    kind: Kind[Any]
    key: Key
    record: Any | None
    sequence: int
    cause: str | None


Handler = Callable[[Event], Awaitable[None]]


class Consumer:
    """One durable consumer: `handlers` by event name. What has no handler is acknowledged and passed over."""

    def __init__(self, bus: Bus, name: str, kinds: tuple[Kind[Any], ...], handlers: Mapping[str, Handler]) -> None:
        self._bus = bus
        self._name = f"{bus.service}-{name}"
        self._kinds = {kind.prefix.replace("state.", "events.", 1): kind for kind in kinds}
        self._handlers = dict(handlers)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Make the consumer if it is not there (it begins with what happens from now on) and follow it."""
        await self._create()
        self._task = self._bus.spawn(self._run(), f"consumer.{self._name}")

    async def stop(self) -> None:
        """Stop following; the consumer stays and remembers how far it came."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _create(self) -> None:
        filters = [f"{prefix}.>" for prefix in self._kinds]
        config = {
            "durable_name": self._name,
            "name": self._name,
            "deliver_policy": "new",
            "ack_policy": "explicit",
            "ack_wait": ACK_WAIT_S * _NS,
            "max_deliver": ATTEMPTS,
            "max_ack_pending": BATCH * 4,
            **({"filter_subject": filters[0]} if len(filters) == 1 else {"filter_subjects": filters}),
        }
        suffix = f".{filters[0]}" if len(filters) == 1 else ""
        await self._bus.api(
            f"CONSUMER.CREATE.{EVENTS_STREAM}.{self._name}{suffix}",
            {"stream_name": EVENTS_STREAM, "config": config},
        )

    async def _run(self) -> None:
        inbox = self._bus.client.new_inbox()
        subscription = await self._bus.client.subscribe(inbox)

        def again() -> None:
            """A server that was started again knows nothing of what was asked of it before."""
            if self._task is not None and not self._task.done():
                self._bus.spawn(self._pull(inbox), f"pull.{self._name}")

        self._bus.on_reconnect(again)
        try:
            while True:
                if not self._bus.connected.is_set():
                    await self._bus.connected.wait()
                await self._pull(inbox)
                try:
                    await self._take(subscription)
                except (StateUnavailable, OSError) as error:
                    log.warning("consumer.interrupted", consumer=self._name, error=str(error))
        finally:  # or what comes next would be given to nobody, until it is given to somebody else
            with contextlib.suppress(nats.errors.Error, OSError):
                await subscription.unsubscribe()
                await self._bus.client.flush(1)

    async def _pull(self, inbox: str) -> None:
        request = msgspec.json.encode({"batch": BATCH, "expires": int(PULL_S * _NS)})
        await self._bus.tell(f"$JS.API.CONSUMER.MSG.NEXT.{EVENTS_STREAM}.{self._name}", request, reply=inbox)

    async def _take(self, subscription: Any) -> None:
        for _ in range(BATCH):
            try:
                message = await subscription.next_msg(timeout=PULL_S + 2)
            except TimeoutError:
                return
            if message.headers and "Status" in message.headers and not message.data:
                return
            await self._handle(message)

    async def _handle(self, message: Msg) -> None:
        headers = message.headers or {}
        self._bus.waiting[self._name] = int(message.reply.split(".")[-1])
        name = headers.get("Event", "")
        handler = self._handlers.get(name)
        if handler is None:
            await self._bus.tell(message.reply, b"+ACK")
            return
        with telemetry.received(f"on {name}", headers) as span:
            answer = await self._carry_out(handler, message, name)
            span.set_attribute("answer", answer.decode().split(" ")[0])
        await self._bus.tell(message.reply, answer)

    async def _carry_out(self, handler: Handler, message: Msg, name: str) -> bytes:
        delivered = int(message.reply.split(".")[-5])
        try:
            await handler(self._read(message, name))
        except Retry as error:
            return _again(error.delay_s)
        except msgspec.MsgspecError as error:
            log.error("consumer.unreadable", consumer=self._name, event_name=name, error=str(error))
            return b"+TERM"
        except Exception:
            log.exception("consumer.failed", consumer=self._name, event_name=name, delivered=delivered)
            return b"+TERM" if delivered >= ATTEMPTS else _again(min(60.0, 0.2 * 2**delivered))
        return b"+ACK"

    def _read(self, message: Msg, name: str) -> Event:
        headers = message.headers or {}
        kind = self._kinds[".".join(message.subject.split(".", 3)[:3])]
        record = None if headers.get("Op") == "delete" else kind.decoder.decode(message.data)
        # NATS puts where a sourced message came from as "<stream> <sequence> <filter> <transform> <subject>".
        sequence = int(headers.get("Nats-Stream-Source", " 0").split(" ")[1])
        return Event(name, kind, kind.key_from(message.subject), record, sequence, headers.get("Cause"))


def _again(delay_s: float) -> bytes:
    return b"-NAK " + msgspec.json.encode({"delay": int(delay_s * _NS)})
