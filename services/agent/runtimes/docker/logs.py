"""What a container wrote, out of the engine's log: framed or raw, with cursors that survive the agent.

With `timestamps` the engine sends each entry of its log in one frame: `<RFC 3339 time> <text>`, and the text of an
entry that was cut (at 16 KiB) has no line end. A cursor is `<nanoseconds>/<n>`: go on behind the n-th entry of that
very time, because `since` counts times, not entries.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator

import aiohttp

from services.agent.ports import LogLine
from services.agent.runtimes.docker.bodies import nanoseconds

_STREAMS = {0: "stdout", 1: "stdout", 2: "stderr"}
_HEADER = struct.Struct(">BxxxL")


class Position:
    """How far a log was read. `since` is the engine's parameter; `seen` entries of that time are known."""

    def __init__(self, cursor: str = "") -> None:
        time, _, count = cursor.partition("/")
        self.time = int(time or 0)
        self.seen = int(count or 0)

    @property
    def since(self) -> str:
        """Seconds with nine fraction digits, as the engine reads it."""
        return f"{self.time // 1_000_000_000}.{self.time % 1_000_000_000:09d}"

    def advance(self, time: int) -> str:
        """One more entry was read; the cursor behind it."""
        self.seen = self.seen + 1 if time == self.time else 1
        self.time = time
        return f"{self.time}/{self.seen}"


async def lines(response: aiohttp.ClientResponse, position: Position, *, tty: bool) -> AsyncIterator[LogLine]:
    """The lines behind `position`, which moves with them. An unfinished line at the end comes as it is."""
    skip, skip_time = position.seen, position.time
    position.seen = 0
    unfinished: dict[str, tuple[int, str]] = {}
    cursor = ""
    async for stream, entry in raw_entries(response) if tty else framed_entries(response):
        stamp, _, text = entry.partition(" ")
        time = nanoseconds(stamp)
        cursor = position.advance(time)
        if time == skip_time and position.seen <= skip:
            continue
        began, before = unfinished.pop(stream, (time, ""))
        if not text.endswith("\n"):
            unfinished[stream] = (began, before + text)
            continue
        yield LogLine(began / 1e9, stream, (before + text).rstrip("\r\n"), cursor)
    for stream, (began, text) in unfinished.items():
        yield LogLine(began / 1e9, stream, text, cursor)


async def framed_entries(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, str]]:
    """(stream, entry) of a container without a terminal."""
    while True:
        try:
            number, length = _HEADER.unpack(await response.content.readexactly(_HEADER.size))
            data = await response.content.readexactly(length)
        except EOFError:  # asyncio.IncompleteReadError is one
            return
        yield _STREAMS.get(number, "stdout"), data.decode(errors="replace")


async def raw_entries(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, str]]:
    """(stream, entry) of a container with a terminal: one stream, entries end with a line end."""
    async for line in response.content:
        yield "stdout", line.decode(errors="replace")
