"""A load of one request over keep-alive connections: enough client for servers of tens of thousands a second.

A process of its own (`python -m tests.bench.load`), so that client and server do not share an interpreter.
"""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
import time

import uvloop


class _Connection(asyncio.Protocol):
    """Sends the request again as soon as it is answered; makes the connection anew when the server ends it."""

    def __init__(self, host: str, port: int, request: bytes, until: float) -> None:
        loop = asyncio.get_running_loop()
        self.host, self.port, self.request, self.until = host, port, request, until
        self.done: asyncio.Future[None] = loop.create_future()
        self.answered = self.failed = 0
        self.buffer = b""

    async def connect(self) -> None:
        """Connect; the first request is sent at once."""
        await asyncio.get_running_loop().create_connection(lambda: self, self.host, self.port)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.buffer = b""
        transport.write(self.request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[:end].lower()
        at = head.find(b"content-length:")
        if at >= 0 and len(self.buffer) < end + 4 + int(head[at + 15 :].split(b"\r\n", 1)[0]):
            return
        if at < 0 and not self.buffer.endswith(b"0\r\n\r\n"):  # chunked
            return
        self._count()
        if head.startswith(b"http/1.0") or b"connection: close" in head:
            self.transport.close()
        else:
            self._next()

    def _count(self) -> None:
        if self.buffer[9:12] == b"200":
            self.answered += 1
        else:
            self.failed += 1
        self.buffer = b""

    def _next(self) -> None:
        if time.monotonic() < self.until:
            self.transport.write(self.request)  # type: ignore[attr-defined]
        elif not self.done.done():
            self.done.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if self.done.done():
            return
        if error is not None or time.monotonic() >= self.until:
            self.done.set_result(None)
            return
        asyncio.ensure_future(self.connect()).add_done_callback(self._on_connected)

    def _on_connected(self, connecting: asyncio.Future[None]) -> None:
        if connecting.exception() is not None and not self.done.done():
            self.done.set_exception(connecting.exception() or ConnectionError())


async def _load(host: str, port: int, request: bytes, connections: int, seconds: float) -> dict[str, float]:
    began = time.monotonic()
    running = [_Connection(host, port, request, began + seconds) for _ in range(connections)]
    await asyncio.gather(*(p.connect() for p in running))
    await asyncio.wait_for(asyncio.gather(*(p.done for p in running)), seconds + 30)
    took = time.monotonic() - began
    return {"per_second": sum(p.answered for p in running) / took, "failed": sum(p.failed for p in running)}


def load(port: int, request: bytes, *, connections: int = 8, seconds: float = 4.0) -> float:
    """Requests answered with 200 a second. Raises RuntimeError when some were answered otherwise."""
    arguments = json.dumps([port, base64.b64encode(request).decode(), connections, seconds])
    run = subprocess.run(
        [sys.executable, "-m", "tests.bench.load"], input=arguments, capture_output=True, text=True, check=False
    )
    if run.returncode != 0:
        raise RuntimeError(f"the load failed: {run.stderr.strip().splitlines()[-1:]}")
    result = json.loads(run.stdout)
    if result["failed"]:
        raise RuntimeError(f"{result['failed']} requests were not answered with 200")
    return result["per_second"]


if __name__ == "__main__":
    port, request, connections, seconds = json.loads(sys.stdin.read())
    print(json.dumps(uvloop.run(_load("127.0.0.1", port, base64.b64decode(request), connections, seconds))))
