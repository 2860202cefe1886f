"""Segments sealed and opened: see services.registry.decisions.segments for their form. All of it computes, nothing
waits."""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from services.registry.decisions.segments import (
    DATA,
    END,
    END_SIZE,
    FRAME,
    HEADER_SIZE,
    NONCE,
    OVERHEAD,
    SALT,
    SEGMENT,
    Damaged,
    Header,
    about,
    content_size,
    length_prefix,
    read_header,
    read_length,
    segments,
    summary,
)
from services.registry.ports import ContentKey

_PURPOSE = b"roadstead registry content v1"


class Sealer:
    """The cipher of one content."""

    def __init__(self, key: ContentKey, header: Header) -> None:
        if header.key_id != key.id:
            raise Damaged("it was sealed with another key than the repository has")
        self.header = header.packed()
        derived = HKDF(hashes.SHA256(), 32, salt=header.salt, info=_PURPOSE + self.header).derive(key.secret)
        self._cipher = AESGCM(derived)

    @classmethod
    def new(cls, key: ContentKey) -> Sealer:
        """That of content which is to be written."""
        return cls(key, Header(key.id, os.urandom(SALT)))

    @classmethod
    def of(cls, key: ContentKey, header: bytes) -> Sealer:
        """That of content which begins with this header. Raises Damaged."""
        return cls(key, read_header(header))

    def seal(self, index: int, data: bytes | memoryview) -> bytearray:
        """Consecutive segments from `index` on; the last of them may be short."""
        view = memoryview(data)
        count = segments(len(view))
        sealed = bytearray(len(view) + count * OVERHEAD)
        out = memoryview(sealed)
        nonces = os.urandom(NONCE * count)
        for number in range(count):
            part = view[number * SEGMENT : (number + 1) * SEGMENT]
            frame = out[number * FRAME : number * FRAME + len(part) + OVERHEAD]
            nonce = nonces[number * NONCE : (number + 1) * NONCE]
            frame[:4] = length_prefix(len(part))
            frame[4:16] = nonce
            self._cipher.encrypt_into(nonce, part, about(index + number, DATA), frame[16:])
        return sealed

    def end(self, index: int, size: int, digest: str) -> bytes:
        """The end, after `index` segments."""
        nonce, said = os.urandom(NONCE), summary(size, digest)
        return length_prefix(len(said)) + nonce + self._cipher.encrypt(nonce, said, about(index, END))

    def open(self, index: int, frames: bytes | bytearray | memoryview) -> bytearray:
        """The content of consecutive segments from `index` on, of which only the last may be short. Raises Damaged."""
        view = memoryview(frames)
        count = -(-len(view) // FRAME)
        content = bytearray(max(len(view) - count * OVERHEAD, 0))
        out = memoryview(content)
        for number in range(count):
            frame = view[number * FRAME : (number + 1) * FRAME]
            where = number * SEGMENT
            self._open_into(index + number, frame, out[where : where + len(frame) - OVERHEAD])
        return content

    def _open_into(self, index: int, frame: memoryview, out: memoryview) -> None:
        if len(frame) <= OVERHEAD or read_length(frame) != len(frame) - OVERHEAD:
            raise Damaged(f"segment {index} has not the length that it says")
        try:
            self._cipher.decrypt_into(frame[4:16], frame[16:], about(index, DATA), out)
        except InvalidTag:
            raise Damaged(f"segment {index} is not as it was written") from None

    def check_end(self, frame: bytes, size: int, digest: str) -> None:
        """Raises Damaged unless this is the end of content of this size and digest."""
        try:
            said = self._cipher.decrypt(frame[4:16], frame[16:], about(segments(size), END))
        except (InvalidTag, ValueError):
            raise Damaged("its end is missing, or not as it was written") from None
        if said != summary(size, digest):
            raise Damaged("it is other content than its name says")


def seal_whole(key: ContentKey, data: bytes, digest: str) -> bytes:
    """Small content, sealed."""
    sealer = Sealer.new(key)
    return b"".join((sealer.header, sealer.seal(0, data), sealer.end(segments(len(data)), len(data), digest)))


def open_whole(key: ContentKey, sealed: bytes, digest: str) -> bytes:
    """The other way round. Raises Damaged."""
    sealer = Sealer.of(key, sealed[:HEADER_SIZE])
    size = content_size(len(sealed))
    if size is None:
        raise Damaged("no sealed content has this size")
    sealer.check_end(sealed[-END_SIZE:], size, digest)
    return bytes(sealer.open(0, sealed[HEADER_SIZE:-END_SIZE]))
