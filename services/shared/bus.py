"""The connection to NATS: durable publishes, commands, heartbeats, consumers of events.

While NATS is away nothing is queued in this process: a call fails at once with StateUnavailable, so that what was
answered with success is durable and what was not can be tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec
import nats
import nats.micro
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import ConnectionClosedError, NoRespondersError, OutboundBufferLimitError
from nats.errors import TimeoutError as NatsTimeout

from contracts.kinds import unescape
from contracts.rpc.command import Command
from contracts.subjects import node_command
from services.shared import telemetry
from services.shared.errors import AwsError, StateUnavailable

log = structlog.get_logger()

REQUEST_TIMEOUT_S = 3.0
ASK_AGAIN_S = 3.0
AWAY_S = 0.2
WRONG_LAST_SEQUENCE = 10071
WINDOW = 256
"""How many publishes one service has under way; further ones wait here. NATS takes them one after the other, and behind
thousands a publish would not be answered in time, though it is stored."""

_Request = TypeVar("_Request", bound=msgspec.Struct)
_Reply = TypeVar("_Reply", bound=msgspec.Struct)
_AWAY = (
    NatsTimeout,
    ConnectionClosedError,
    OutboundBufferLimitError,
    NoRespondersError,
    asyncio.TimeoutError,
    OSError,
)


class Conflict(Exception):
    """A compare-and-set publish found another record than it expected."""


class Fence(NamedTuple):
    """What a write may depend on besides its own subject: that this subject's newest message is the one it was."""

    subject: str
    sequence: int

    def headers(self) -> dict[str, str]:
        """What makes the server hold to it; it then compares nothing of the message's own subject.
        https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-50.md"""
        return {
            "Nats-Expected-Last-Subject-Sequence": str(self.sequence),
            "Nats-Expected-Last-Subject-Sequence-Subject": self.subject,
        }


class ApiError(Exception):
    """JetStream refused. `code` is its err_code."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(f"{description} ({code})")
        self.code = code


class CommandRefused(Exception):
    """The service that was asked answered with an error."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class _Published(msgspec.Struct):
    seq: int = 0
    duplicate: bool = False
    error: dict[str, Any] | None = None


_decode_published = msgspec.json.Decoder(_Published).decode


