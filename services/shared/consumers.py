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
from services.shared.bus import Bus, end_if_cancelled
from services.shared.errors import StateUnavailable

log = structlog.get_logger()

ATTEMPTS = 10
BATCH = 32
ACK_WAIT_S = 30
PULL_S = 30.0
_NS = 1_000_000_000
ACK, TERMINATE = b"+ACK", b"+TERM"


class Retry(Exception):
    """Not now: try again after `delay_s` seconds."""

    def __init__(self, reason: str, delay_s: float = 1.0) -> None:
        super().__init__(reason)
        self.delay_s = delay_s


class Event(NamedTuple):
    """One change: the event's name with its version, the entity it happened to, its record (None for a delete), the
    state stream's sequence, the message that led to it; where it lies in EVENTS, and since when (seconds since the
    epoch)."""

    name: str
    kind: Kind[Any]
    key: Key
    record: Any | None
    sequence: int
    cause: str | None
    logged: int = 0
    at: float = 0.0


Handler = Callable[[Event], Awaitable[None]]


class Delivery(NamedTuple):
    """What NATS says of a message that a durable consumer was given."""

    attempt: int
    sequence: int
    at: float
    """When it was stored, seconds since the epoch."""
    pending: int

    @classmethod
    def of(cls, message: Msg) -> Delivery:
        """Read it out of the subject that the message is acknowledged on."""
        attempt, sequence, _, at_ns, pending = message.reply.split(".")[-5:]
        return cls(int(attempt), int(sequence), int(at_ns) / _NS, int(pending))


class Puller:
    """Follows a durable pull consumer of a stream. `take` gets each message and returns how it is acknowledged; up to
    `at_once` are under way at a time. Several processes may follow one consumer: each message goes to one of them."""

    def __init__(
        self, bus: Bus, stream: str, name: str, take: Callable[[Msg], Awaitable[bytes]], *,
        at_once: int = 1, **config: Any,
    ) -> None:  # fmt: skip
        self._bus = bus
        self._stream = stream
        self._name = name
        self._take_message = take
        self._config = config
        self._batch = BATCH if at_once == 1 else at_once
        self._slots = asyncio.Semaphore(at_once)
        self._at_once = at_once
        self._under_way: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Make the consumer if it is not there and follow it. Raises StateUnavailable, ApiError."""
        await self._create()
        self._task = self._bus.spawn(self._run(), f"consumer.{self._name}")

    async def stop(self) -> None:
        """Stop following; the consumer stays and remembers how far it came."""
        running = [*self._under_way, *([self._task] if self._task is not None else [])]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _create(self) -> None:
        config = {
            "durable_name": self._name,
            "name": self._name,
            "deliver_policy": "new",
            "ack_policy": "explicit",
            "ack_wait": ACK_WAIT_S * _NS,
            "max_ack_pending": BATCH * 4,
            **self._config,
        }
        suffix = f".{config['filter_subject']}" if "filter_subject" in config else ""
        await self._bus.api(
            f"CONSUMER.CREATE.{self._stream}.{self._name}{suffix}", {"stream_name": self._stream, "config": config}
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
        request = msgspec.json.encode({"batch": self._batch, "expires": int(PULL_S * _NS)})
        await self._bus.tell(f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._name}", request, reply=inbox)

    async def _take(self, subscription: Any) -> None:
        for _ in range(self._batch):
            try:
                message = await subscription.next_msg(timeout=PULL_S + 2)
            except TimeoutError:
                return
            end_if_cancelled()
            if message.headers and "Status" in message.headers and not message.data:
                return
            self._bus.waiting[self._name] = Delivery.of(message).pending
            if self._at_once == 1:
                await self._handle(message)
                continue
            await self._slots.acquire()
            work = asyncio.ensure_future(self._handle(message))
            self._under_way.add(work)
            work.add_done_callback(self._under_way.discard)
            work.add_done_callback(lambda _: self._slots.release())

    async def _handle(self, message: Msg) -> None:
        try:
            answer = await self._take_message(message)
        except Exception:
            log.exception("consumer.failed", consumer=self._name)
            answer = again_after(60.0)
        await self._bus.tell(message.reply, answer)


class Consumer:
    """One durable consumer of EVENTS: `handlers` by event name. What has no handler is acknowledged and passed over."""

    def __init__(self, bus: Bus, name: str, kinds: tuple[Kind[Any], ...], handlers: Mapping[str, Handler]) -> None:
        self._name = f"{bus.service}-{name}"
        self._kinds = {kind.prefix.replace("state.", "events.", 1): kind for kind in kinds}
        self._handlers = dict(handlers)
        filters = [f"{prefix}.>" for prefix in self._kinds]
        one: dict[str, Any] = {"filter_subject": filters[0]}
        config = {"max_deliver": ATTEMPTS, **(one if len(filters) == 1 else {"filter_subjects": filters})}
        self._puller = Puller(bus, EVENTS_STREAM, self._name, self._take, **config)

    async def start(self) -> None:
        """Make the consumer if it is not there (it begins with what happens from now on) and follow it."""
        await self._puller.start()

    async def stop(self) -> None:
        """Stop following; the consumer stays and remembers how far it came."""
        await self._puller.stop()

    async def _take(self, message: Msg) -> bytes:
        headers = message.headers or {}
        name = headers.get("Event", "")
        handler = self._handlers.get(name)
        if handler is None:
            return ACK
        with telemetry.received(f"on {name}", headers) as span:
            answer = await self._carry_out(handler, message, name)
            span.set_attribute("answer", answer.decode().split(" ")[0])
        return answer

    async def _carry_out(self, handler: Handler, message: Msg, name: str) -> bytes:
        delivery = Delivery.of(message)
        try:
            await handler(self._read(message, name, delivery))
        except Retry as error:
            return again_after(error.delay_s)
        except msgspec.MsgspecError as error:
            log.error("consumer.unreadable", consumer=self._name, event_name=name, error=str(error))
            return TERMINATE
        except Exception:
            attempt = delivery.attempt
            log.exception("consumer.failed", consumer=self._name, event_name=name, delivered=attempt)
            return TERMINATE if attempt >= ATTEMPTS else again_after(min(60.0, 0.2 * 2**attempt))
        return ACK

    def _read(self, message: Msg, name: str, delivery: Delivery) -> Event:
        headers = message.headers or {}
        kind = self._kinds[".".join(message.subject.split(".", 3)[:3])]
        record = None if headers.get("Op") == "delete" else kind.decoder.decode(message.data)
        # NATS puts where a sourced message came from as "<stream> <sequence> <filter> <transform> <subject>".
        sequence = int(headers.get("Nats-Stream-Source", " 0").split(" ")[1])
        key, cause = kind.key_from(message.subject), headers.get("Cause")
        return Event(name, kind, key, record, sequence, cause, delivery.sequence, delivery.at)


def again_after(delay_s: float) -> bytes:
    """The acknowledgement that asks for a message once more."""
    return b"-NAK " + msgspec.json.encode({"delay": int(delay_s * _NS)})
