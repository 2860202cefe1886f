"""The local certificate authority and the certificate of the gateway. Made once, kept under the data directory.

https://www.rfc-editor.org/rfc/rfc5280
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from services.app_runner_gateway.decisions.names import DOMAIN, TOP
from services.shared.settings import SettingsError

CA_FILE = "ca.pem"
CA_DAYS, LEAF_DAYS, RENEW_DAYS = 3650, 397, 30
#: The regions that the certificate is for from the start; others are added with their first service.
REGIONS = (
    "ap-northeast-1", "ap-south-1", "ap-southeast-1", "ap-southeast-2", "ca-central-1", "eu-central-1", "eu-north-1",
    "eu-west-1", "eu-west-2", "eu-west-3", "sa-east-1", "us-east-1", "us-east-2", "us-west-1", "us-west-2",
)  # fmt: skip
_HASH = hashes.SHA256()


class Authority:
    """Open it with `Authority.open`."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, path: Path) -> None:
        self._certificate = certificate
        self._key = key
        self.path = path
        """The certificate that clients are to trust (PEM)."""

    @classmethod
    def open(cls, folder: Path, now: datetime.datetime) -> Authority:
        """The authority of this directory, made when there is none. Raises SettingsError, naming the file, when it is
        expired, can't be read, or its key is another's."""
        path, key_path = folder / CA_FILE, folder / "ca.key"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():  # a key alone is what a crash between the two left: nobody trusts it yet
            certificate, key = _make_authority(now)
            _write(key_path, _private(key))
            _write(path, certificate.public_bytes(serialization.Encoding.PEM))
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

    def leaf(self, path: Path, regions: Iterable[str], now: datetime.datetime) -> bool:
        """See to it that `path` holds a certificate, with its key, for these regions too; whether it had to be made."""
        all_of_them = sorted({*REGIONS, *regions})
        names = [f"*.{region}.{DOMAIN}" for region in all_of_them]
        names += [f"*.ecs.{region}.{TOP}" for region in all_of_them]
        if self._good(path, names, now):
            return False
        key = ec.generate_private_key(ec.SECP256R1())
        ends = min(now + datetime.timedelta(days=LEAF_DAYS), self._certificate.not_valid_after_utc)
        certificate = (
            _builder(f"*.{DOMAIN}", self._certificate.subject, key, now, ends)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, _HASH)
        )
        _write(path, certificate.public_bytes(serialization.Encoding.PEM) + _private(key))
        return True

    def _good(self, path: Path, names: list[str], now: datetime.datetime) -> bool:
        try:
            leaf = x509.load_pem_x509_certificate(path.read_bytes())
            leaf.verify_directly_issued_by(self._certificate)
            has = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (OSError, ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
            return False
        fresh = leaf.not_valid_after_utc - now > datetime.timedelta(days=RENEW_DAYS)
        whole = self._certificate.not_valid_after_utc == leaf.not_valid_after_utc
        return (fresh or whole) and set(names) <= set(has.get_values_for_type(x509.DNSName))


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


def _write(path: Path, data: bytes) -> None:
    """For its owner alone, whole or not at all."""
    part = path.with_suffix(path.suffix + ".part")
    part.unlink(missing_ok=True)
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _told(path: Path, problem: str) -> str:
    return (
        f"the certificate authority {path} {problem}. Take it and its key away to have a new one made, "
        "which clients must then trust"
    )
