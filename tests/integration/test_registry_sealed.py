"""Sealed content over the file system: uploads in any pieces, restarts, crashes, ranges, keys."""

import asyncio
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.registry.adapters import FileBlobStore
from services.registry.adapters.sealed import SealedBlobs
from services.registry.decisions.names import RepositoryId
from services.registry.decisions.segments import FRAME, HEADER_SIZE, SEGMENT, sealed_name
from services.registry.ports import ContentDamaged, KeyRefused
from tests.builders.images import digest_of
from tests.fakes.content_keys import FakeKeys

SHOP, BANK = (RepositoryId("000000000000", "us-east-1", name) for name in ("team/shop", "bank"))
MARKER = b"nobody is to find this on the disk"


class Disk:
    """A directory, and the stores of the processes that have it, one after the other."""

    def __init__(self, directory):
        self.directory = directory
        self.keys = FakeKeys()
        self._open = []

    def start(self):
        self.files = FileBlobStore(self.directory)
        blobs = SealedBlobs(self.files, self.keys)
        self._open.append(blobs)
        return blobs

    def shows(self, text) -> bool:
        return any(text in path.read_bytes() for path in self.directory.rglob("*") if path.is_file())

    def file(self, repository, digest):
        return self.files._layout.link(repository, sealed_name(self.keys.id_of(repository), digest), "blobs")

    async def close(self):
        for store in self._open:
            await store.close()


@pytest.fixture
async def disk(tmp_path):
    disk = Disk(tmp_path / "blobs")
    yield disk
    await disk.close()


async def chunks(*parts):
    for part in parts:
        yield part


async def push(blobs, repository, content) -> str:
    upload = await blobs.begin(repository)
    await upload.append(chunks(content))
    digest = digest_of(content)
    await upload.finish(digest)
    return digest


async def read(blobs, repository, digest, start=0, stop=None) -> bytes:
    content = await blobs.open(repository, digest)
    return b"".join([bytes(part) async for part in content.read(start, content.size if stop is None else stop)])


