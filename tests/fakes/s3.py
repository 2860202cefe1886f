"""S3 in memory: what services.shared.s3 offers, with a clock of its own and requests that take turns at random."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from hashlib import md5

from services.shared.s3 import Entry, Found, Page, Part, S3NotFound, Unfinished


class FakeBody:
    """See services.shared.s3.Body."""

    def __init__(self, bucket: FakeBucket, key: str, first: int, last: int | None) -> None:
        self._bucket, self._key, self._first, self._last = bucket, key, first, last

    async def __aenter__(self) -> FakeBody:
        await self._bucket.turn()
        data, self.modified = self._bucket.found(self._key)
        self._data = data[self._first : len(data) if self._last is None else self._last + 1]
        self.size, self.total = len(self._data), len(data)
        return self

    async def __aexit__(self, *exception: object) -> None:
        pass

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._data), 100_000):
            await self._bucket.turn()
            yield self._data[start : start + 100_000]


class FakeS3:
    """A client of one bucket, whatever it is called. `now` is the time of its server; `turns`: how often others may get
    in before and after each request is done."""

    def __init__(self, now: float = 0.0, turns: int = 0) -> None:
        self.now = now
        self.turns = turns
        self.objects: dict[str, tuple[bytes, float]] = {}
        self.uploads: dict[str, tuple[str, dict[int, bytes]]] = {}

    def bucket(self, name: str) -> FakeBucket:
        """The bucket."""
        return FakeBucket(self)

    async def close(self) -> None:
        """Nothing is open."""


class FakeBucket:
    """See services.shared.s3.Bucket."""

    def __init__(self, s3: FakeS3) -> None:
        self._s3 = s3

    async def turn(self) -> None:
        """Let others in."""
        for _ in range(random.randint(0, self._s3.turns)):
            await asyncio.sleep(0)

    def found(self, key: str) -> tuple[bytes, float]:
        """An object and when it was written."""
        if key not in self._s3.objects:
            raise S3NotFound(key, "NoSuchKey", 404)
        return self._s3.objects[key]

    async def check(self) -> None:
        await self.turn()

    async def head(self, key: str) -> Found:
        await self.turn()
        data, modified = self.found(key)
        await self.turn()
        return Found(len(data), "", modified, {})

    def get(self, key: str, first: int = 0, last: int | None = None) -> FakeBody:
        return FakeBody(self, key, first, last)

    async def read(self, key: str, limit: int | None = None) -> bytes:
        await self.turn()
        data, _ = self.found(key)
        await self.turn()
        return data

    async def put(self, key: str, data: bytes) -> str:
        await self.turn()
        self._s3.objects[key] = (bytes(data), self._s3.now)
        await self.turn()
        return ""

    async def delete(self, key: str) -> None:
        await self.turn()
        self._s3.objects.pop(key, None)
        await self.turn()

    async def delete_many(self, keys: Iterable[str]) -> None:
        for key in keys:
            await self.delete(key)

    async def page(self, prefix: str = "", *, most: int = 1000) -> Page:
        entries = [entry async for entry in self.list(prefix)]
        return Page(tuple(entries[:most]), (), "")

    async def list(self, prefix: str = "") -> AsyncIterator[Entry]:
        await self.turn()
        for key in sorted(self._s3.objects):
            if key.startswith(prefix) and key in self._s3.objects:
                data, modified = self._s3.objects[key]
                yield Entry(key, len(data), "", modified)
                await self.turn()

    async def begin(self, key: str) -> str:
        await self.turn()
        upload = uuid.uuid4().hex
        self._s3.uploads[upload] = (key, {})
        return upload

    def _parts(self, upload: str) -> dict[int, bytes]:
        if upload not in self._s3.uploads:
            raise S3NotFound(upload, "NoSuchUpload", 404)
        return self._s3.uploads[upload][1]

    async def put_part(self, key: str, upload: str, number: int, data: bytes) -> Part:
        await self.turn()
        self._parts(upload)[number] = data
        return Part(number, md5(data).hexdigest(), len(data))

    async def complete(self, key: str, upload: str, parts: Sequence[Part]) -> str:
        await self.turn()
        held = self._parts(upload)
        del self._s3.uploads[upload]
        self._s3.objects[key] = (b"".join(held[part.number] for part in parts), self._s3.now)
        return ""

    async def abort(self, key: str, upload: str) -> None:
        await self.turn()
        self._s3.uploads.pop(upload, None)

    async def unfinished(self, prefix: str = "") -> list[Unfinished]:
        await self.turn()
        return [Unfinished(key, id, 0.0) for id, (key, _) in self._s3.uploads.items() if key.startswith(prefix)]
