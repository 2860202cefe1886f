"""What is collected while pushes go on: never what one of them was just told is there."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from services.registry.adapters import FileBlobStore, blobs
from services.registry.decisions.names import RepositoryId
from tests.builders.images import digest_of

REPOSITORIES = [RepositoryId("000000000000", "us-east-1", name) for name in ("shop", "bank")]
CONTENT = {digest_of(data): data for data in (b"one", b"two", b"three")}
TICK_S = 0.012
"""Longer than the kernel's clock for ctimes takes to move on."""

SHOP_ONE, BANK_ONE = (0, digest_of(b"one")), (1, digest_of(b"one"))
WHERE = st.tuples(st.sampled_from([0, 1]), st.sampled_from(sorted(CONTENT)))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("upload"), WHERE),
        st.tuples(st.just("find"), WHERE),
        st.tuples(st.just("mount"), WHERE),
        st.tuples(st.just("name"), WHERE),
        st.tuples(st.just("unname"), WHERE),
        st.tuples(st.just("age"), st.none()),
        st.tuples(st.just("collect"), st.none()),
    ),
    max_size=14,
)


class Model:
    """What must be there: what an image names, and what was pushed, mounted or found since things last got old."""

    def __init__(self, store: FileBlobStore) -> None:
        self.store = store
        self.named: set[tuple[int, str]] = set()
        self.fresh: set[tuple[int, str]] = set()
        self.before = 0.0

    def there(self, where: tuple[int, str]) -> bool:
        return self.store._layout.link(REPOSITORIES[where[0]], where[1], "blobs").exists()

    async def step(self, what: str, where: tuple[int, str]) -> None:
        if what == "age":
            await asyncio.sleep(TICK_S)
            self.before = time.time()
            await asyncio.sleep(TICK_S)
            self.fresh.clear()
        elif what == "collect":
            await self.collect()
        elif what == "name" and where in self.fresh:
            self.named.add(where)
        elif what == "unname":
            self.named.discard(where)
        elif what in ("upload", "mount", "find") and await self.place(what, where):
            self.fresh.add(where)

    async def place(self, what: str, where: tuple[int, str]) -> bool:
        repository, digest = REPOSITORIES[where[0]], where[1]
        if what == "upload":
            upload = await self.store.begin(repository)
            await upload.append(_once(CONTENT[digest]))
            await upload.finish(digest)
            return True
        if what == "mount":
            return await self.store.mount(REPOSITORIES[1 - where[0]], repository, digest)
        return await self.store.find(repository, digest) is not None

    async def collect(self) -> None:
        for number, repository in enumerate(REPOSITORIES):
            named = {digest for at, digest in self.named if at == number}
            await self.store.drop_unnamed(repository, named, self.before)
        await self.store.sweep(self.before)


async def _once(data: bytes):
    yield data


@pytest.fixture
def places(monkeypatch) -> Iterator[Path]:
    monkeypatch.setattr(blobs, "_TOUCH_S", 0.0)
    place = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    yield place
    shutil.rmtree(place, ignore_errors=True)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
@example(steps=[("upload", SHOP_ONE), ("age", SHOP_ONE), ("upload", SHOP_ONE), ("collect", SHOP_ONE)])
@example(
    steps=[("upload", SHOP_ONE), ("mount", BANK_ONE), ("age", SHOP_ONE), ("mount", BANK_ONE), ("collect", SHOP_ONE)]
)
@example(steps=[("upload", SHOP_ONE), ("age", SHOP_ONE), ("find", SHOP_ONE), ("collect", SHOP_ONE)])
@example(steps=[("upload", SHOP_ONE), ("name", SHOP_ONE), ("age", SHOP_ONE), ("collect", SHOP_ONE)])
def test_what_is_named_or_was_just_found_stays_and_the_rest_goes(places, steps):
    async def run() -> None:
        store = FileBlobStore(Path(tempfile.mkdtemp(dir=places)))
        model = Model(store)
        try:
            for what, where in [*steps, ("collect", None)]:
                await model.step(what, where)
                for each in model.named | model.fresh:
                    assert model.there(each), (what, each)
            for _ in range(3):  # taking one link makes the content look young to the others
                await model.step("age", SHOP_ONE)
                await model.step("collect", SHOP_ONE)
            everything = {(number, digest) for number in (0, 1) for digest in CONTENT}
            assert {where for where in everything if model.there(where)} == model.named
        finally:
            await store.close()

    asyncio.run(run())


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(old=st.lists(WHERE, max_size=4), work=st.lists(st.tuples(st.sampled_from(["find", "mount", "upload"]), WHERE)))
def test_what_is_found_while_it_is_collected_stays(places, old, work):
    """Threads really race here: `find`, `mount` and uploads against the collection of what is old."""

    async def run() -> None:
        store = FileBlobStore(Path(tempfile.mkdtemp(dir=places)))
        model = Model(store)
        try:
            for where in old:
                await model.step("upload", where)
            await model.step("age", (0, ""))

            async def go(what: str, where: tuple[int, str]) -> None:
                if await model.place(what, where):
                    model.fresh.add(where)

            await asyncio.gather(model.collect(), *(go(*each) for each in work), model.collect())
            await model.collect()
            for number, digest in model.fresh:
                assert await store.read(REPOSITORIES[number], digest) == CONTENT[digest]
        finally:
            await store.close()

    asyncio.run(run())
