"""A webhook's target: an HTTP server of the test that keeps what it is sent."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from services.events.decisions import deliveries


class Received(NamedTuple):
    """One delivery: what it brought, and the status that it was answered with."""

    headers: dict[str, str]
    body: bytes
    status: int

    @property
    def event(self) -> dict[str, Any]:
        """The event."""
        return json.loads(self.body)

    def signed_with(self, secret: str) -> bool:
        """Whether the signature is right, as a receiver finds out."""
        at, identity = float(self.headers["webhook-timestamp"]), self.headers["webhook-id"]
        expected = deliveries.headers(deliveries.read_secret(secret), identity, self.body, at)
        return expected["webhook-signature"] == self.headers["webhook-signature"]


class Target:
    """Listens from its making on; `answers` says with what status (of how many it had before)."""

    def __init__(self, answers: Callable[[int], int] = lambda count: 204) -> None:
        self.received: list[Received] = []
        self.open = threading.Event()
        self.open.set()
        self.asked = threading.Event()
        target = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                target.asked.set()
                target.open.wait(60)
                status = answers(len(target.received))
                headers = {name.lower(): value for name, value in self.headers.items()}
                target.received.append(Received(headers, body, status))
                try:
                    self.send_response(status)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                except OSError:  # whoever asked is gone
                    return

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def taken(self) -> list[dict[str, Any]]:
        """The events that were taken."""
        return [one.event for one in self.received if one.status < 300]

    async def until(self, condition: Callable[[], bool], seconds: float = 30.0) -> None:
        """Return when what was received is as wanted."""
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    def close(self) -> None:
        """Listen no more."""
        self.open.set()
        self._server.shutdown()
        self._server.server_close()
