"""Bytes between a WebSocket and a stream: the one outgoing connection of an external node, at either end."""

from __future__ import annotations

import asyncio
import contextlib

from aiohttp import ClientWebSocketResponse, WSMsgType, web

CHUNK = 64 * 1024

Socket = ClientWebSocketResponse | web.WebSocketResponse


async def relay(socket: Socket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Both ways, until one of the two sides is gone. Closes neither."""
    ways = [asyncio.ensure_future(_inwards(socket, writer)), asyncio.ensure_future(_outwards(socket, reader))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _inwards(socket: Socket, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        async for message in socket:
            if message.type == WSMsgType.BINARY:
                writer.write(message.data)
                await writer.drain()


async def _outwards(socket: Socket, reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(ConnectionError, RuntimeError):
        while data := await reader.read(CHUNK):
            await socket.send_bytes(data)
