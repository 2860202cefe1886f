"""A client of Session Manager's data channel, written from the format's public description and from nothing else here:
it shares no code with the platform. A plugin's behaviour in small: it acknowledges, answers the handshake, counts."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

STREAM_IN, STREAM_OUT = b"input_stream_data", b"output_stream_data"


def build(kind: bytes, payload: bytes, payload_type: int, sequence: int, flags: int = 0) -> bytes:
    """A message's bytes."""
    number = uuid.uuid4().bytes
    parts = [
        (116).to_bytes(4, "big"),
        kind + b" " * (32 - len(kind)),
        (1).to_bytes(4, "big"),
        int(time.time() * 1000).to_bytes(8, "big"),
        sequence.to_bytes(8, "big"),
        flags.to_bytes(8, "big"),
        number[8:],
        number[:8],
        hashlib.sha256(payload).digest(),
        payload_type.to_bytes(4, "big"),
        len(payload).to_bytes(4, "big"),
        payload,
    ]
    return b"".join(parts)


def parse(data: bytes) -> dict[str, Any]:
    """A message as a dict; asserts what the plugin would."""
    payload = data[120:]
    assert int.from_bytes(data[0:4], "big") == 116
    assert int.from_bytes(data[36:40], "big") == 1
    assert int.from_bytes(data[40:48], "big") > 0
    assert hashlib.sha256(payload).digest() == data[80:112]
    assert int.from_bytes(data[116:120], "big") == len(payload)
    return {
        "type": data[4:36].strip(b" \0").decode(),
        "sequence": int.from_bytes(data[48:56], "big"),
        "flags": int.from_bytes(data[56:64], "big"),
        "id": str(uuid.UUID(bytes=data[72:80] + data[64:72])),
        "payload_type": int.from_bytes(data[112:116], "big"),
        "payload": payload,
    }


class Channel:
    """A session's client. `output` is all that was written, `closed` the payload of channel_closed."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._sent = 0
        self._expected = 0
        self.output = b""
        self.closed: dict[str, Any] | None = None
        self.acknowledged: list[int] = []
        self.session_type = ""
        self._complete = False

    @classmethod
    async def open(cls, http: aiohttp.ClientSession, session: dict[str, str], token: str | None = None) -> Channel:
        """Connect and send open_data_channel."""
        channel = cls(await http.ws_connect(session["streamUrl"]))
        await channel._socket.send_str(
            json.dumps(
                {
                    "MessageSchemaVersion": "1.0",
                    "RequestId": str(uuid.uuid4()),
                    "TokenValue": session["tokenValue"] if token is None else token,
                    "ClientId": str(uuid.uuid4()),
                    "ClientVersion": "1.2.650.0",
                }
            )
        )
        return channel

    async def shaken(self, seconds: float = 30.0) -> Channel:
        """Take in what comes until the handshake is complete: only then a client sends input."""
        async with asyncio.timeout(seconds):
            while not self._complete:
                assert await self._next(), f"ended with {self.closed}, close code {self.close_code}"
        return self

    async def say(self, payload: bytes, payload_type: int = 1) -> None:
        """Send one message of input."""
        await self._socket.send_bytes(build(STREAM_IN, payload, payload_type, self._sent))
        self._sent += 1

    async def resize(self, columns: int, rows: int) -> None:
        """Send the terminal's size."""
        await self.say(json.dumps({"cols": columns, "rows": rows}).encode(), 3)

    async def until(self, text: bytes, seconds: float = 30.0) -> None:
        """Take in what comes until this was written."""
        async with asyncio.timeout(seconds):
            while text not in self.output:
                assert await self._next(), f"ended with {self.closed}, having said {self.output!r}"

    async def end(self, seconds: float = 30.0) -> dict[str, Any] | None:
        """Take in what comes until the end; channel_closed, or None when the socket just closed."""
        async with asyncio.timeout(seconds):
            while await self._next():
                pass
        return self.closed

    async def leave(self) -> None:
        """Close the socket without a word."""
        await self._socket.close()

    @property
    def close_code(self) -> int | None:
        """Why the socket was closed."""
        return self._socket.close_code

    async def _next(self) -> bool:
        frame = await self._socket.receive()
        if frame.type is not aiohttp.WSMsgType.BINARY:
            return False
        message = parse(frame.data)
        if message["type"] == "acknowledge":
            content = json.loads(message["payload"])
            assert content["AcknowledgedMessageType"] == STREAM_IN.decode()
            self.acknowledged.append(content["AcknowledgedMessageSequenceNumber"])
        elif message["type"] == "channel_closed":
            self.closed = json.loads(message["payload"])
        else:
            assert message["type"] == STREAM_OUT.decode()
            await self._take(message)
        return True

    async def _take(self, message: dict[str, Any]) -> None:
        content = {
            "AcknowledgedMessageType": message["type"],
            "AcknowledgedMessageId": message["id"],
            "AcknowledgedMessageSequenceNumber": message["sequence"],
            "IsSequentialMessage": True,
        }
        await self._socket.send_bytes(build(b"acknowledge", json.dumps(content).encode(), 0, 0, 3))
        if message["sequence"] != self._expected:
            return  # it came again
        self._expected += 1
        if message["payload_type"] == 5:
            (action,) = json.loads(message["payload"])["RequestedClientActions"]
            self.session_type = action["ActionParameters"]["SessionType"]
            done = {"ActionType": action["ActionType"], "ActionStatus": 1, "ActionResult": None, "Error": ""}
            answer = {"ClientVersion": "1.2.650.0", "ProcessedClientActions": [done]}
            await self.say(json.dumps(answer).encode(), 6)
        elif message["payload_type"] == 7:
            self._complete = True
        elif message["payload_type"] in (1, 11):
            self.output += message["payload"]


def ask(session: dict[str, str], talk: Callable[[Channel], Awaitable[None]], **how: str) -> Channel:
    """Open the session's channel, `talk` over it, and wait for its end."""

    async def run() -> Channel:
        async with aiohttp.ClientSession() as http:
            channel = await Channel.open(http, session, **how)
            await talk(channel)
            await channel.end()
            return channel

    return asyncio.run(run())


async def silent(channel: Channel) -> None:
    """Say nothing."""
