"""Keys of signing profiles: made, sealed, and signed with. ECDSA on P-384, as AWS Signer has it for images."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from services.registry.ports import CannotSign
from services.shared.sealing import CannotOpen, Vault

_VALID = timedelta(days=4109)
"""135 months, as long as signatures of AWS Signer are valid unless its profile says otherwise."""
_COORDINATE = 48


class SealedKeys:
    """See ports.SigningKeys."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def make(self, profile: str, now: float) -> tuple[bytes, bytes]:
        """See ports.SigningKeys."""
        key = ec.generate_private_key(ec.SECP384R1())
        encoded = key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return self._vault.seal(encoded, _about(profile)), _certificate(key, profile, now)

    def sign(self, profile: str, sealed: bytes, data: bytes) -> bytes:
        """See ports.SigningKeys."""
        try:
            key = serialization.load_der_private_key(self._vault.unseal(sealed, _about(profile)), None)
        except CannotOpen:
            raise CannotSign("the profile's key was sealed with another key of the registry") from None
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA384())))
        return r.to_bytes(_COORDINATE, "big") + s.to_bytes(_COORDINATE, "big")

    def made(self, certificate: bytes, data: bytes, signature: bytes) -> bool:
        """See ports.SigningKeys."""
        key = x509.load_der_x509_certificate(certificate).public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        if len(signature) != 2 * _COORDINATE:
            return False
        r, s = (int.from_bytes(part, "big") for part in (signature[:_COORDINATE], signature[_COORDINATE:]))
        try:
            key.verify(encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA384()))
        except InvalidSignature:
            return False
        return True


def _certificate(key: ec.EllipticCurvePrivateKey, profile: str, now: float) -> bytes:
    """A chain of one, which must be as a leaf is ("Certificate Requirements" of Notary Project's specification)."""
    account, name = profile.split(":")[4], profile.rpartition("/")[2]
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
            x509.NameAttribute(NameOID.STATE_OR_PROVINCE_NAME, "local"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, f"Roadstead account {account}"),
            x509.NameAttribute(NameOID.COMMON_NAME, name[:64]),
        ]
    )
    begin = datetime.fromtimestamp(int(now), UTC)
    usage = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "key_cert_sign",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin - timedelta(minutes=5))
        .not_valid_after(begin + _VALID)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=True, **usage), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
        .sign(key, hashes.SHA384())
    )
    return made.public_bytes(serialization.Encoding.DER)


def _about(profile: str) -> str:
    return f"signing profile\n{profile}"