class Bus:
    """One service's connection. Make it with `Bus.connect`."""

    def __init__(self, service: str, node: str = "") -> None:
        self.service = service
        self.node = node
        """The external node that this connection is of; empty for the platform's own services."""
        self.password = ""
        self.client = Client()
        self.connected = asyncio.Event()
        self._listeners: list[Callable[[], None]] = []
        self.unstored = 0
        """Durable publishes in a row that a connected NATS did not answer: it is what a stream on a full disk does."""
        self.waiting: dict[str, int] = {}
        """By what is followed: how many messages NATS still had for it when it gave out the last one."""
        self._waiting: set[asyncio.Timeout] = set()
        self._window = asyncio.Semaphore(WINDOW)
        self._patience_s = REQUEST_TIMEOUT_S
        self._micro: nats.micro.Service | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def connect(
        cls, url: str, service: str, *, user: str = "", password: str = "", node: str = "", wait_s: float = 30.0
    ) -> Bus:
        """Connect as `service`'s own user, or as an external `node`, which has a user of its name. Tries until `wait_s`
        seconds have passed, then StateUnavailable."""
        bus = cls(service, node)
        bus.password = password
        options: dict[str, Any] = {"user": user, "password": password} if user else {}
        deadline = asyncio.get_running_loop().time() + wait_s
        while True:
            try:
                await bus.client.connect(
                    url,
                    name=f"roadstead-{service}",
                    inbox_prefix=f"_INBOX.{node or service}",
                    connect_timeout=2,
                    allow_reconnect=True,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=0.2,
                    ping_interval=20,
                    pending_size=0,
                    error_cb=bus._on_error,
                    disconnected_cb=bus._on_disconnected,
                    reconnected_cb=bus._on_reconnected,
                    **options,
                )
                break
            except (TimeoutError, OSError, nats.errors.Error) as error:
                if asyncio.get_running_loop().time() >= deadline:
                    raise StateUnavailable(f"NATS at {url} does not answer: {error}") from error
                await asyncio.sleep(0.1)
        bus.connected.set()
        return bus

    async def close(self) -> None:
        """End the consumers and the connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(nats.errors.Error, OSError):
            if self._micro is not None:
                await self._micro.stop()
        with contextlib.suppress(nats.errors.Error, OSError):
            await self.client.close()
        await self._end_reconnecting()

    async def _end_reconnecting(self) -> None:
        """A client that was looking for its server when it was closed looks on for ever if it loses the one
        cancellation that it gets (asyncio.wait_for of Python 3.11 does), and the process can't end."""
        looking: asyncio.Task[None] | None = getattr(self.client, "_reconnection_task", None)
        while looking is not None and not looking.done():
            looking.cancel()
            await asyncio.wait([looking], timeout=0.1)

    @contextlib.contextmanager
    def patient(self, seconds: float) -> Iterator[None]:
        """Let requests take so long for a while: a start on a busy machine has nobody to tell to try again."""
        before, self._patience_s = self._patience_s, seconds
        try:
            yield
        finally:
            self._patience_s = before

    def on_reconnect(self, listener: Callable[[], None]) -> None:
        """Call `listener` each time the connection is back: views resume from it."""
        self._listeners.append(listener)

    def forget_listener(self, listener: Callable[[], None]) -> None:
        """No longer call it."""
        self._listeners.remove(listener)

    async def _on_error(self, error: Exception) -> None:
        log.debug("bus.error", service=self.service, error=str(error) or type(error).__name__)

    async def _on_disconnected(self) -> None:
        if self.connected.is_set() and not self.client.is_closed:
            log.warning("bus.disconnected", service=self.service)
        self.connected.clear()
        # What was asked over a connection that is gone is answered by nobody: who waits shall not wait for its time.
        now = asyncio.get_running_loop().time()
        for deadline in self._waiting:
            if not deadline.expired():
                deadline.reschedule(now)

    async def _on_reconnected(self) -> None:
        log.info("bus.reconnected", service=self.service)
        self.connected.set()
        for listener in self._listeners:
            listener()

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        headers: dict[str, str] | None = None,
        timeout: float | None = None,
    ) -> Msg:
        """A request and its reply. StateUnavailable when nobody answers in time (REQUEST_TIMEOUT_S, if nothing else is
        said), at once when the connection is lost."""
        if not self.connected.is_set():
            raise StateUnavailable()
        deadline = asyncio.timeout(self._patience_s if timeout is None else timeout)
        try:
            async with deadline:
                self._waiting.add(deadline)
                reply = await self.client.request(subject, payload, timeout=None, headers=headers)
                end_if_cancelled()
                return reply
        except _AWAY as error:
            end_if_cancelled()
            raise StateUnavailable() from error
        finally:
            self._waiting.discard(deadline)

    async def api(self, subject: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A call of the JetStream API (`$JS.API.` is put before the subject). Raises ApiError."""
        reply = await self.request(f"$JS.API.{subject}", msgspec.json.encode(body) if body is not None else b"")
        answer: dict[str, Any] = msgspec.json.decode(reply.data)
        if "error" in answer:
            error = answer["error"]
            raise ApiError(error.get("err_code", error.get("code", 0)), error.get("description", "refused"))
        return answer

    async def publish(self, subject: str, payload: bytes, headers: dict[str, str] | None = None) -> int:
        """A durable publish into a stream; its sequence there. Raises Conflict, StateUnavailable."""
        try:
            async with self._window:
                reply = await self.request(subject, payload, headers)
        except StateUnavailable:
            self.unstored += self.connected.is_set()
            raise
        if reply.headers and reply.headers.get("Status") == "503":
            raise StateUnavailable()
        answer = _decode_published(reply.data)
        self.unstored = 0
        if answer.error is None:
            return answer.seq
        if answer.error.get("err_code") == WRONG_LAST_SEQUENCE:
            raise Conflict(subject)
        raise StateUnavailable(f"The state store refused the write: {answer.error.get('description', '')}")

    async def tell(
        self, subject: str, payload: bytes = b"", headers: dict[str, str] | None = None, reply: str = ""
    ) -> None:
        """A publish that nobody acknowledges: heartbeats, spans. Lost while NATS is away."""
        if self.connected.is_set():
            with contextlib.suppress(*_AWAY, nats.errors.Error):
                await self.client.publish(subject, payload, reply=reply, headers=headers)

    async def hears(self, within_s: float = 1.0) -> bool:
        """Whether NATS answers this connection at once. A server that hangs keeps its connections open: without
        asking, silence can't be told from a peer's."""
        try:
            await self.request(f"$JS.API.STREAM.INFO.STATE_{self.service.upper()}", timeout=within_s)
        except StateUnavailable:
            return False
        return True

    async def subscribe(
        self, subject: str, heard: Callable[[Msg], Awaitable[None]], *, queue: str = ""
    ) -> Subscription:
        """Hear what is published on a core subject from now on. Of those with the same `queue` one hears each."""
        return await self.client.subscribe(subject, queue=queue, cb=heard)

    async def serve(
        self,
        command: Command[_Request, _Reply],
        handle: Callable[[_Request], Awaitable[_Reply]],
        *,
        at_once: bool = False,
    ) -> None:
        """Answer a command. An AwsError becomes CommandRefused at the caller's; anything else `Internal`.

        Requests are answered one after the other; `at_once`: each by itself, for a handler that may wait.
        """

        async def work(request: nats.micro.Request) -> _Reply:
            return await handle(command.request_decoder.decode(request.data))

        await self._endpoint(command.name, command.subject, work, at_once)

    async def serve_nodes(
        self, command: Command[_Request, _Reply], handle: Callable[[str, _Request], Awaitable[_Reply]]
    ) -> None:
        """Answer a command of external nodes, each by itself: `handle` is told which node asks."""

        async def work(request: nats.micro.Request) -> _Reply:
            node = unescape(request.subject.split(".", 2)[1])
            return await handle(node, command.request_decoder.decode(request.data))

        await self._endpoint(f"node_{command.name}", command.node_subject, work, True)

    async def _endpoint(
        self, name: str, subject: str, work: Callable[[nats.micro.Request], Awaitable[msgspec.Struct]], at_once: bool
    ) -> None:
        if self._micro is None:
            config = nats.micro.ServiceConfig(
                name=self.service, version="0.1.0", description=f"Roadstead {self.service}"
            )
            self._micro = await nats.micro.add_service(self.client, config)

        async def answer(request: nats.micro.Request) -> None:
            with telemetry.received(f"rpc {subject}", request.headers, kind="SERVER"):
                try:
                    await request.respond(msgspec.json.encode(await work(request)))
                except AwsError as error:
                    await request.respond_error(error.code, error.message)
                except msgspec.MsgspecError as error:
                    await request.respond_error("BadRequest", str(error))
                except Exception as error:
                    log.exception("rpc.failed", command=subject)
                    await request.respond_error("Internal", f"{type(error).__name__}: {error}")

        async def spawn(request: nats.micro.Request) -> None:
            self.spawn(answer(request), f"rpc.{name}")

        await self._micro.add_endpoint(name=name, subject=subject, handler=spawn if at_once else answer)
        await self.client.flush()  # once this returns the server knows of it, and nobody is told that nobody answers

    async def call(self, command: Command[_Request, _Reply], request: _Request, timeout: float | None = None) -> _Reply:
        """Ask another service. Raises CommandRefused, or StateUnavailable when it does not answer."""
        with telemetry.span(f"call {command.subject}", kind="CLIENT"):
            headers = telemetry.inject({})
            subject = node_command(self.node, command.subject) if self.node else command.subject
            reply = await self.request(subject, msgspec.json.encode(request), headers, timeout)
        code = (reply.headers or {}).get("Nats-Service-Error-Code")
        if code:
            raise CommandRefused(code, (reply.headers or {}).get("Nats-Service-Error", ""))
        return command.reply_decoder.decode(reply.data)

    async def call_again(
        self, command: Command[_Request, _Reply], request: _Request, *, within_s: float, every_s: float = ASK_AGAIN_S
    ) -> _Reply:
        """As `call`, of a service that may be away for a moment or take its time; the command must bear to be asked
        twice. Asked again every `every_s` beside what was asked before: one who died with a question tells nobody."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        asked: set[asyncio.Task[_Reply]] = set()
        try:
            while True:
                left = max(deadline - loop.time(), 0.1)
                asked.add(asyncio.ensure_future(self.call(command, request, left)))
                done, asked = await asyncio.wait(asked, timeout=min(every_s, left), return_when=asyncio.FIRST_COMPLETED)
                try:
                    for one in done:
                        return one.result()
                except StateUnavailable:
                    if loop.time() >= deadline:
                        raise
                    await asyncio.sleep(AWAY_S)  # there is no event that says that a service is back
        finally:
            for one in asked:
                one.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    def spawn(self, work: Awaitable[None], name: str) -> asyncio.Task[None]:
        """A background task that ends with the bus. One that ends with an error before is told of in the log: who
        started it looks at it when everything stops, and not before."""
        task: asyncio.Task[None] = asyncio.ensure_future(work)  # type: ignore[arg-type]
        task.set_name(f"{self.service}.{name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_tell_failure)
        return task


def _tell_failure(task: asyncio.Task[None]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        log.error("task.failed", task=task.get_name(), error=repr(error), exc_info=error)


def end_if_cancelled() -> None:
    """Raises CancelledError in a task that was cancelled. The client forgets a cancellation that comes while it hands
    over what it sends: a loop that renews or asks would go on for ever, and who waits for its end with it."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