PIECES = st.lists(
    st.one_of(st.integers(0, 300), st.sampled_from([SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT, 17 * SEGMENT])),
    max_size=5,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=PIECES, restarts=st.booleans(), where=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_an_upload_in_any_pieces_reads_right_from_anywhere(tmp_path, pieces, restarts, where):
    async def run(disk) -> None:
        blobs, content = disk.start(), os.urandom(sum(pieces))
        upload, at = await blobs.begin(SHOP), 0
        for size in pieces:
            if restarts:
                blobs = disk.start()
                upload = await blobs.upload(SHOP, upload.id)
            assert upload.size == at
            at = await upload.append(chunks(content[at : at + size]), at)
        digest = digest_of(content)
        assert await upload.finish(digest) == len(content) == await blobs.find(SHOP, digest)
        start, stop = sorted(int(part * len(content)) for part in where)
        assert await read(blobs, SHOP, digest) == content
        assert await read(blobs, SHOP, digest, start, stop) == content[start:stop]
        assert await blobs.read(SHOP, digest) == content

    async def whole() -> None:
        disk = Disk(Path(tempfile.mkdtemp(dir=tmp_path)))
        try:
            await run(disk)
        finally:
            await disk.close()

    asyncio.run(whole())


async def test_nothing_of_it_is_on_the_disk_neither_on_its_way_nor_whole(disk):
    blobs = disk.start()
    upload = await blobs.begin(SHOP)
    await upload.append(chunks(MARKER * 10_000))
    assert not disk.shows(MARKER)
    digest = digest_of(MARKER * 10_000)
    await upload.finish(digest)
    await blobs.put(SHOP, digest_of(MARKER), MARKER, "manifests")
    assert not disk.shows(MARKER)
    assert not disk.shows(digest.removeprefix("sha256:").encode())
    assert await read(blobs, SHOP, digest) == MARKER * 10_000


@pytest.mark.parametrize("torn", [1, HEADER_SIZE - 1, HEADER_SIZE + 5, HEADER_SIZE + FRAME + 1, -1])
async def test_what_a_crash_tore_off_is_sent_again(disk, torn):
    """Whatever was whole when the power went is kept; a torn segment is not."""
    blobs, content = disk.start(), os.urandom(3 * SEGMENT + 9)
    upload = await blobs.begin(SHOP)
    await upload.append(chunks(content))
    (file,) = disk.directory.rglob(upload.id)
    os.truncate(file, torn % (file.stat().st_size + 1) if torn > 0 else file.stat().st_size - 1)
    blobs = disk.start()
    again = await blobs.upload(SHOP, upload.id)
    assert (again.size % SEGMENT, again.size < len(content)) == (0, True)
    await again.append(chunks(content[again.size :]), again.size)
    await again.finish(digest_of(content))
    assert await read(blobs, SHOP, digest_of(content)) == content


async def test_an_end_that_was_written_before_a_crash_is_written_again(disk):
    blobs, content = disk.start(), os.urandom(SEGMENT + 9)
    upload = await blobs.begin(SHOP)
    await upload.append(chunks(content))
    below = await disk.files.upload(SHOP, upload.id, hashed=False)
    await below.append(chunks(upload._done.sealer.end(2, len(content), digest_of(content))))
    blobs = disk.start()
    again = await blobs.upload(SHOP, upload.id)
    assert again.size == len(content)
    await again.finish(digest_of(content))
    assert await read(blobs, SHOP, digest_of(content)) == content


async def test_damage_on_the_disk_is_told_and_never_sent(disk):
    blobs, content = disk.start(), os.urandom(20 * SEGMENT)
    digest = await push(blobs, SHOP, content)
    with open(disk.file(SHOP, digest), "r+b") as file:
        file.seek(HEADER_SIZE + 18 * FRAME + 100)
        file.write(b"flip")
    assert await read(blobs, SHOP, digest, 0, 18 * SEGMENT) == content[: 18 * SEGMENT]
    with pytest.raises(ContentDamaged, match="segment 18"):
        await read(blobs, SHOP, digest)
    os.truncate(disk.file(SHOP, digest), HEADER_SIZE + 5 * FRAME)
    with pytest.raises(ContentDamaged):
        await blobs.open(SHOP, digest)


async def test_content_of_another_key_is_sealed_anew_when_it_is_mounted(disk):
    blobs, content = disk.start(), os.urandom(SEGMENT + 1)
    disk.keys.give(BANK, 7)
    digest = await push(blobs, SHOP, content)
    assert await blobs.mount(SHOP, BANK, digest)
    assert await read(blobs, BANK, digest) == content
    files = [disk.file(repository, digest) for repository in (SHOP, BANK)]
    assert len({file.stat().st_ino for file in files}) == 2
    disk.keys.refused.add(BANK)
    assert await read(blobs, SHOP, digest) == content
    for use in (blobs.open(BANK, digest), blobs.begin(BANK), blobs.mount(SHOP, BANK, digest), blobs.usable(BANK)):
        with pytest.raises(KeyRefused):
            await use
    assert (await blobs.find(BANK, digest), await blobs.remove(BANK, digest)) == (len(content), True)


async def test_a_key_that_was_exchanged_leaves_content_that_nobody_finds(disk):
    blobs = disk.start()
    digest = await push(blobs, SHOP, b"data")
    disk.keys.give(SHOP, 3)
    assert (await blobs.find(SHOP, digest), await blobs.open(SHOP, digest)) == (None, None)
    await push(blobs, SHOP, b"data")
    assert await blobs.read(SHOP, digest) == b"data"


async def test_what_was_stored_before_is_read_as_it_is(disk):
    blobs = disk.start()
    old = await disk.files.begin(SHOP)
    await old.append(chunks(MARKER))
    digest = digest_of(MARKER)
    await old.finish(digest)
    assert (await blobs.find(SHOP, digest), await blobs.read(SHOP, digest)) == (len(MARKER), MARKER)
    assert await read(blobs, SHOP, digest, 7, 9) == MARKER[7:9]
    assert await blobs.drop_unnamed(SHOP, {digest}, 1e12) == 0
    disk.keys.give(BANK, 7)
    assert await blobs.mount(SHOP, BANK, digest)
    assert await blobs.remove(SHOP, digest)
    await blobs.sweep(1e12)
    assert not disk.shows(MARKER)
    assert await blobs.read(BANK, digest) == MARKER


async def test_what_is_not_to_be_sealed_lies_as_it_is_but_for_keys_of_kms(disk):
    blobs = disk.start()
    old = await push(blobs, SHOP, MARKER + b"old")
    disk.keys.sealed = False
    disk.keys.give(BANK, 7)
    assert await read(blobs, SHOP, old) == MARKER + b"old"
    digest = await push(blobs, SHOP, MARKER)
    assert (await blobs.open(SHOP, digest)).file.read_bytes() == MARKER
    assert await blobs.mount(SHOP, BANK, digest)
    await blobs.remove(SHOP, digest)
    await blobs.sweep(1e12)
    assert not disk.shows(MARKER)
    assert await read(blobs, BANK, digest) == MARKER
