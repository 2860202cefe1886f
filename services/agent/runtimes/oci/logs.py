"""A container's log as conmon writes it: `<RFC 3339 time> <stdout|stderr> <F|P> <text>`, P for a part of a line.

conmon starts the file anew when it reaches its size limit: then the oldest output is gone, and a cursor into it
continues at the beginning of what is there. A cursor is `<inode>.<offset>`, so the two are told apart.
"""

from __future__ import annotations

import asyncio
import datetime
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from services.agent.ports import LogLine

CHUNK = 256 << 10
LINE_LIMIT = 256 << 10  # a longer line is given in pieces, as CloudWatch Logs would cut it

Subscribe = Callable[[Path], AbstractContextManager[asyncio.Event]]


class LogReader:
    """Reads one log from a cursor on. Calls block (page cache, mostly)."""

    def __init__(self, path: Path, after: str) -> None:
        self._path = path
        self._file = None
        self._rest = b""
        self._parts: dict[bytes, tuple[bytes, list[bytes]]] = {}  # by stream: since when, what
        self._inode, self._offset = _parse_cursor(after)
        self._read_to = 0

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def read(self) -> list[LogLine]:
        """The lines that are complete by now, at most about 256 KiB; empty when there is nothing new."""
        if self._file is None and not self._open():
            return []
        while True:
            # Asked before reading: what was written until then is in this file, and is read first.
            replaced = self._replaced()
            data = self._file.read(CHUNK)
            # A chunk may end no line at all: only the end of the file means that there is nothing.
            if lines := list(self._lines(data)):
                return lines
            if not data:
                return self._continue_in_successor() if replaced else []

    def _continue_in_successor(self) -> list[LogLine]:
        lines = self.finish()
        self._file.close()
        self._file = None
        self._inode, self._offset, self._rest = 0, 0, b""
        return [*lines, *(self.read() if self._open() else [])]

    def finish(self) -> list[LogLine]:
        """What the last lines have without an end: the container is gone."""
        return [self._line(stream) for stream in list(self._parts)]

    def _open(self) -> bool:
        try:
            self._file = self._path.open("rb")
        except FileNotFoundError:
            return False
        inode = os.fstat(self._file.fileno()).st_ino
        if inode != self._inode:
            self._inode, self._offset = inode, 0
        self._file.seek(self._offset)
        self._read_to = self._offset
        return True

    def _replaced(self) -> bool:
        try:
            return self._path.stat().st_ino != self._inode
        except FileNotFoundError:
            return False

    def _lines(self, data: bytes) -> Iterator[LogLine]:
        *complete, self._rest = (self._rest + data).split(b"\n")
        for raw in complete:
            self._read_to += len(raw) + 1
            time, _, rest = raw.partition(b" ")
            stream, _, rest = rest.partition(b" ")
            flag, _, text = rest.partition(b" ")
            if flag[:1] not in (b"F", b"P"):
                continue
            _, parts = self._parts.setdefault(stream, (time, []))
            parts.append(text)
            if flag[:1] == b"F":
                yield self._line(stream)
            elif sum(map(len, parts)) >= LINE_LIMIT:
                whole, begun = _whole_characters(b"".join(parts))
                self._parts[stream] = (time, [whole])
                yield self._line(stream)
                if begun:
                    self._parts[stream] = (time, [begun])

    def _line(self, stream: bytes) -> LogLine:
        time, parts = self._parts.pop(stream)
        text = b"".join(parts)
        # Who continues here gets only the rest of what the other stream had not ended yet.
        cursor = f"{self._inode:x}.{self._read_to:x}"
        return LogLine(_seconds(time), stream.decode(), text.decode(errors="replace"), cursor)


def _whole_characters(text: bytes) -> tuple[bytes, bytes]:
    """UTF-8, and the bytes at its end of a character that has only begun."""
    for back in range(1, min(4, len(text) + 1)):
        first = text[-back]
        if first & 0xC0 == 0x80:
            continue
        length = 4 if first >= 0xF0 else 3 if first >= 0xE0 else 2 if first >= 0xC0 else 1
        return (text[:-back], text[-back:]) if length > back else (text, b"")
    return text, b""


async def follow(path: Path, after: str, watch: Subscribe, end: asyncio.Event) -> AsyncIterator[LogLine]:
    """The lines behind a cursor, then those to come, until the container has ended and all was given.

    `watch` gives an event that is set when the file may have changed; `end` is set when the container ends.
    """
    reader = LogReader(path, after)
    try:
        with watch(path) as changed:
            while True:
                over = end.is_set()
                changed.clear()
                lines = await asyncio.to_thread(reader.read)
                for line in lines:
                    yield line
                if lines:
                    continue
                if over:
                    break
                await _first(changed, end)
        for line in reader.finish():
            yield line
    finally:
        reader.close()


async def read_all(path: Path, after: str, ended: bool) -> AsyncIterator[LogLine]:
    """The lines behind a cursor that are there now."""
    reader = LogReader(path, after)
    try:
        while lines := await asyncio.to_thread(reader.read):
            for line in lines:
                yield line
        for line in reader.finish() if ended else []:
            yield line
    finally:
        reader.close()


async def _first(*events: asyncio.Event) -> None:
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()


def _parse_cursor(cursor: str) -> tuple[int, int]:
    inode, _, offset = cursor.partition(".")
    try:
        return int(inode, 16), int(offset, 16)
    except ValueError:
        return 0, 0


_STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)\Z")


def _seconds(stamp: bytes) -> float:
    """RFC 3339 with nine digits, which fromisoformat of Python 3.11 does not take. 0 for what is no time."""
    found = _STAMP.match(stamp)
    if found is None:
        return 0.0
    whole, fraction, zone = (group.decode() if group else "" for group in found.groups())
    return datetime.datetime.fromisoformat(whole + zone).timestamp() + float(fraction or 0)
