"""What is sealed opens only where it belongs."""

import pytest

from services.shared.sealing import Asker, CannotOpen, Vault, seal_to


def test_a_value_opens_with_the_same_key_for_the_same_thing_only(tmp_path):
    vault, other = Vault.open(tmp_path / "a" / "key"), Vault.open(tmp_path / "b" / "key")
    sealed = vault.seal(b"value", "secret\nx\n1")
    assert b"value" not in sealed
    assert Vault.open(tmp_path / "a" / "key").unseal(sealed, "secret\nx\n1") == b"value"
    for opener, about in ((vault, "secret\nx\n2"), (other, "secret\nx\n1")):
        with pytest.raises(CannotOpen):
            opener.unseal(sealed, about)
    assert (tmp_path / "a" / "key").stat().st_mode & 0o777 == 0o600


def test_an_answer_opens_for_who_asked_and_for_what_was_asked():
    asker = Asker()
    sealed = seal_to(asker.public, b"value", "task-1")
    assert asker.open(sealed, "task-1") == b"value"
    for opener, about in ((asker, "task-2"), (Asker(), "task-1")):
        with pytest.raises(CannotOpen):
            opener.open(sealed, about)
