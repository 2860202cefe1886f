"""Sessions of ExecuteCommand: commands in this node's containers with somebody at them, who is behind the edge.

    exec.open.<node>                the scheduler: expect a client for this session  -> Sessions
    exec.attach.<node>.<session>    the edge: a client is here, with this token      -> once, within a minute
    exec.in / exec.out              messages of the data channel, both ways          -> Session

Core NATS may lose a message and never puts them out of order; the data channel makes sure of each.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Callable

import msgspec
import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from contracts.records.exec import ExecAnswer, ExecAttach, ExecOpen
from contracts.subjects import exec_attach, exec_in, exec_open, exec_out
from services.agent.ports import Command, Runtime, RuntimeFailure
from services.agent.session_logs import SessionLog
from services.shared import data_channel as channel
from services.shared.bus import Bus
from services.shared.clock import Clock

log = structlog.get_logger()

VERSION = "3.3.0.0"
MAX_SESSIONS = 64
MAX_INPUT = 64
HANDSHAKE_S = 30.0
SILENCE_S = 40.0
IDLE_S = 1200.0
LAST_WORDS_S = 10.0
TERMINAL = {"TERM": "xterm-256color"}

FindContainer = Callable[[ExecOpen], str]
"""The runtime's id of the container that is meant; empty when it is not of this node."""


