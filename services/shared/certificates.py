"""A local certificate authority, and certificates of servers by it. Made once, kept under the data directory.

https://www.rfc-editor.org/rfc/rfc5280
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from services.shared.private_files import write_private
from services.shared.settings import SettingsError

CA_FILE = "ca.pem"
CA_DAYS, LEAF_DAYS, RENEW_DAYS = 3650, 397, 30
_HASH = hashes.SHA256()


class Authority:
    """Open it with `Authority.open`."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, path: Path) -> None:
        self._certificate = certificate
        self._key = key
        self.path = path
        """The certificate that clients are to trust (PEM)."""

    @classmethod
    def open(cls, folder: Path, now: datetime.datetime) -> Self:
        """The authority of this directory, made when there is none. Raises SettingsError, naming the file, when it is
        expired, can't be read, or its key is another's."""
        path, key_path = folder / CA_FILE, folder / "ca.key"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():  # a key alone is what a crash between the two left: nobody trusts it yet
            certificate, key = _make_authority(now)
            write_private(key_path, _private(key))
            write_private(path, certificate.public_bytes(serialization.Encoding.PEM))
        try:
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
            key = serialization.load_pem_private_key(key_path.read_bytes(), None)
        except (OSError, ValueError, TypeError) as error:
            raise SettingsError(_told(path, f"can't be read: {error}")) from error
        if certificate.not_valid_after_utc <= now:
            raise SettingsError(_told(path, f"expired on {certificate.not_valid_after_utc:%Y-%m-%d}"))
        if not isinstance(key, ec.EllipticCurvePrivateKey) or certificate.public_key() != key.public_key():
            raise SettingsError(_told(path, f"does not belong to the key in {key_path}"))
        return cls(certificate, key, path)

    def issue(self, path: Path, names: Iterable[str], common_name: str, now: datetime.datetime) -> bool:
        """See to it that `path` holds a certificate, with its key, for these DNS names and IP addresses, and some
        days to come; whether it had to be made."""
        wanted = [_general(name) for name in sorted(set(names))]
        if self._good(path, wanted, now):
            return False
        key = ec.generate_private_key(ec.SECP256R1())
        ends = min(now + datetime.timedelta(days=LEAF_DAYS), self._certificate.not_valid_after_utc)
        certificate = (
            _builder(common_name, self._certificate.subject, key, now, ends)
            .add_extension(x509.SubjectAlternativeName(wanted), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, _HASH)
        )
        write_private(path, certificate.public_bytes(serialization.Encoding.PEM) + _private(key))
        return True

    def _good(self, path: Path, names: list[x509.GeneralName], now: datetime.datetime) -> bool:
        try:
            leaf = x509.load_pem_x509_certificate(path.read_bytes())
            leaf.verify_directly_issued_by(self._certificate)
            has = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (OSError, ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
            return False
        fresh = leaf.not_valid_after_utc - now > datetime.timedelta(days=RENEW_DAYS)
        whole = self._certificate.not_valid_after_utc == leaf.not_valid_after_utc
        return (fresh or whole) and set(names) <= set(has)


def _make_authority(now: datetime.datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Roadstead local authority")])
    usage = dict.fromkeys(
        ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
         "encipher_only", "decipher_only"), False,
    )  # fmt: skip
    certificate = (
        _builder("Roadstead local authority", name, key, now, now + datetime.timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, _HASH)
    )
    return certificate, key


def _builder(
    common_name: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime.datetime, end: datetime.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(end)
    )


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _told(path: Path, problem: str) -> str:
    return (
        f"the certificate authority {path} {problem}. Take it and its key away to have a new one made, "
        "which clients must then trust"
    )
