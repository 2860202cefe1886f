"""External nodes at the edge: a machine registers, then has ONE outgoing connection, a WebSocket to here. What goes
over it is NATS' own protocol: this relay does not read it, NATS itself judges user and subjects.

Why: docs/adr/0005-external-nodes.md.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict

import msgspec
import structlog
from aiohttp import WSCloseCode, web

from contracts.rpc.identity import REGISTER_NODE, RegisterNode
from services.shared.aws.transport import read_request
from services.shared.bus import Bus, CommandRefused
from services.shared.errors import AwsError
from services.shared.http import answer, problem
from services.shared.managed_nodes import ManagedNodes
from services.shared.relay import relay

log = structlog.get_logger()

PATH = "/v1/nodes"
CONNECTION = f"{PATH}/connection"
MAX_BODY = 16 * 1024
MAX_NODES = 4096
ALIVE_S = 15.0


class NodeDoor:
    """Answers for external nodes. A node that is taken out is cut off at once."""

    def __init__(self, bus: Bus, members: ManagedNodes) -> None:
        self._bus = bus
        self._members = members
        self._open: defaultdict[str, set[web.WebSocketResponse]] = defaultdict(set)
        members.listen(self._on_change)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request for PATH or what is below it."""
        path = request.raw_path.partition("?")[0]
        if path == PATH and request.method == "POST":
            return await self._register(request)
        if path == CONNECTION:
            return await self._connect(request)
        return problem("POST /v1/nodes registers a node; /v1/nodes/connection is its WebSocket", 404)

    async def close(self) -> None:
        """Let go of all; they come back by themselves."""
        sockets = [socket for each in self._open.values() for socket in each]
        await asyncio.gather(*(s.close(code=WSCloseCode.GOING_AWAY) for s in sockets), return_exceptions=True)

    async def _register(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            asked = msgspec.json.decode((await read_request(request, MAX_BODY)).body, type=RegisterNode)
            return answer(await self._bus.call(REGISTER_NODE, asked))
        except msgspec.MsgspecError as error:
            return problem(str(error), 400)
        except AwsError as error:
            return problem(error.message, error.status or 400)
        except CommandRefused as refused:
            return problem(refused.message, 403 if refused.code == "InvalidActivation" else 400)

    async def _connect(self, request: web.BaseRequest) -> web.StreamResponse:
        _, _, shown = request.headers.get("Authorization", "").partition(" ")
        node, _, secret = shown.partition(":")
        why = self._members.refusal(node, secret)
        if why:
            log.warning("node.refused", node=node, why=why)
            return problem(why, 403)
        address = self._bus.client.connected_url
        if address is None or not self._bus.connected.is_set():
            return problem("NATS is away; try again", 503)
        if sum(map(len, self._open.values())) >= MAX_NODES:
            return problem(f"{MAX_NODES} nodes are connected", 503)
        socket = web.WebSocketResponse(max_msg_size=0, heartbeat=ALIVE_S, compress=False)
        if not socket.can_prepare(request):
            return problem("this is the address of a WebSocket", 400)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        try:
            await socket.prepare(request)
            # A node has one connection: the link of another one was lost, and nobody has heard of that yet.
            for before in tuple(self._open[node]):
                self._bus.spawn(_close(before, WSCloseCode.GOING_AWAY, b"another connection took its place"), "cut")
            self._open[node].add(socket)
            log.info("node.connected", node=node, address=request.remote)
            try:
                await relay(socket, reader, writer)
            finally:
                with contextlib.suppress(ConnectionError, RuntimeError):
                    await socket.close()
        finally:
            self._open[node].discard(socket)
            if not self._open[node]:
                del self._open[node]
            writer.close()
            log.info("node.disconnected", node=node)
        return socket

    def _on_change(self, node: str) -> None:
        if node in self._open and self._members.member(node) is None:
            for socket in tuple(self._open[node]):
                self._bus.spawn(_close(socket, WSCloseCode.POLICY_VIOLATION, b"deregistered"), "cut")


async def _close(socket: web.WebSocketResponse, code: int, why: bytes) -> None:
    await socket.close(code=code, message=why)
