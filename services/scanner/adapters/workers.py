"""Worker processes: one a piece of work, gone when it is done. See services.scanner.worker for what they do."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from importlib.util import find_spec
from pathlib import Path

from services.scanner.ports import WorkerFailed

PROGRAM = "import sys; from services.scanner.worker import main; sys.exit(main())"
"""Not `-m`, whose own imports take as long as all of ours."""
OUTPUT_LIMIT = 256 << 20
_READ = 1 << 18


def _environment() -> dict[str, str]:
    """Only where the modules are: a worker is told no password, and reads no site configuration, nor what lies in the
    directory that somebody started the platform in."""
    own = str(Path(__file__).resolve().parents[3])
    spec = find_spec("packaging")
    assert spec is not None and spec.origin is not None
    path = os.pathsep.join((own, str(Path(spec.origin).parents[1])))
    return {"PYTHONPATH": path, "PYTHONSAFEPATH": "1", "PATH": "/usr/bin:/bin"}


def _proxies() -> dict[str, str]:
    names = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE")
    return {name: os.environ[name] for name in names if name in os.environ}


class Workers:
    """Runs workers, at most `most` at once."""

    def __init__(self, most: int) -> None:
        self._free = asyncio.Semaphore(most)
        self._env = _environment()

    async def run(
        self,
        mode: str,
        *arguments: str,
        feed: AsyncIterator[bytes] | None = None,
        timeout_s: float = 300.0,
        most: int = OUTPUT_LIMIT,
        apart: bool = False,
        proxied: bool = False,
    ) -> bytes:
        """The answer (JSON, at most so many bytes) to one piece of work, `feed` being its stdin. What takes long and
        nobody waits for runs `apart`: it takes no scan's place. `proxied`: it is told of the proxy that this process
        was told of.

        Raises WorkerFailed, TimeoutError, and what `feed` raises.
        """
        async with contextlib.nullcontext() if apart else self._free:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-S", "-c", PROGRAM, mode, *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**self._env, **_proxies()} if proxied else self._env,
            )  # fmt: skip
            try:
                async with asyncio.timeout(timeout_s):
                    return await _talk(process, feed, most)
            finally:
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        process.kill()
                    await process.wait()


async def _talk(process: asyncio.subprocess.Process, feed: AsyncIterator[bytes] | None, most: int) -> bytes:
    assert process.stdout is not None and process.stderr is not None
    feeding = asyncio.create_task(_feed(process, feed))
    complaints = asyncio.create_task(process.stderr.read(_READ))
    try:
        parts, size = [], 0
        while part := await process.stdout.read(_READ):
            parts.append(part)
            size += len(part)
            if size > most:
                raise WorkerFailed(f"its answer has more than {most} bytes")
        code = await process.wait()
        said = (await complaints).decode(errors="replace").strip()
        await _fed(feeding)
    finally:
        for task in (feeding, complaints):
            task.cancel()
        await asyncio.gather(feeding, complaints, return_exceptions=True)
    if code != 0 or not parts:
        reason = f"it was ended by signal {-code}" if code < 0 else f"it ended with {code}"
        raise WorkerFailed(f"{reason}: {said.splitlines()[-1]}" if said else reason)
    return b"".join(parts)


async def _fed(feeding: asyncio.Task[None]) -> None:
    """What the source of the bytes came to grief with goes before what the worker made of half of them."""
    if not feeding.done():  # a worker that refused what it saw did not wait for the rest
        return
    await feeding


async def _feed(process: asyncio.subprocess.Process, feed: AsyncIterator[bytes] | None) -> None:
    assert process.stdin is not None
    try:
        if feed is not None:
            async for chunk in feed:
                process.stdin.write(chunk)
                await process.stdin.drain()
    except (BrokenPipeError, ConnectionResetError):
        pass  # it has seen enough; why is in its answer
    finally:
        with contextlib.suppress(OSError):
            process.stdin.close()
        if isinstance(feed, AsyncGenerator):
            await feed.aclose()
