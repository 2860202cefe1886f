"""The key of the scanner's own door."""

import stat

import pytest

from services.scanner.adapters.files import KEY_DIGITS, Files


def test_the_key_is_made_once_and_is_its_owners_alone(tmp_path):
    key = Files(tmp_path).door_key()
    assert (len(key), Files(tmp_path).door_key()) == (KEY_DIGITS, key)
    assert stat.S_IMODE((tmp_path / "door.key").stat().st_mode) == 0o600


@pytest.mark.parametrize("broken", ["", "\n", "abc"])
def test_a_broken_key_is_replaced_and_opens_nothing(tmp_path, broken):
    (tmp_path / "door.key").write_text(broken)
    key = Files(tmp_path).door_key()
    assert len(key) == KEY_DIGITS
    assert stat.S_IMODE((tmp_path / "door.key").stat().st_mode) == 0o600
