"""Ships what a container writes into the LOGS stream: in batches, bounded in memory, each line exactly once.

A batch has the message id `container:first:last` (cursors), and the file of cursors says before it is published where
it ends. An agent that was killed in between makes the same batch again, and NATS refuses the double (within the
stream's duplicate window). When the file was lost, lines come twice rather than not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import msgspec
import structlog

from contracts.records.logs import LogBatch, LogEvent
from services.agent.cursors import Cursors, Position
from services.agent.ports import LogLine, NoSuchContainer, Runtime
from services.shared.bus import Bus
from services.shared.clock import Clock
from services.shared.errors import StateUnavailable
from services.shared.waiting import woken

log = structlog.get_logger()

BATCH_BYTES = 256 * 1024
EVENT_BYTES = 256 * 1024
LINGER_S = 0.1
OVERHEAD_BYTES = 26


class LogShipper:
    """Follows one container. `run` returns when the container has ended and all it wrote has landed."""

    def __init__(
        self,
        runtime: Runtime,
        bus: Bus,
        cursors: Cursors,
        clock: Clock,
        container_id: str,
        subject: str,
        restarts: int = 0,
    ) -> None:
        self._runtime = runtime
        self._bus = bus
        self._cursors = cursors
        self._clock = clock
        self._id = container_id
        self._subject = subject
        # The cursors of a container that was started again begin anew, and its batches are no doubles.
        self._source = f"{container_id}:r{restarts}" if restarts else container_id
        self._lines: list[LogLine] = []
        self._bytes = 0
        self._more = asyncio.Event()
        self._room = asyncio.Event()
        self._enough = asyncio.Event()
        self._over = False

    async def run(self) -> None:
        """Ship until all is shipped; only a cancellation ends it earlier."""
        position = self._cursors.read(self._id)
        try:
            if position.until:
                position = await self._repeat(position)
            reading = asyncio.ensure_future(self._read(position.after))
            try:
                await self._ship_all(position.after)
                await reading
            finally:
                reading.cancel()
        except NoSuchContainer:
            log.info("logs.container_gone", container=self._id)

    async def _repeat(self, position: Position) -> Position:
        """Make the batch that was on its way when the last agent ended once more, exactly as it was."""
        lines: list[LogLine] = []
        async for line in self._runtime.logs(self._id, position.after, follow=False):
            lines.append(line)
            if line.cursor == position.until:
                break
        else:
            return Position(position.after)
        return await self._ship(lines, position.after)

    async def _read(self, after: str) -> None:
        try:
            source: AsyncIterator[LogLine] = self._runtime.logs(self._id, after, follow=True)
            async for line in source:
                self._lines.append(line)
                self._bytes += len(line.text) + OVERHEAD_BYTES
                self._more.set()
                if self._bytes >= BATCH_BYTES:
                    self._enough.set()
                    self._room.clear()
                    await self._room.wait()
        finally:
            self._over = True
            self._enough.set()
            self._more.set()

    async def _ship_all(self, after: str) -> None:
        while True:
            await self._more.wait()
            # Lines come in bursts: a message a burst, not a message a line.
            await woken(self._enough, LINGER_S)
            self._more.clear()
            if not self._over:
                self._enough.clear()
            lines, self._lines, self._bytes = self._lines, [], 0
            self._room.set()
            if lines:
                after = (await self._ship(lines, after)).after
            if self._over and not self._lines:
                return

    async def _ship(self, lines: list[LogLine], after: str) -> Position:
        last = lines[-1].cursor
        events = [event for line in lines for event in to_events(line)]
        if events:
            self._note(Position(after, last))
            batch = LogBatch(events=events, ingested_at=int(self._clock() * 1000))
            message_id = f"{self._source}:{lines[0].cursor}:{last}"
            await self._publish(msgspec.json.encode(batch), message_id)
        position = Position(last)
        self._note(position)
        return position

    def _note(self, position: Position) -> None:
        try:
            self._cursors.write(self._id, position)
        except OSError as error:
            log.warning("logs.cursor_not_written", container=self._id, error=str(error))

    async def _publish(self, payload: bytes, message_id: str) -> None:
        delay = 0.05
        while True:
            try:
                await self._bus.publish(self._subject, payload, {"Nats-Msg-Id": message_id})
                return
            except StateUnavailable as error:
                log.debug("logs.delayed", container=self._id, error=error.message)
            await asyncio.sleep(delay)
            await self._bus.connected.wait()
            delay = min(delay * 2, 2.0)


def to_events(line: LogLine) -> list[LogEvent]:
    """A line as log events: none for an empty one, several for one that is larger than an event may be."""
    stamp = int(line.time * 1000)
    if len(line.text) * 4 <= EVENT_BYTES:
        return [LogEvent(stamp, line.text)] if line.text else []
    return [LogEvent(stamp, piece) for piece in _pieces(line.text.encode())]


def _pieces(data: bytes) -> Iterator[str]:
    """UTF-8 in pieces that an event may have, none of which ends inside a character."""
    begin = 0
    while begin < len(data):
        end = min(begin + EVENT_BYTES, len(data))
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end -= 1
        yield data[begin:end].decode()
        begin = end
