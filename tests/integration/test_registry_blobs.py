"""The port BlobStore: one suite for whatever stores blobs, run against the file system and against S3, and against
sealed content over each of them."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from services.registry.adapters import FileBlobStore
from services.registry.adapters.s3 import S3BlobStore
from services.registry.adapters.sealed import SealedBlobs
from services.registry.decisions.names import RepositoryId
from services.registry.decisions.segments import sealed_size
from services.registry.ports import UploadTaken, UploadUnknown, WrongDigest, WrongOffset
from services.shared.s3 import S3Client
from tests.builders.images import digest_of
from tests.builders.seaweed import BUCKET
from tests.fakes.content_keys import FakeKeys
from tests.fakes.s3 import FakeS3

SHOP, BANK = (RepositoryId("000000000000", "us-east-1", name) for name in ("team/shop", "bank"))
LATER = time.time() + 3600


@pytest.fixture(params=[False, True], ids=["plain", "sealed"])
def sealed(request):
    return request.param


@pytest.fixture
def takes(sealed):
    """What content of a size takes in the store."""
    return sealed_size if sealed else int


@pytest.fixture
def storage(below, sealed):
    """Makes a store over the same content each time: what a process after this one has."""
    keys = FakeKeys()
    return (lambda: SealedBlobs(below(), keys)) if sealed else below


@pytest.fixture(params=["files", "s3", "s3 in memory"])
def below(request, tmp_path):
    if request.param == "files":
        return lambda: FileBlobStore(tmp_path / "blobs")
    if request.param == "s3 in memory":
        fake = FakeS3(now=time.time())
        return lambda: S3BlobStore(tmp_path / "blobs", fake, "bucket")
    server = request.getfixturevalue("seaweed")
    prefix = server.prefix()
    return lambda: S3BlobStore(tmp_path / "blobs", S3Client(server.settings()), BUCKET, prefix)


@pytest.fixture
async def blobs(storage):
    store = storage()
    within = getattr(store, "_below", store)
    if isinstance(within, S3BlobStore):
        await within.open_bucket()
    yield store
    await store.close()


async def chunks(*parts: bytes):
    for part in parts:
        yield part


async def sent(content, start: int = 0, stop: int | None = None) -> bytes:
    return b"".join([part async for part in content.read(start, content.size if stop is None else stop)])


async def push(blobs, repository, *parts: bytes) -> str:
    upload = await blobs.begin(repository)
    await upload.append(chunks(*parts))
    digest = digest_of(b"".join(parts))
    await upload.finish(digest)
    return digest


async def test_what_was_put_is_found_and_read(blobs):
    digest = await push(blobs, SHOP, b"hello ", b"world")
    assert (await blobs.find(SHOP, digest), await blobs.read(SHOP, digest)) == (11, b"hello world")
    content = await blobs.open(SHOP, digest)
    assert (content.size, await sent(content), await sent(content, 1, 7)) == (11, b"hello world", b"ello w")
    assert content.file is None or content.file.read_bytes() == b"hello world"
    assert await blobs.open(BANK, digest) is None


async def test_large_content_comes_through_whole(blobs):
    parts = [os.urandom(700_001) for _ in range(9)]
    digest = await push(blobs, SHOP, *parts)
    assert await blobs.read(SHOP, digest) == b"".join(parts)


async def test_nothing_at_all_is_content_too(blobs):
    upload = await blobs.begin(SHOP)
    await upload.finish(digest_of(b""))
    assert await blobs.find(SHOP, digest_of(b"")) == 0


async def test_blobs_and_manifests_are_kept_apart(blobs):
    digest = digest_of(b"manifest")
    await blobs.put(SHOP, digest, b"manifest", "manifests")
    assert (await blobs.find(SHOP, digest), await blobs.read(SHOP, digest, "manifests")) == (None, b"manifest")


async def test_a_blob_is_in_the_repositories_that_have_it_and_no_other(blobs):
    digest = await push(blobs, SHOP, b"shared")
    assert await blobs.find(BANK, digest) is None
    assert await blobs.mount(SHOP, BANK, digest)
    assert not await blobs.mount(SHOP, BANK, digest_of(b"absent"))
    assert await blobs.remove(SHOP, digest)
    assert not await blobs.remove(SHOP, digest)
    assert (await blobs.find(SHOP, digest), await blobs.read(BANK, digest)) == (None, b"shared")


async def test_content_that_two_repositories_push_is_kept_once(blobs, takes):
    for repository in (SHOP, BANK):
        digest = await push(blobs, repository, b"same")
        await blobs.remove(repository, digest)
    for repository in (SHOP, BANK):
        await push(blobs, repository, b"same")
    assert await blobs.sweep(LATER) == 0
    for repository in (SHOP, BANK):
        await blobs.remove(repository, digest)
    assert await blobs.sweep(LATER) == takes(4)


async def test_a_wrong_digest_leaves_nothing(blobs):
    upload = await blobs.begin(SHOP)
    await upload.append(chunks(b"data"))
    with pytest.raises(WrongDigest) as wrong:
        await upload.finish(digest_of(b"other"))
    assert wrong.value.actual == digest_of(b"data")
    assert await blobs.find(SHOP, digest_of(b"data")) is None
    with pytest.raises(UploadUnknown):
        await blobs.upload(SHOP, upload.id)


async def test_an_upload_goes_on_where_it_is(blobs):
    upload = await blobs.begin(SHOP)
    assert await upload.append(chunks(b"abc"), 0) == 3
    with pytest.raises(WrongOffset) as wrong:
        await upload.append(chunks(b"x"), 2)
    assert wrong.value.size == 3
    assert await upload.append(chunks(b"def"), 3) == 6
    await upload.finish(digest_of(b"abcdef"))


async def test_what_arrives_is_read_along(blobs):
    upload = await blobs.begin(SHOP)
    await upload.append(chunks(b"hello "))
    assert await upload.read(0, 100) == b"hello "
    await upload.append(chunks(b"world"))
    assert await upload.read(6, 9) == b"wor"
    await upload.finish(digest_of(b"hello world"))
    with pytest.raises(UploadUnknown):
        await upload.read(0, 1)


async def test_an_upload_may_be_cut_and_gone_on_with(blobs):
    upload = await blobs.begin(SHOP)
    await upload.append(chunks(b"hello world"))
    assert await upload.claim() == 11
    await upload.truncate(6)
    await upload.append(chunks(b"there"), 6)
    await upload.finish(digest_of(b"hello there"))
    assert await blobs.read(SHOP, digest_of(b"hello there")) == b"hello there"


async def test_content_whose_name_is_known_is_kept_under_it(blobs):
    upload = await blobs.begin(SHOP, hashed=False)
    await upload.append(chunks(b"sealed"))
    await upload.finish(digest_of(b"a name"), known=True)
    assert await blobs.read(SHOP, digest_of(b"a name")) == b"sealed"


async def test_what_came_before_a_break_stays(blobs):
    async def breaks():
        yield b"abc"
        raise ConnectionResetError

    upload = await blobs.begin(SHOP)
    with pytest.raises(ConnectionResetError):
        await upload.append(breaks())
    assert await upload.append(chunks(b"def"), 3) == 6
    await upload.finish(digest_of(b"abcdef"))


async def test_the_later_of_two_writers_goes_on(blobs):
    sent, go_on = asyncio.Event(), asyncio.Event()

    async def slow():
        yield b"x" * (1024 * 1024)
        sent.set()
        await go_on.wait()
        yield b"late"

    upload = await blobs.begin(SHOP)
    first = asyncio.create_task(upload.append(slow()))
    await asyncio.wait_for(sent.wait(), 30)
    assert await upload.append(chunks(b"second")) == 1024 * 1024 + 6
    go_on.set()
    with pytest.raises(UploadTaken):
        await first
    await upload.finish(digest_of(b"x" * (1024 * 1024) + b"second"))


async def test_an_upload_outlives_the_store(blobs, storage):
    upload = await blobs.begin(SHOP)
    await upload.append(chunks(b"first "))
    again = storage()
    found = await again.upload(SHOP, upload.id)
    assert found.size == 6
    await found.append(chunks(b"second"), 6)
    await found.finish(digest_of(b"first second"))
    assert await again.read(SHOP, digest_of(b"first second")) == b"first second"
    await again.close()


async def test_an_upload_belongs_to_its_repository(blobs):
    upload = await blobs.begin(SHOP)
    with pytest.raises(UploadUnknown):
        await blobs.upload(BANK, upload.id)


async def test_an_upload_that_was_aborted_is_gone(blobs):
    upload = await blobs.begin(SHOP)
    await upload.abort()
    for use in (upload.append(chunks(b"x")), upload.finish(digest_of(b"")), blobs.upload(SHOP, upload.id)):
        with pytest.raises(UploadUnknown):
            await use


async def test_of_the_same_finish_twice_one_counts(blobs):
    upload = await blobs.begin(SHOP)
    await upload.append(chunks(b"data"))
    results = await asyncio.gather(*(upload.finish(digest_of(b"data")) for _ in range(2)), return_exceptions=True)
    assert sorted(type(each).__name__ for each in results) in (["UploadTaken", "int"], ["UploadUnknown", "int"])
    assert await blobs.read(SHOP, digest_of(b"data")) == b"data"


async def test_old_uploads_are_dropped(blobs):
    old = await blobs.begin(SHOP)
    assert await blobs.drop_old_uploads(time.time() - 60) == 0
    assert await blobs.drop_old_uploads(LATER) == 1
    with pytest.raises(UploadUnknown):
        await old.append(chunks(b"x"))


async def test_the_sweep_takes_what_nobody_has_after_the_grace(blobs, takes):
    kept, gone = await push(blobs, SHOP, b"kept"), await push(blobs, SHOP, b"gone")
    assert await blobs.drop_unnamed(SHOP, {kept}, time.time() - 60) == 0
    assert await blobs.drop_unnamed(SHOP, {kept}, LATER) == 1
    assert await blobs.sweep(time.time() - 60) == 0
    assert await blobs.sweep(LATER) == takes(4)
    assert (await blobs.find(SHOP, kept), await blobs.find(SHOP, gone)) == (4, None)
    assert await push(blobs, SHOP, b"gone") == gone


async def test_being_asked_for_renews_the_grace(tmp_path, monkeypatch):
    blobs = FileBlobStore(tmp_path)
    digest = await push(blobs, SHOP, b"data")
    path = (await blobs.open(SHOP, digest)).file
    before = path.stat().st_ctime_ns
    monkeypatch.setattr("services.registry.adapters.blobs.time.time", lambda: LATER)
    await blobs.find(SHOP, digest)
    assert path.stat().st_ctime_ns > before
    await blobs.close()


async def test_a_repository_is_removed_with_all_it_has(blobs):
    digest = await push(blobs, SHOP, b"data")
    await blobs.mount(SHOP, BANK, digest)
    upload = await blobs.begin(SHOP)
    await blobs.remove_repository(SHOP)
    await blobs.remove_repository(SHOP)
    assert (await blobs.find(SHOP, digest), await blobs.find(BANK, digest)) == (None, 4)
    with pytest.raises(UploadUnknown):
        await upload.append(chunks(b"x"))


async def test_what_lies_in_no_repository_goes_after_the_grace(blobs):
    digest = await push(blobs, SHOP, b"data")
    await blobs.mount(SHOP, BANK, digest)
    assert (await blobs.drop_strays([BANK], LATER - 7200), await blobs.find(SHOP, digest)) == (0, 4)
    assert await blobs.drop_strays([BANK], LATER) == 1
    assert (await blobs.find(SHOP, digest), await blobs.find(BANK, digest)) == (None, 4)


async def test_names_as_long_as_may_be_do_not_meet(blobs):
    long = [RepositoryId("000000000000", "us-east-1", "x" * 255 + end) for end in ("a", "b")]
    digest = await push(blobs, long[0], b"data")
    assert [await blobs.find(each, digest) for each in long] == [4, None]


@pytest.mark.parametrize("name", ["..", ".", "", "../x"])
async def test_a_name_that_is_a_path_is_refused_here_too(blobs, name):
    with pytest.raises(ValueError):
        await blobs.find(RepositoryId("000000000000", name, "shop"), digest_of(b"x"))
    with pytest.raises(ValueError):
        await blobs.open(SHOP, "sha256:" + name)
