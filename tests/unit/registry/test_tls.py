"""What the registry serves HTTPS with."""

from __future__ import annotations

import pytest
from cryptography import x509

from services.registry.adapters.tls import LEAF_FILE, serving_context
from services.registry.settings import RegistrySettings
from services.shared.certificates import CA_FILE
from services.shared.settings import SettingsError

NOW = 1_800_000_000.0


def names(path) -> set[str]:
    made = x509.load_pem_x509_certificate(path.read_bytes())
    told = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in told}


def test_without_a_certificate_one_is_made_and_stays_until_it_is_for_other_names(tmp_path):
    serving_context(RegistrySettings(https_port=0), tmp_path, NOW)
    first, ca = (tmp_path / LEAF_FILE).read_bytes(), (tmp_path / CA_FILE).read_bytes()
    assert {"localhost", "127.0.0.1"} <= names(tmp_path / LEAF_FILE)
    serving_context(RegistrySettings(https_port=0), tmp_path, NOW)
    assert (tmp_path / LEAF_FILE).read_bytes() == first
    more = RegistrySettings(https_port=0, tls_names="registry.example, 10.0.0.9", advertised="images.example:5000")
    serving_context(more, tmp_path, NOW)
    assert {"registry.example", "10.0.0.9", "images.example"} <= names(tmp_path / LEAF_FILE)
    assert (tmp_path / CA_FILE).read_bytes() == ca


def test_a_certificate_of_one_s_own_is_used_and_one_that_can_not_be_is_told_by_its_file(tmp_path):
    serving_context(RegistrySettings(https_port=0), tmp_path / "made", NOW)
    leaf = str(tmp_path / "made" / LEAF_FILE)
    serving_context(RegistrySettings(https_port=0, tls_certificate=leaf, tls_key=leaf), tmp_path / "other", NOW)
    assert not (tmp_path / "other").exists()
    with pytest.raises(SettingsError, match="go together"):
        serving_context(RegistrySettings(https_port=0, tls_certificate=leaf), tmp_path, NOW)
    missing = str(tmp_path / "missing.pem")
    with pytest.raises(SettingsError, match=r"missing\.pem"):
        serving_context(RegistrySettings(https_port=0, tls_certificate=missing, tls_key=missing), tmp_path, NOW)
