"""The one outgoing connection of an external node: a WebSocket to the edge, over which NATS' protocol goes.

The agent connects to a port of this process as it would to NATS; so its client does what it always does when the
connection is lost, and this module only carries bytes.
"""

from __future__ import annotations

import asyncio
import contextlib

import aiohttp
import structlog

from services.shared.relay import relay

log = structlog.get_logger()

CONNECTION = "/v1/nodes/connection"
ALIVE_S = 10.0
OPEN_S = 10.0


class Uplink:
    """Start it, connect to `url`. When the platform says that this node is none (any more), `refused` is set, and
    `refusal` says why."""

    def __init__(self, endpoint: str, node: str, secret: str) -> None:
        self._address = endpoint.rstrip("/") + CONNECTION
        self._headers = {"Authorization": f"Bearer {node}:{secret}"}
        self._server: asyncio.Server | None = None
        self._carrying: set[asyncio.Task[None]] = set()
        self.url = ""
        self.refused = asyncio.Event()
        self.refusal = ""

    async def start(self) -> None:
        """Listen on a free port of this machine alone."""
        self._http = aiohttp.ClientSession()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Let go."""
        if self._server is None:
            return
        self._server.close()
        for task in self._carrying:
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)
        await self._http.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._carry(reader, writer))
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(OPEN_S):
                socket = await self._http.ws_connect(
                    self._address, headers=self._headers, heartbeat=ALIVE_S, max_msg_size=0
                )
            async with socket:
                await relay(socket, reader, writer)
        except aiohttp.WSServerHandshakeError as error:
            await self._judge(error.status)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            log.debug("uplink.away", error=repr(error))
        finally:
            writer.close()

    async def _judge(self, status: int) -> None:
        """The edge answered, but with no WebSocket."""
        log.warning("uplink.not_opened", status=status)
        if status != 403:
            return
        with contextlib.suppress(aiohttp.ClientError, OSError):
            async with self._http.get(self._address, headers=self._headers) as answer:
                if answer.status == 403:
                    self.refusal = (await answer.json()).get("message", "refused")
                    self.refused.set()
