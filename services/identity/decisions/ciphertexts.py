"""What KMS encrypts under a key: its form, and what it is bound to.

    version 1 | account 8 | key id 16 | material id 32 | salt 16 | nonce 12 | AES-256-GCM of the plaintext, tag 16

Each is encrypted with a key of its own, derived from the material and the salt (HKDF-SHA256), so that a key serves for
any number of them. All of the head and the encryption context are authenticated.
"""

from __future__ import annotations

import struct
import uuid

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_HEAD = struct.Struct(">BQ16s32s16s12s")
_VERSION = 1
_PURPOSE = b"roadstead kms v1"
RANDOM_BYTES = 28
"""What an encryption needs of randomness: salt and nonce."""


class NoCiphertext(Exception):
    """It was not encrypted under a key of KMS, or not with this material and context, or is not whole."""


class Head(msgspec.Struct, frozen=True):
    """Which key and material something was encrypted with."""

    account: str
    key_id: str
    material_id: str


def encrypt(head: Head, material: bytes, plaintext: bytes, context: dict[str, str], random: bytes) -> bytes:
    """The ciphertext. `random` are RANDOM_BYTES that were never used before."""
    salt, nonce = random[:16], random[16:]
    packed = _HEAD.pack(
        _VERSION, int(head.account), uuid.UUID(head.key_id).bytes, bytes.fromhex(head.material_id), salt, nonce
    )
    return packed + AESGCM(_derived(material, salt)).encrypt(nonce, plaintext, packed + canonical(context))


def read_head(ciphertext: bytes) -> Head:
    """What it says it was encrypted with. Raises NoCiphertext."""
    if len(ciphertext) < _HEAD.size + 16 or ciphertext[0] != _VERSION:
        raise NoCiphertext
    _, account, key_id, material_id, _, _ = _HEAD.unpack_from(ciphertext)
    return Head(f"{account:012d}", str(uuid.UUID(bytes=key_id)), material_id.hex())


def decrypt(material: bytes, ciphertext: bytes, context: dict[str, str]) -> bytes:
    """The plaintext. Raises NoCiphertext."""
    packed = ciphertext[: _HEAD.size]
    salt, nonce = packed[-RANDOM_BYTES:-12], packed[-12:]
    try:
        return AESGCM(_derived(material, salt)).decrypt(nonce, ciphertext[_HEAD.size :], packed + canonical(context))
    except InvalidTag:
        raise NoCiphertext from None


def canonical(context: dict[str, str]) -> bytes:
    """An encryption context as bytes: the same for the same pairs in any order, and for no others."""
    parts = []
    for pair in sorted(context.items()):
        for text in pair:
            data = text.encode()
            parts.append(struct.pack(">I", len(data)) + data)
    return b"".join(parts)


def _derived(material: bytes, salt: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, salt=salt, info=_PURPOSE).derive(material)