class Sessions:
    """All sessions of one node. `find` knows the node's containers."""

    def __init__(self, bus: Bus, runtime: Runtime, node: str, find: FindContainer, clock: Clock) -> None:
        self._bus = bus
        self._runtime = runtime
        self._node = node
        self._find = find
        self._clock = clock
        self._heard: Subscription | None = None
        self._running: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Be there for the scheduler; once this returns NATS knows of it."""
        self._heard = await self._bus.subscribe(exec_open(self._node), self._on_open)
        await self._bus.client.flush()

    async def stop(self) -> None:
        """End every session, the commands with them."""
        if self._heard is not None and not self._bus.client.is_closed:
            await self._heard.unsubscribe()
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _on_open(self, msg: Msg) -> None:
        try:
            wanted = msgspec.json.decode(msg.data, type=ExecOpen)
        except msgspec.MsgspecError as error:
            await self._bus.tell(msg.reply, msgspec.json.encode(ExecAnswer(refusal=str(error))))
            return
        container = self._find(wanted)
        refusal = ""
        if not container:
            refusal = "the container does not run on this node"
        elif len(self._running) >= MAX_SESSIONS:
            refusal = f"there are {MAX_SESSIONS} sessions on this node"
        elif wanted.session not in self._running:
            session = Session(self._bus, self._runtime, self._node, container, wanted, self._clock)
            await session.expect()
            task = self._running[wanted.session] = self._bus.spawn(session.run(), f"exec.{wanted.session}")
            task.add_done_callback(lambda _: self._running.pop(wanted.session, None))
        await self._bus.tell(msg.reply, msgspec.json.encode(ExecAnswer(refusal=refusal)))


class Session:
    """One session, from when it is expected to when it is over."""

    def __init__(self, bus: Bus, runtime: Runtime, node: str, container: str, wanted: ExecOpen, clock: Clock) -> None:
        self._bus = bus
        self._runtime = runtime
        self._node = node
        self._container = container
        self._wanted = wanted
        self._clock = clock
        self._log = SessionLog(bus, wanted, clock)
        self._subscriptions: list[Subscription] = []
        self._attached = asyncio.Event()
        self._sender = channel.Sender(channel.OUTPUT)
        self._receiver = channel.Receiver()
        self._input: asyncio.Queue[channel.Message] = asyncio.Queue(MAX_INPUT)
        self._acknowledged = asyncio.Event()
        self._shaken = asyncio.Event()
        self._over = asyncio.Event()
        self._why = ""
        self._heard_at = self._used_at = asyncio.get_running_loop().time()
        self._command: Command | None = None
        self._ready = asyncio.Event()

    async def expect(self) -> None:
        """Be there for the client; once this returns NATS knows of it."""
        session = self._wanted.session
        self._subscriptions = [
            await self._bus.subscribe(exec_attach(self._node, session), self._on_attach),
            await self._bus.subscribe(exec_in(self._node, session), self._on_input),
        ]
        await self._bus.client.flush()

    async def run(self) -> None:
        """Wait for the client, run the command for it, tell its end."""
        try:
            try:
                async with asyncio.timeout(self._wanted.expires_in_s):
                    await self._attached.wait()
            except TimeoutError:
                return
            log.info("exec.begins", session=self._wanted.session, container=self._container)
            await self._serve()
            log.info("exec.ended", session=self._wanted.session, why=self._why)
        finally:
            if not self._bus.client.is_closed:
                await self._say(b"")
                for subscription in self._subscriptions:
                    await subscription.unsubscribe()

    async def _serve(self) -> None:
        helpers = [asyncio.ensure_future(self._watch()), asyncio.ensure_future(self._take_input())]
        code: int | None = None
        try:
            await self._send(channel.HANDSHAKE_REQUEST, channel.handshake_request(VERSION, tty=self._wanted.tty))
            if await self._within(self._shaken, HANDSHAKE_S):
                await self._send(channel.HANDSHAKE_COMPLETE, channel.handshake_complete())
                code = await self._run_command()
            await self._last_words()
            said = "\n".join(filter(None, (self._why, await self._log.close())))
            await self._say(channel.closing(self._wanted.session, self._clock(), output=said, exit_code=code))
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)

    async def _run_command(self) -> int | None:
        """The command's whole life; its exit code, None when it did not come to an end of its own."""
        try:
            self._command = command = await self._runtime.open_exec(
                self._container,
                self._wanted.argv,
                tty=self._wanted.tty,
                environment=TERMINAL if self._wanted.tty else {},
            )
        except RuntimeFailure as failure:
            self._why = f"The command could not be started: {failure.reason}"
            return None
        self._ready.set()
        over = asyncio.ensure_future(self._over.wait())
        pump = asyncio.ensure_future(self._pump(command))
        try:
            await asyncio.wait([over, pump], return_when=asyncio.FIRST_COMPLETED)
            return await pump if pump.done() else None
        finally:
            for task in (over, pump):
                task.cancel()
            await asyncio.gather(over, pump, return_exceptions=True)
            self._command = None
            await command.close()

    async def _pump(self, command: Command) -> int:
        while (chunk := await command.read()) is not None:
            stream, data = chunk
            self._log.take(data)
            await self._send(channel.DATA if stream == 1 else channel.STDERR, data)
            while self._sender.pending >= channel.WINDOW:
                self._acknowledged.clear()
                await self._acknowledged.wait()
        return await command.wait()

    async def _last_words(self) -> None:
        """Wait until the client has all of it: channel_closed is not acknowledged and ends the client."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + LAST_WORDS_S
        while self._sender.pending and not self._over.is_set() and loop.time() < deadline:
            self._acknowledged.clear()
            await self._within(self._acknowledged, deadline - loop.time())

    async def _within(self, event: asyncio.Event, seconds: float) -> bool:
        """Whether the event comes in time and before the session is over."""
        waits = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(self._over.wait())]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return event.is_set()

    async def _watch(self) -> None:
        """Each second: send again what got lost, end what nobody is at any more."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(1.0)
            for data in self._sender.overdue(self._clock()):
                await self._say(data)
            if loop.time() - self._heard_at > SILENCE_S:
                self._over.set()
            elif loop.time() - self._used_at > IDLE_S:
                self._end("the session was idle for too long")

    def _end(self, why: str) -> None:
        self._why = self._why or why
        self._over.set()

    async def _send(self, payload_type: int, payload: bytes) -> None:
        self._used_at = asyncio.get_running_loop().time()
        await self._say(self._sender.send(payload_type, payload, self._clock()))

    async def _say(self, data: bytes) -> None:
        await self._bus.tell(exec_out(self._node, self._wanted.session), data)

    # -- what the client sends

    async def _on_attach(self, msg: Msg) -> None:
        try:
            token = msgspec.json.decode(msg.data, type=ExecAttach).token
        except msgspec.MsgspecError:
            token = ""
        digest = hashlib.sha256(token.encode()).hexdigest()
        refusal = ""
        if self._attached.is_set():
            refusal = "the token was used before"
        elif not hmac.compare_digest(digest, self._wanted.token_digest):
            refusal = "this is not the session's token"
        else:
            self._attached.set()
            self._heard_at = self._used_at = asyncio.get_running_loop().time()
        await self._bus.tell(msg.reply, msgspec.json.encode(ExecAnswer(refusal=refusal)))

    async def _on_input(self, msg: Msg) -> None:
        if not self._attached.is_set():
            return
        self._heard_at = asyncio.get_running_loop().time()
        if not msg.data:
            if msg.reply:
                await self._bus.tell(msg.reply, b"")
            else:
                self._over.set()
            return
        try:
            message = channel.decode(msg.data)
            if message.type == channel.ACKNOWLEDGE:
                self._sender.acknowledged(message)
                self._acknowledged.set()
            elif message.type == channel.INPUT and not self._input.full():
                self._input.put_nowait(message)  # what finds no room comes again: nobody acknowledged it
        except channel.BadMessage as error:
            log.debug("exec.bad_message", session=self._wanted.session, error=str(error))

    async def _take_input(self) -> None:
        while True:
            message = await self._input.get()
            ready, acknowledge = self._receiver.take(message)
            if acknowledge:
                await self._say(channel.acknowledgement(message, self._clock()))
            for each in ready:
                await self._act_upon(each)

    async def _act_upon(self, message: channel.Message) -> None:
        self._used_at = asyncio.get_running_loop().time()
        kind = message.payload_type
        if kind == channel.HANDSHAKE_RESPONSE:
            self._shaken.set()
        elif kind == channel.FLAG:
            if int.from_bytes(message.payload, "big") == channel.TERMINATE:
                self._over.set()
        elif not self._shaken.is_set():
            log.debug("exec.early_input", session=self._wanted.session)  # a client waits for the handshake
        elif await self._within(self._ready, HANDSHAKE_S) and self._command is not None:
            await self._give(self._command, message)

    async def _give(self, command: Command, message: channel.Message) -> None:
        if message.payload_type == channel.DATA:
            await command.write(message.payload)
        elif message.payload_type == channel.SIZE:
            try:
                size = msgspec.json.decode(message.payload, type=channel.Size)
            except msgspec.MsgspecError:
                return
            await command.resize(size.cols, size.rows)
