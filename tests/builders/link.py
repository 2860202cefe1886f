"""A way between two processes that a test can cut: what comes to its port is carried to another one, while it holds."""

from __future__ import annotations

import contextlib
import socket
import threading


class Link:
    """Carries connections from `port` to `target` (a port of this machine). `cut` ends them and lets no new ones in.

    `sent` counts the bytes that clients sent. With `cut_at` all connections end when it has reached that; new ones get
    through.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._holds = True
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.carried = 0
        self.sent = 0
        self.cut_at: int | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """From now on nothing gets through."""
        with self._lock:
            self._holds = False
            self._end_all()

    def _end_all(self) -> None:
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """New connections get through again."""
        self._holds = True

    def close(self) -> None:
        """Let go."""
        self.cut()
        self._listener.close()

    def connections(self) -> int:
        """How many there are now."""
        return len(self._open) // 2

    def _accept(self) -> None:
        while True:
            try:
                inner, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if not self._holds:
                    inner.close()
                    continue
                try:
                    outer = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    inner.close()
                    continue
                self._open |= {inner, outer}
                self.carried += 1
            for pair in ((inner, outer, True), (outer, inner, False)):
                threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _count(self, data: bytes) -> bytes:
        """What of it gets through: all, or what is left until the cut."""
        with self._lock:
            left = len(data) if self.cut_at is None else min(len(data), self.cut_at - self.sent)
            self.sent += left
            return data[:left]

    def _carry(self, source: socket.socket, sink: socket.socket, counts: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                through = self._count(data) if counts else data
                sink.sendall(through)
                if len(through) < len(data):
                    with self._lock:
                        self.cut_at = None
                        self._end_all()
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        with self._lock:
            self._open -= {source, sink}
