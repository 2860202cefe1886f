"""The key of a service's own door."""

import stat

import pytest

from services.shared.door_key import KEY_DIGITS, door_key


def test_the_key_is_made_once_and_is_its_owners_alone(tmp_path):
    path = tmp_path / "scanner" / "door.key"
    key = door_key(path)
    assert (len(key), door_key(path)) == (KEY_DIGITS, key)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("broken", ["", "\n", "abc"])
def test_a_broken_key_is_replaced_and_opens_nothing(tmp_path, broken):
    path = tmp_path / "door.key"
    path.write_text(broken)
    assert len(door_key(path)) == KEY_DIGITS
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
