"""An upload on its way from the spool to S3: in parts, as soon as each of them is whole."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import structlog

from services.registry.ports import STEP
from services.shared.s3 import Bucket, Part, S3Error, S3NotFound

log = structlog.get_logger()

PART = 8 * STEP
"""Ten thousand parts, which is as many as there may be, are 80 GiB; ECR's largest layer has 52,000 MiB."""

T = TypeVar("T")
Read = Callable[[Path, int, int], Awaitable[bytes]]


class Sender:
    """Sends a file that grows to one object. Parts are sent beside each other, as many as there are `slots`, which
    bounds the memory that all senders take. What could not be sent is sent again when the upload is finished: the
    file has all of it."""

    def __init__(self, bucket: Bucket, key: str, path: Path, slots: asyncio.Semaphore, read: Read) -> None:
        self._bucket = bucket
        self._key = key
        self._path = path
        self._slots = slots
        self._read = read
        self._begun: asyncio.Task[str] | None = None
        self._parts: list[asyncio.Task[Part]] = []

    def arrived(self, size: int) -> None:
        """So much of the file is there, and stays as it is: send the parts that are whole. The last bytes are kept
        back: an object of one part needs no upload in parts."""
        while (len(self._parts) + 1) * PART < size:
            number = len(self._parts) + 1
            self._parts.append(self._spawned(number, PART))

    async def finish(self, size: int) -> None:
        """Send what is left, and make it an object. Raises S3Error; it can be finished again then."""
        if size <= PART:
            self.reset()
            await self._bucket.put(self._key, await self._read(self._path, 0, size))
            return
        try:
            await self._finished(size)
        except S3NotFound:  # somebody aborted it: a rule of the bucket's, or another registry
            self.reset()
            await self._finished(size)

    def reset(self) -> None:
        """Forget what was sent; it is dropped there as soon as that can be done."""
        begun, parts = self._begun, self._parts
        self._begun, self._parts = None, []
        for task in parts:
            task.cancel()
        if begun is not None:
            _spawn(self._dropped(begun, parts))

    async def stop(self) -> None:
        """Stop to send."""
        tasks = [*self._parts, *([self._begun] if self._begun is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _dropped(self, begun: asyncio.Task[str], parts: list[asyncio.Task[Part]]) -> None:
        with contextlib.suppress(S3Error):  # else the cleaner will
            await asyncio.gather(*parts, return_exceptions=True)
            await self._bucket.abort(self._key, await begun)

    async def _finished(self, size: int) -> None:
        self.arrived(size)
        for index, task in enumerate(self._parts):
            if task.done() and (task.cancelled() or task.exception() is not None):
                self._parts[index] = self._spawned(index + 1, PART)
        count = len(self._parts)
        last = self._spawned(count + 1, size - count * PART)
        parts = await _all([*self._parts, last])
        try:
            await self._bucket.complete(self._key, await self._upload(), parts)
        except S3NotFound:
            # The answer to an attempt that did it may have been lost.
            if (await self._bucket.head(self._key)).size != size:
                raise
        self._begun, self._parts = None, []

    def _spawned(self, number: int, length: int) -> asyncio.Task[Part]:
        return _spawn(self._part(number, length))

    async def _part(self, number: int, length: int) -> Part:
        async with self._slots:
            upload = await self._upload()
            data = await self._read(self._path, (number - 1) * PART, length)
            return await self._bucket.put_part(self._key, upload, number, data)

    async def _upload(self) -> str:
        if self._begun is None or (self._begun.done() and self._begun.exception() is not None):
            self._begun = _spawn(self._bucket.begin(self._key))
        return await asyncio.shield(self._begun)


_running: set[asyncio.Task[Any]] = set()
"""The loop itself holds its tasks weakly."""


def _spawn(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    task = asyncio.ensure_future(work)
    _running.add(task)
    task.add_done_callback(_over)
    return task


def _over(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("registry.part_failed", error=str(error))


async def _all(tasks: list[asyncio.Task[Part]]) -> list[Part]:
    """What all of them give, when all are over. Raises the first error."""
    await asyncio.wait(tasks)
    return [task.result() for task in tasks]
