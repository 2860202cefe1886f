"""The registry's own key: made once, and missed when it is lost."""

from pathlib import Path

import pytest

from services.registry.adapters.content_keys import own_key
from services.shared.settings import SettingsError


def test_it_is_made_once_and_readable_by_its_owner_alone(tmp_path):
    path = tmp_path / "registry" / "content.key"
    made = own_key(path)
    assert own_key(path) == made
    assert path.stat().st_mode & 0o077 == 0
    assert own_key(tmp_path / "other" / "content.key").id != made.id


def changed(path):
    path.write_bytes(b"x" * 32)


def emptied(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("lost", [Path.unlink, changed, emptied])
def test_another_one_in_its_place_is_refused_and_nothing_is_written(tmp_path, lost):
    path = tmp_path / "content.key"
    made, kept = own_key(path), path.read_bytes()
    lost(path)
    with pytest.raises(SettingsError, match="backup"):
        own_key(path)
    path.write_bytes(kept)
    assert own_key(path) == made


def test_who_removes_both_begins_anew(tmp_path):
    path = tmp_path / "content.key"
    made = own_key(path)
    path.unlink()
    path.with_suffix(".id").unlink()
    assert own_key(path).id != made.id
