"""The WebSocket of a session of ExecuteCommand: its messages go to the agent that has the session, and back, over NATS.

The first message is text, open_data_channel, and has the session's token; the agent judges it. All that follows are
binary messages of the data channel, which this relay does not read.
"""

from __future__ import annotations

import asyncio
import re

import msgspec
import structlog
from aiohttp import WSCloseCode, WSMsgType, web
from nats.aio.msg import Msg

from contracts.records.exec import ExecAnswer, ExecAttach
from contracts.subjects import exec_attach, exec_in, exec_out
from services.shared.bus import Bus
from services.shared.data_channel import Opening
from services.shared.errors import StateUnavailable
from services.shared.http import problem

log = structlog.get_logger()

PREFIX = "/v1/data-channel/"
MAX_MESSAGE = 256 * 1024
MAX_CHANNELS = 256
MAX_NODE = 255
OPENING_S = 15.0
ALIVE_S = 10.0
_SESSION = re.compile(r"/v1/data-channel/([a-z0-9-]{1,64})(?:\?.*)?")


class DataChannels:
    """All of this edge's WebSockets. Every `alive_s` seconds an agent is asked whether it still has its session."""

    def __init__(self, bus: Bus, *, alive_s: float = ALIVE_S) -> None:
        self._bus = bus
        self._alive_s = alive_s
        self._open: set[web.WebSocketResponse] = set()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request for PREFIX and a session's id. `node` (query) is where the session is."""
        named = _SESSION.fullmatch(request.raw_path)
        node = request.query.get("node", "")
        if named is None or not 0 < len(node) <= MAX_NODE:
            return problem("this is no session", 404)
        if len(self._open) >= MAX_CHANNELS:
            return problem(f"{MAX_CHANNELS} sessions are open", 503)
        socket = web.WebSocketResponse(max_msg_size=MAX_MESSAGE, heartbeat=30.0, compress=False)
        if not socket.can_prepare(request):
            return problem("this is the address of a WebSocket", 400)
        await socket.prepare(request)
        self._open.add(socket)
        try:
            await self._serve(socket, node, named[1])
        finally:
            self._open.discard(socket)
            if not socket.closed:
                await socket.close()
        return socket

    async def close(self) -> None:
        """Let go of all; the agents end their sessions."""
        going = [socket.close(code=WSCloseCode.GOING_AWAY) for socket in tuple(self._open)]
        await asyncio.gather(*going, return_exceptions=True)

    async def _serve(self, socket: web.WebSocketResponse, node: str, session: str) -> None:
        over = asyncio.Event()

        async def on_output(msg: Msg) -> None:
            if not msg.data:
                over.set()
            elif not over.is_set():
                try:
                    await socket.send_bytes(msg.data)
                except (ConnectionError, RuntimeError):
                    over.set()

        token = await _token(socket)
        if token is None:
            await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"no token came")
            return
        heard = await self._bus.subscribe(exec_out(node, session), on_output)
        try:
            refusal = await self._attach(node, session, token)
            if refusal:
                log.info("exec.not_attached", session=session, why=refusal)
                await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=refusal.encode()[:120])
                return
            await self._relay(socket, exec_in(node, session), over)
        finally:
            if not self._bus.client.is_closed:
                await heard.unsubscribe()

    async def _attach(self, node: str, session: str, token: str) -> str:
        """Why not, or empty."""
        try:
            await self._bus.client.flush()
            said = msgspec.json.encode(ExecAttach(token=token))
            reply = await self._bus.request(exec_attach(node, session), said)
        except StateUnavailable:
            return "there is no such session"
        return msgspec.json.decode(reply.data, type=ExecAnswer).refusal

    async def _relay(self, socket: web.WebSocketResponse, subject: str, over: asyncio.Event) -> None:
        """Until one of the two sides is gone."""
        parts = [
            asyncio.ensure_future(self._inwards(socket, subject)),
            asyncio.ensure_future(self._ask(subject)),
            asyncio.ensure_future(over.wait()),
        ]
        try:
            await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
            await self._bus.tell(subject)

    async def _inwards(self, socket: web.WebSocketResponse, subject: str) -> None:
        async for message in socket:
            if message.type == WSMsgType.BINARY and message.data:
                await self._bus.tell(subject, message.data)

    async def _ask(self, subject: str) -> None:
        """Return when the agent does not have the session any more: one that was killed tells nobody."""
        while True:
            await asyncio.sleep(self._alive_s)
            try:
                await self._bus.request(subject)
            except StateUnavailable:
                return


async def _token(socket: web.WebSocketResponse) -> str | None:
    try:
        first = await socket.receive(timeout=OPENING_S)
        if first.type == WSMsgType.TEXT:
            return msgspec.json.decode(first.data, type=Opening).token_value
    except (TimeoutError, msgspec.MsgspecError):
        pass
    return None
