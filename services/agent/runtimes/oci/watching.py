"""inotify on the event loop: who waits for a file or a directory is woken, and nobody polls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from services.agent.runtimes.oci import syscalls


class Watching:
    """One inotify instance. Belongs to the loop it was started on."""

    def __init__(self) -> None:
        self._inotify = syscalls.Inotify()
        self._events: dict[int, set[asyncio.Event]] = {}
        self._calls: dict[int, Callable[[str], None]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin to read, on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._inotify.fileno(), self._read)

    def close(self) -> None:
        """Wake nobody any more."""
        if self._loop is not None:
            self._loop.remove_reader(self._inotify.fileno())
        self._inotify.close()

    def on_file(self, directory: Path, call: Callable[[str], None]) -> None:
        """Call with the name of each file that gets complete in a directory."""
        mask = syscalls.IN_MOVED_TO | syscalls.IN_CLOSE_WRITE
        self._calls[self._inotify.add(directory, mask)] = call

    @contextmanager
    def changes(self, path: Path) -> Iterator[asyncio.Event]:
        """An event that is set whenever a file, or its replacement by another of its name, may have changed."""
        event = asyncio.Event()
        event.set()
        # The directory tells of both: writes to its files, and a new file under the old name.
        mask = syscalls.IN_MODIFY | syscalls.IN_MOVED_TO | syscalls.IN_CREATE
        try:
            watch = self._inotify.add(path.parent, mask)
        except FileNotFoundError:
            yield event
            return
        self._events.setdefault(watch, set()).add(event)
        try:
            yield event
        finally:
            others = self._events.get(watch, set())
            others.discard(event)
            if not others:
                self._events.pop(watch, None)
                self._inotify.remove(watch)

    def _read(self) -> None:
        for watch, mask, name in self._inotify.read():
            if mask & syscalls.IN_IGNORED:
                for event in self._events.pop(watch, ()):
                    event.set()
                continue
            for event in self._events.get(watch, ()):
                event.set()
            if watch in self._calls and name:
                self._calls[watch](name)
