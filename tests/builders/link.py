"""A way between two processes that a test can cut: what comes to its port is carried to another one, while it holds."""

from __future__ import annotations

import contextlib
import socket
import threading


class Link:
    """Carries connections from `port` to `target` (a port of this machine). `cut` ends them and lets no new ones in."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._holds = True
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.carried = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """From now on nothing gets through."""
        with self._lock:
            self._holds = False
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
            for pair in ((inner, outer), (outer, inner)):
                threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        with self._lock:
            self._open -= {source, sink}
