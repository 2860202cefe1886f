"""Secret values, sealed: at rest with a key of one's own, in passing to the one who asked. AES-256-GCM throughout.

A sealed value is bound to what it is the value of (`about`): put elsewhere it does not open.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES, NONCE_BYTES, PUBLIC_BYTES = 32, 12, 32
_PURPOSE = b"roadstead sealed reply v1"


class CannotOpen(Exception):
    """It was sealed with another key, for something else, or is not whole."""


class Vault:
    """Seals what is stored."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self._digest_key = hashlib.sha256(b"digest" + key).digest()

    @classmethod
    def open(cls, path: Path) -> Vault:
        """The vault whose key is in this file, which only its owner may read; made if it is not there."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            part = path.with_suffix(".part")
            part.unlink(missing_ok=True)
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(os.urandom(KEY_BYTES))
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        return cls(path.read_bytes())

    def seal(self, value: bytes, about: str) -> bytes:
        """The value, sealed."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, value, about.encode())

    def unseal(self, sealed: bytes, about: str) -> bytes:
        """The value. Raises CannotOpen."""
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], about.encode())
        except (InvalidTag, ValueError):
            raise CannotOpen(about) from None

    def digest(self, value: bytes) -> str:
        """Tells whether two values are the same, to nobody without the key."""
        return hmac.new(self._digest_key, value, hashlib.sha256).hexdigest()


class Asker:
    """One who asks for something secret: whoever answers seals it to `public`, for this asker alone."""

    def __init__(self) -> None:
        self._private = X25519PrivateKey.generate()
        self.public = self._private.public_key().public_bytes_raw()

    def open(self, sealed: bytes, about: str) -> bytes:
        """What was sealed to it. Raises CannotOpen."""
        try:
            theirs = X25519PublicKey.from_public_bytes(sealed[:PUBLIC_BYTES])
            key = _shared(self._private.exchange(theirs), sealed[:PUBLIC_BYTES], self.public)
            return AESGCM(key).decrypt(bytes(NONCE_BYTES), sealed[PUBLIC_BYTES:], about.encode())
        except (InvalidTag, ValueError):
            raise CannotOpen(about) from None


def seal_to(public: bytes, value: bytes, about: str) -> bytes:
    """The value, for the holder of this public key alone. Raises ValueError when it is no key."""
    own = X25519PrivateKey.generate()
    ours = own.public_key().public_bytes_raw()
    key = _shared(own.exchange(X25519PublicKey.from_public_bytes(public)), ours, public)
    # The key is used once, so the nonce may always be the same.
    return ours + AESGCM(key).encrypt(bytes(NONCE_BYTES), value, about.encode())


def _shared(secret: bytes, ours: bytes, theirs: bytes) -> bytes:
    return HKDF(hashes.SHA256(), KEY_BYTES, salt=None, info=_PURPOSE + ours + theirs).derive(secret)
