"""Content sealed as it comes. An upload in the store below has a header and segments, and gets its end when it is
whole.

Each time that somebody stops to append, what is left is a short segment, so that it is on disk. An upload that was
sent in pieces that are no multiple of a segment has short ones in its midst, and is written anew when it is finished:
whole content has none, or no range of it could be found.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from concurrent.futures import Executor
from typing import Any, NamedTuple, ParamSpec, TypeVar

from services.registry.adapters.sealing import Sealer
from services.registry.decisions.names import RepositoryId
from services.registry.decisions.segments import (
    FRAME,
    HEADER_SIZE,
    OVERHEAD,
    SEGMENT,
    Damaged,
    read_length,
    sealed_name,
)
from services.registry.ports import (
    BlobStore,
    ContentKey,
    Shelf,
    StorageAway,
    StorageFull,
    Upload,
    UploadTaken,
    UploadUnknown,
    WrongDigest,
    WrongOffset,
)

_P = ParamSpec("_P")
_T = TypeVar("_T")

BATCH = 8 * SEGMENT


class Run(NamedTuple):
    """Where segments begin to follow one another of which only the last may be short: offset in the content, offset
    below, index of the first."""

    content: int
    below: int
    index: int


class Progress:
    """How far an upload is. More than one of `runs`, and there is a short segment in the midst."""

    def __init__(self, sealer: Sealer) -> None:
        self.sealer = sealer
        self.index = 0
        self.size = 0
        self.below = HEADER_SIZE
        self.hash: Any = hashlib.sha256()
        self.runs = [Run(0, HEADER_SIZE, 0)]

    def copy(self) -> Progress:
        """The same, to go on from."""
        other = Progress(self.sealer)
        other.index, other.size, other.below = self.index, self.size, self.below
        other.hash, other.runs = self.hash.copy(), list(self.runs)
        return other

    def seal(self, data: bytes | memoryview) -> bytearray:
        """The next segments."""
        sealed = self.sealer.seal(self.index, data)
        self.hash.update(data)
        self._went_on(len(data), len(sealed))
        return sealed

    def opened(self, content: bytes | bytearray, below: int) -> None:
        """Segments that are there already, and their content."""
        self.hash.update(content)
        self._went_on(len(content), below)

    def _went_on(self, size: int, below: int) -> None:
        if size and self.size != self._aligned():
            self.runs.append(Run(self.size, self.below, self.index))
        self.index += -(-size // SEGMENT)
        self.below += below  # before the size: who looks meanwhile must not see what is not written
        self.size += size

    def _aligned(self) -> int:
        start = self.runs[-1].content
        return start + (self.size - start) // SEGMENT * SEGMENT

    def run_of(self, offset: int) -> Run:
        """The run that has this offset of the content."""
        return next(run for run in reversed(self.runs) if run.content <= offset)

    def arrived(self, below: int) -> int:
        """How much of the content is in so many bytes below."""
        if below >= self.below:
            return self.size
        for run in reversed(self.runs):
            if below >= run.below:
                return run.content + (below - run.below) // FRAME * SEGMENT
        return 0


class SealedUpload:
    """See ports.Upload."""

    def __init__(
        self,
        store: BlobStore,
        below: Upload,
        repository: RepositoryId,
        key: ContentKey,
        executor: Executor,
        forget: Callable[[SealedUpload], None],
    ) -> None:
        self.id = below.id
        self.repository = repository
        self._store = store
        self._below = below
        self._key = key
        self._executor = executor
        self._forget = forget
        self._done: Progress | None = None
        self._going: Progress | None = None
        self._writer: object = None
        self._gone = False
        self._quiet = asyncio.Event()  # nothing that came waits to be sealed and written
        self._quiet.set()
        self._looking = asyncio.Lock()

    @property
    def size(self) -> int:
        """How much has arrived."""
        progress = self._going or self._done
        return progress.arrived(self._below.size) if progress is not None else 0

    async def _run(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: function(*args, **kwargs))

    async def settle(self) -> None:
        """Find out how far it is, if nobody knows: a process before this one wrote it. What came over a connection that
        broke off a moment ago is written first."""
        while not self._quiet.is_set():
            await self._quiet.wait()
        if self._done is None and self._going is None:
            await self.claim()

    async def read(self, start: int, stop: int) -> bytes:
        """See ports.Upload."""
        progress = self._going or self._done
        if progress is None:
            return b""
        run = progress.run_of(start)
        first = (start - run.content) // SEGMENT
        base = run.content + first * SEGMENT
        count = min(-(-(stop - base) // SEGMENT), BATCH // SEGMENT)
        at = run.below + first * FRAME
        frames = await self._below.read(at, at + count * FRAME)
        content = await self._run(progress.sealer.open, run.index + first, frames[: _whole(frames)])
        return bytes(content[start - base : stop - base])

    async def claim(self) -> int:
        """See ports.Upload."""
        me = self._writer = object()
        return (await self._claimed(me)).size

    async def truncate(self, size: int) -> None:
        """See ports.Upload. A segment that is cut is written anew."""
        me = self._writer = object()
        done = await self._claimed(me)
        if size >= done.size:
            return
        run = done.run_of(size)
        full = (size - run.content) // SEGMENT
        left = await self.read(run.content + full * SEGMENT, size) if size > run.content + full * SEGMENT else b""
        await self._below.truncate(run.below + full * FRAME)
        self._done = None
        if left:
            await self.append(_once(left))

    async def _claimed(self, me: object) -> Progress:
        """How far it is, when nobody else writes any more. Raises UploadTaken, UploadUnknown."""
        if self._gone:
            raise UploadUnknown(self.id)
        async with self._looking:
            below = await self._below.claim()
            self._going = None
            if self._done is None or self._done.below != below:
                self._done = await self._caught_up(below) if below else None
        if self._writer is not me:
            raise UploadTaken(self.id)
        return self._done or Progress(Sealer.new(self._key))

    async def append(self, chunks: AsyncIterable[bytes], start: int | None = None) -> int:
        """See ports.Upload."""
        me = self._writer = object()
        done = await self._claimed(me)
        if start is not None and start != done.size:
            raise WrongOffset(done.size)
        going = self._going = done.copy()
        known = True
        try:
            below = await self._below.append(self._sealed(me, going, done, chunks))
        except StorageFull:
            self._forget(self)
            raise
        except asyncio.CancelledError:
            known = False  # a batch may be sealed in a thread just now
            raise
        finally:
            if self._writer is me:
                self._done = going if known and going.below == self._below.size else None
                self._going = None
            self._quiet.set()
        if below != going.below:
            raise UploadTaken(self.id)
        return going.size

    async def _sealed(
        self, me: object, going: Progress, done: Progress, chunks: AsyncIterable[bytes]
    ) -> AsyncGenerator[bytes, None]:
        """The chunks, sealed in batches; what came before they broke off comes out too."""
        if done.below == HEADER_SIZE and self._done is None:
            yield going.sealer.header
        held: list[bytes] = []
        waiting = 0
        broken: Exception | None = None
        try:
            async for chunk in self._coming(chunks):
                held.append(chunk)
                waiting += len(chunk)
                if waiting >= BATCH:
                    data, rest = _cut(held, waiting)
                    held, waiting = [rest] if rest else [], len(rest)
                    yield await self._seal(me, going, data)
        except Exception as error:
            broken = error
        if waiting:
            yield await self._seal(me, going, b"".join(held))
        if broken is not None:
            raise broken

    async def _coming(self, chunks: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
        """The chunks; it is quiet while the next one is waited for."""
        iterator = aiter(chunks)
        while True:
            self._quiet.set()
            try:
                chunk = await anext(iterator)
            except StopAsyncIteration:
                return
            finally:
                self._quiet.clear()
            yield chunk

    async def _seal(self, me: object, going: Progress, data: bytes | memoryview) -> Any:
        if self._writer is not me:
            raise UploadTaken(self.id)
        return await self._run(going.seal, data)

    async def _caught_up(self, below: int) -> Progress | None:
        """How far it is, read anew; what a crash tore off at the end is dropped. None: not even the header is there."""
        try:
            progress = Progress(Sealer.of(self._key, await _read(self._below, 0, HEADER_SIZE)))
        except Damaged:
            await self._below.truncate(0)
            return None
        step = 16 * FRAME
        while progress.below < below:
            frames = await _read(self._below, progress.below, min(progress.below + step, below))
            whole = _whole(frames)
            try:
                content = await self._run(progress.sealer.open, progress.index, frames[:whole])
            except Damaged:
                whole = 0
            if whole:
                await self._run(progress.opened, content, whole)
            elif step > FRAME:
                step = FRAME  # one by one, to the last that is whole
            else:
                break
        if progress.below < below:
            await self._below.truncate(progress.below)
        return progress

    async def finish(self, digest: str, shelf: Shelf = "blobs", *, known: bool = False) -> int:
        """See ports.Upload."""
        me = self._writer = object()
        done = await self._claimed(me)
        self._gone = True
        actual = "sha256:" + done.hash.hexdigest()
        try:
            if not known and actual != digest:
                raise WrongDigest(actual)
            if len(done.runs) > 1:
                await self._write_anew(done, digest, shelf)
            else:
                await self._end(self._below, done, digest, shelf, begun=self._done is not None)
        except StorageAway:
            self._gone = False  # nothing of it is lost: it can be finished later
            raise
        except BaseException:
            await self.abort()
            raise
        await self.abort()
        return done.size

    async def _end(self, below: Upload, done: Progress, digest: str, shelf: Shelf, *, begun: bool) -> None:
        head = b"" if begun else done.sealer.header
        await below.append(_once(head + done.sealer.end(done.index, done.size, digest)))
        await below.finish(sealed_name(self._key.id, digest), shelf, known=True)

    async def _write_anew(self, done: Progress, digest: str, shelf: Shelf) -> None:
        """Without short segments in the midst."""
        below = await self._store.begin(self.repository, hashed=False)
        anew = SealedUpload(self._store, below, self.repository, self._key, self._executor, lambda _: None)
        try:
            await anew.append(self._contents(done))
            await anew.finish(digest, shelf)
        except BaseException:
            await anew.abort()
            raise

    async def _contents(self, done: Progress) -> AsyncGenerator[bytes, None]:
        again = Progress(done.sealer)
        while again.below < done.below:
            frames = await _read(self._below, again.below, min(again.below + 16 * FRAME, done.below))
            whole = _whole(frames)
            content = await self._run(again.sealer.open, again.index, frames[:whole])
            again.opened(content, whole)
            yield bytes(content)

    async def abort(self) -> None:
        """See ports.Upload."""
        self._writer, self._gone = object(), True
        self._forget(self)
        await self._below.abort()


def _whole(frames: bytes) -> int:
    """How many bytes of these are whole segments, of which only the last may be short: no segment after it."""
    at = 0
    while at + OVERHEAD < len(frames):
        length = read_length(memoryview(frames)[at:])
        if not 0 < length <= SEGMENT or at + length + OVERHEAD > len(frames):
            break
        at += length + OVERHEAD
        if length < SEGMENT:
            break
    return at


def _cut(held: list[bytes], waiting: int) -> tuple[memoryview | bytes, bytes]:
    """(full segments, the rest)."""
    data = held[0] if len(held) == 1 else b"".join(held)
    full = waiting // SEGMENT * SEGMENT
    return memoryview(data)[:full], data[full:]


async def _read(below: Upload, start: int, stop: int) -> bytes:
    """All of it that is there."""
    parts = []
    while start < stop:
        part = await below.read(start, stop)
        if not part:
            break
        parts.append(part)
        start += len(part)
    return b"".join(parts)


async def _once(data: bytes) -> AsyncGenerator[bytes, None]:
    yield data
