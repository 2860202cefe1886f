"""What is collected in S3 while pushes go on, with requests that take turns at random: never what somebody was told is
there, also not when a registry dies in the middle of it."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.registry.adapters.s3 import S3BlobStore
from services.registry.decisions.names import RepositoryId
from services.registry.ports import StorageAway
from services.shared.s3 import S3Away
from tests.builders.images import digest_of
from tests.fakes.s3 import FakeBucket, FakeS3

REPOSITORIES = [RepositoryId("000000000000", "us-east-1", name) for name in ("shop", "bank")]
CONTENT = {digest_of(data): data for data in (b"one", b"two")}
LIFE = 1000.0
WHERE = st.tuples(st.sampled_from([0, 1]), st.sampled_from(sorted(CONTENT)))
WORK = st.lists(st.tuples(st.sampled_from(["upload", "put", "mount", "find", "remove"]), WHERE), max_size=6)
QUIET = [HealthCheck.function_scoped_fixture]


class Registry:
    """A store over the fake, and the repositories that were told that content is there since things last got old."""

    def __init__(self, root, s3: FakeS3) -> None:
        self.s3 = s3
        self.store = S3BlobStore(root, s3, "bucket", clock=lambda: s3.now)
        self.told: set[tuple[int, str]] = set()
        self.named: set[tuple[int, str]] = set()
        self.going: list[tuple[str, tuple[int, str]]] = []

    async def work(self, what: str, where: tuple[int, str]) -> None:
        repository, digest = REPOSITORIES[where[0]], where[1]
        if what == "remove":
            if where not in self.told | self.named:  # as the registry does: not what an image is made of
                await self.store.remove(repository, digest)
            return
        if what == "upload":
            upload = await self.store.begin(repository)
            await upload.append(_once(CONTENT[digest]))
            there = bool(await upload.finish(digest))
        elif what == "put":
            there = await self.store.put(repository, digest, CONTENT[digest]) is None
        elif what == "mount":
            there = await self.store.mount(REPOSITORIES[1 - where[0]], repository, digest)
        else:
            there = await self.store.find(repository, digest) is not None
        if there and not any(other == ("remove", where) for other in self.going):
            self.told.add(where)

    async def collect(self) -> None:
        before = self.s3.now - LIFE
        for number, repository in enumerate(REPOSITORIES):
            await self.store.drop_unnamed(repository, {d for at, d in self.named if at == number}, before)
        await self.store.sweep(before)

    async def check(self) -> None:
        for number, digest in self.told | self.named:
            assert await self.store.read(REPOSITORIES[number], digest) == CONTENT[digest], (number, digest)


async def _once(data: bytes):
    yield data


@settings(max_examples=100, deadline=None, suppress_health_check=QUIET)
@given(before=WORK, named=st.sets(WHERE), after=WORK, seed=st.integers(0, 2**32))
def test_what_was_found_linked_or_named_stays_while_the_rest_is_collected(tmp_path_factory, before, named, after, seed):
    random.seed(seed)

    async def run() -> None:
        s3 = FakeS3(now=10 * LIFE, turns=3)
        registry = Registry(tmp_path_factory.mktemp("spool"), s3)
        await registry.store.open_bucket()
        for step in before:
            registry.going = []
            await registry.work(*step)
        registry.named = named & registry.told
        registry.told.clear()
        s3.now += 2 * LIFE
        registry.going = list(after)
        await asyncio.gather(registry.collect(), *(registry.work(*step) for step in after), registry.collect())
        await registry.check()
        registry.told.clear()
        for _ in range(3):
            s3.now += 2 * LIFE
            await registry.collect()
        await registry.check()
        left = {key for key in s3.objects if key != "registry"}
        digests = {digest for _, digest in registry.named}
        assert len(left) == len(registry.named) + 2 * len(digests), left
        await registry.store.close()

    asyncio.run(run())


async def with_unlinked(root, data: bytes) -> Registry:
    """A registry with old content that no repository has any more."""
    registry = Registry(root, FakeS3(now=10 * LIFE))
    await registry.store.open_bucket()
    await registry.work("put", (0, digest_of(data)))
    await registry.store.remove(REPOSITORIES[0], digest_of(data))
    registry.s3.now += 2 * LIFE
    return registry


class Dies(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("after", range(1, 30))
async def test_a_registry_that_dies_while_it_collects_leaves_nothing_that_leads_nowhere(
    tmp_path, monkeypatch, after, late
):
    """After each request that changes something, in turn: the next one pushes the same again, and collects. The request
    that was on its way is not carried out, or late: when the next one has pushed. (Of links this can't be promised: who
    removes one, and dies, and is carried out after the next one wrote it again, has removed it.)"""
    s3 = FakeS3(now=10 * LIFE)
    first = Registry(tmp_path / "1", s3)
    await first.store.open_bucket()
    requests, on_its_way = 0, []

    def counted(name):
        real = getattr(FakeBucket, name)

        async def call(self, *arguments):
            nonlocal requests
            requests += 1
            if requests > after:
                if not (name == "delete" and arguments[0].startswith("repositories/")):
                    on_its_way.append(lambda: real(self, *arguments))
                raise Dies
            return await real(self, *arguments)

        return call

    with monkeypatch.context() as patched:
        for name in ("put", "delete"):
            patched.setattr(FakeBucket, name, counted(name))
        try:
            for digest in CONTENT:
                await first.work("put", (0, digest))
                await first.store.mount(*REPOSITORIES, digest)
                for repository in REPOSITORIES:
                    await first.store.remove(repository, digest)
            s3.now += 2 * LIFE
            await first.collect()
        except Dies:
            pass
    second = Registry(tmp_path / "2", s3)
    await second.store.open_bucket()
    for digest in CONTENT:
        await second.work("put", (0, digest))
    if late and on_its_way:
        await on_its_way[0]()
    links = {
        (number, each)
        for number, repository in enumerate(REPOSITORIES)
        for each in CONTENT
        if await second.store.find(repository, each) is not None
    }
    second.named = links
    for _ in range(2):
        await second.check()
        s3.now += 2 * LIFE
        await second.collect()
    await second.check()
    digests = {digest for _, digest in links}
    assert len(s3.objects) == 1 + len(links) + 2 * len(digests)


async def test_what_is_linked_while_links_are_listed_is_not_collected(tmp_path, monkeypatch):
    """The link was on its way when the collection began, and written when the links had been listed."""
    registry = await with_unlinked(tmp_path, b"one")
    s3, digest = registry.s3, digest_of(b"one")
    put, plain = FakeBucket.put, FakeBucket.list
    sent, listed = asyncio.Event(), asyncio.Event()

    async def slow_put(self, key, data):
        if key.startswith("repositories/"):
            sent.set()
            await listed.wait()
        return await put(self, key, data)

    async def told_list(self, prefix=""):
        async for entry in plain(self, prefix):
            yield entry
        if prefix == "repositories/":
            listed.set()

    monkeypatch.setattr(FakeBucket, "put", slow_put)
    monkeypatch.setattr(FakeBucket, "list", told_list)
    pushing = asyncio.create_task(registry.store.put(REPOSITORIES[1], digest, b"one"))
    await sent.wait()
    assert await registry.store.sweep(s3.now - LIFE) == 0
    await pushing
    assert await registry.store.read(REPOSITORIES[1], digest) == b"one"


async def test_an_entry_that_was_deleted_late_is_written_again(tmp_path):
    """The request of a registry that died was carried out when the next one had found the entry."""
    s3 = FakeS3(now=10 * LIFE)
    registry = Registry(tmp_path, s3)
    await registry.store.open_bucket()
    digest = digest_of(b"one")
    await registry.work("put", (0, digest))
    (entry,) = [key for key in s3.objects if key.startswith("content/")]
    del s3.objects[entry]
    registry.named = {(0, digest)}
    s3.now += 2 * LIFE
    await registry.collect()
    await registry.check()
    assert entry in s3.objects


async def test_only_the_registry_that_was_started_last_collects(tmp_path):
    s3 = FakeS3(now=10 * LIFE)
    old, new = (Registry(tmp_path / name, s3) for name in ("old", "new"))
    for each in (old, new):
        await each.store.open_bucket()
    await old.store.put(REPOSITORIES[0], digest_of(b"one"), b"one")
    await old.store.remove(REPOSITORIES[0], digest_of(b"one"))
    s3.now += 2 * LIFE
    s3.uploads["left"] = ("data/left", {})
    await old.store.drop_old_uploads(0.0)
    assert (await old.store.sweep(s3.now), list(s3.uploads)) == (0, ["left"])
    await new.store.drop_old_uploads(0.0)
    assert (await new.store.sweep(s3.now), list(s3.uploads)) == (3, [])


async def test_what_a_failed_request_may_have_linked_is_not_collected(tmp_path, monkeypatch):
    """The answer to writing a link was lost: the link is there, and was not when the collection listed links."""
    registry = await with_unlinked(tmp_path, b"one")
    s3, digest = registry.s3, digest_of(b"one")
    real, listed = FakeBucket.put, asyncio.Event()

    async def lost(self, key, data):
        await real(self, key, data)
        if key.startswith("repositories/"):
            raise S3Away("lost")
        return ""

    async def slow(self, prefix=""):
        for entry in [entry async for entry in plain(self, prefix)]:
            yield entry
        if prefix == "repositories/":
            listed.set()
            await pushed.wait()

    plain, pushed = FakeBucket.list, asyncio.Event()
    monkeypatch.setattr(FakeBucket, "put", lost)
    monkeypatch.setattr(FakeBucket, "list", slow)
    sweep = asyncio.create_task(registry.store.sweep(s3.now - LIFE))
    await listed.wait()
    with pytest.raises(StorageAway):
        await registry.store.put(REPOSITORIES[1], digest, b"one")
    pushed.set()
    assert await sweep == 0
    assert await registry.store.read(REPOSITORIES[1], digest) == b"one"
