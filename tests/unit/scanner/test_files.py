"""The key of the scanner's own door, and what is kept of layers."""

import os
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


def test_what_is_kept_of_layers_stays_bounded_while_the_scanner_runs(tmp_path):
    files = Files(tmp_path, layer_bytes=1000)
    for number in range(40):
        files.keep_layer(f"sha256:{number:064x}", b"x" * 100)
        os.utime(tmp_path / "layers" / f"{number:064x}.json", (number, number))
    kept = sum(path.stat().st_size for path in (tmp_path / "layers").iterdir())
    assert 1000 <= kept <= 1300
    assert files.layer(f"sha256:{39:064x}") is not None
    assert files.layer(f"sha256:{0:064x}") is None
