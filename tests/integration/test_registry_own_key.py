"""The registry's own key: made once, and missed when it is lost, by whatever storage."""

from pathlib import Path

import pytest

from services.registry.adapters import FileBlobStore
from services.registry.adapters.content_keys import own_key
from services.shared.settings import SettingsError


@pytest.fixture
async def store(tmp_path):
    store = FileBlobStore(tmp_path / "blobs")
    yield store
    await store.close()


async def test_it_is_made_once_and_readable_by_its_owner_alone(tmp_path, store):
    path = tmp_path / "keys" / "content.key"
    made = await own_key(path, store)
    assert await own_key(path, store) == made
    assert path.stat().st_mode & 0o077 == 0


def changed(path):
    path.write_bytes(b"x" * 32)


def emptied(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("lost", [Path.unlink, changed, emptied])
async def test_another_one_in_its_place_is_refused_and_nothing_is_written(tmp_path, store, lost):
    path = tmp_path / "content.key"
    made, kept = await own_key(path, store), path.read_bytes()
    lost(path)
    with pytest.raises(SettingsError, match="backup"):
        await own_key(path, store)
    path.write_bytes(kept)
    assert await own_key(path, store) == made


async def test_an_empty_storage_begins_with_a_new_one(tmp_path, store):
    made = await own_key(tmp_path / "content.key", store)
    other = FileBlobStore(tmp_path / "empty")
    assert await own_key(tmp_path / "content.key", other) == made
    (tmp_path / "content.key").unlink()
    empty = FileBlobStore(tmp_path / "emptier")
    assert (await own_key(tmp_path / "content.key", empty)).id != made.id
    for each in (other, empty):
        await each.close()
