"""What nobody needs any more in S3: content without a link, data without an entry, parts that nobody goes on sending.

services.registry.adapters.s3.layout says why nothing else goes.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable

import msgspec
import structlog

from services.registry.adapters.s3.layout import Keys, Link
from services.shared.s3 import Bucket, Entry, S3NotFound

log = structlog.get_logger()

_AT_ONCE = 16


class Collection:
    """Collects, while others link. `lock` is a digest's; `active` gives the ids of data that are being written."""

    def __init__(
        self, bucket: Bucket, keys: Keys, lock: Callable[[str], asyncio.Lock], active: Callable[[], set[str]]
    ) -> None:
        self._bucket = bucket
        self._keys = keys
        self._lock = lock
        self._active = active
        self._linked: set[str] = set()
        self._unlinked: dict[str, float] = {}
        self._me = str(uuid.uuid4()).encode()

    async def own(self) -> None:
        """Become the one that collects."""
        await self._bucket.put(self._keys.owner, self._me)

    def linked(self, digest: str) -> None:
        """Somebody linked content with this digest, or tried to, and has it still locked."""
        self._linked.add(digest.partition(":")[2])

    def unlinked(self, found: str, now: float) -> None:
        """A link to content (its digest's hex) was taken: who reads it by that link goes on."""
        self._unlinked[found] = now

    async def sweep(self, before: float) -> int:
        """Free what no link names and was not touched since `before`; how many bytes."""
        if not await self._mine():
            return 0
        self._linked.clear()
        data = {_last(entry): entry async for entry in self._bucket.list(self._keys.all_data)}
        entries = [entry async for entry in self._bucket.list(self._keys.all_content)]
        links = {_last(entry) async for entry in self._bucket.list(self._keys.all_links)}
        old = [(entry.key.split("/")[-2], _last(entry)) for entry in entries if _old(entry, before)]
        freed = 0
        for found, data_id in old:
            if found not in links and self._unlinked.get(found, 0.0) < before:
                freed += await self._take(found, data_id, data)
        copies = Counter(entry.key.split("/")[-2] for entry in entries)
        doubles = [(found, data_id) for found, data_id in old if found in links and copies[found] > 1]
        orphans = data.keys() - {_last(entry) for entry in entries}
        orphans = {data_id for data_id in orphans if _old(data[data_id], before)} - self._active()
        if doubles or orphans:
            freed += await self._take_leftovers(doubles, orphans, data)
        self._unlinked = {found: when for found, when in self._unlinked.items() if when >= before}
        return freed

    async def abort_orphans(self) -> None:
        """Abort uploads in parts of which nobody here knows: of a process that died, or whose answer was lost."""
        if not await self._mine():
            return
        for upload in await self._bucket.unfinished(self._keys.all_data):
            if upload.key.rpartition("/")[2] not in self._active():
                log.info("registry.parts_dropped", key=upload.key)
                await self._bucket.abort(upload.key, upload.id)

    async def _mine(self) -> bool:
        """Whether this is the registry that was started last."""
        try:
            mine = await self._bucket.read(self._keys.owner, limit=100) == self._me
        except S3NotFound:
            mine = False
        if not mine:
            log.error("registry.not_collecting", why="another registry was started with the same bucket and prefix")
        return mine

    async def _take(self, found: str, data_id: str, data: dict[str, Entry]) -> int:
        digest = f"sha256:{found}"
        async with self._lock(digest):
            if found in self._linked:
                return 0
            await self._bucket.delete(self._keys.entry(digest, data_id))
            await self._bucket.delete(self._keys.data(data_id))
        return data[data_id].size if data_id in data else 0

    async def _take_leftovers(self, doubles: list[tuple[str, str]], orphans: set[str], data: dict[str, Entry]) -> int:
        """What a registry left that died: a second copy of content, data without an entry; unless links name it."""
        named = await self._named()
        freed = 0
        for found, data_id in doubles:
            if data_id not in named[found]:
                freed += await self._take(found, data_id, data)
        for found, ids in named.items():
            for each in ids & orphans:
                log.warning("registry.entry_restored", digest=found, data=each)
                await self._bucket.put(self._keys.entry(f"sha256:{found}", each), b"")
            orphans -= ids
        for each in orphans:
            await self._bucket.delete(self._keys.data(each))
        return freed + sum(data[each].size for each in orphans)

    async def _named(self) -> defaultdict[str, set[str]]:
        """The data that links name, by the digests of the links: all links are read."""
        named: defaultdict[str, set[str]] = defaultdict(set)
        slots = asyncio.Semaphore(_AT_ONCE)

        async def read(key: str) -> None:
            async with slots:
                try:
                    link = msgspec.json.decode(await self._bucket.read(key), type=Link)
                except S3NotFound:
                    return
            named[key.rpartition("/")[2]].add(link.data)

        await asyncio.gather(*[read(entry.key) async for entry in self._bucket.list(self._keys.all_links)])
        return named


def _last(entry: Entry) -> str:
    return entry.key.rpartition("/")[2]


def _old(entry: Entry, before: float) -> bool:
    return entry.modified + 1.0 < before
