"""The form of sealed content: in segments, so that it streams through constant memory and any range opens by itself.

    header 64:  magic 8 | version 1 | log2 of a segment 1 | 6 zero | key id 16 | salt 32
    segment:    length 4 | nonce 12 | AES-256-GCM of up to 64 KiB | tag 16        all are full but the last one
    end 72:     length 4 | nonce 12 | AES-256-GCM of (size 8, SHA-256 of the content 32) | tag 16

The key of a content is derived from the key that `key id` names, the salt and the whole header. A segment is bound to
its index and to being a segment, the end to the number of segments and to being the end: what is flipped, left out,
put elsewhere or cut off is found (the STREAM construction, Hoang, Reyhanitabar, Rogaway and Vizár 2015, with nonces
that are random, so that a segment which a crash tore may be written again). The end says whose content it is: one file
put in another's place is found too.
"""

from __future__ import annotations

import hashlib
import struct

import msgspec

MAGIC, VERSION, LOG2 = b"RoadSeal", 1, 16
SEGMENT = 1 << LOG2
NONCE, TAG = 12, 16
KEY_ID, SALT = 16, 32
OVERHEAD = 4 + NONCE + TAG
FRAME = SEGMENT + OVERHEAD
DATA, END = 0, 1

_HEADER = struct.Struct(">8sBB6x16s32s")
_LENGTH = struct.Struct(">I")
_ABOUT = struct.Struct(">QB")
_SUMMARY = struct.Struct(">Q32s")
HEADER_SIZE = _HEADER.size
END_SIZE = OVERHEAD + _SUMMARY.size


class Damaged(Exception):
    """This is no sealed content, or not as it was written."""


class Header(msgspec.Struct, frozen=True):
    """Which key it was sealed with, and its salt."""

    key_id: bytes
    salt: bytes

    def packed(self) -> bytes:
        """As bytes."""
        return _HEADER.pack(MAGIC, VERSION, LOG2, self.key_id, self.salt)


class Stretch(msgspec.Struct, frozen=True):
    """The bytes of a sealed file that have a range of its content: from `start` to before `stop`, beginning with
    segment `index`, of whose content the first `skip` bytes are not wanted."""

    start: int
    stop: int
    index: int
    skip: int


def read_header(data: bytes) -> Header:
    """The header. Raises Damaged."""
    if len(data) < HEADER_SIZE or data[:8] != MAGIC:
        raise Damaged("it has no header of sealed content")
    _, version, log2, key_id, salt = _HEADER.unpack_from(data)
    if (version, log2) != (VERSION, LOG2) or data[10:16] != bytes(6):
        raise Damaged(f"it is sealed in a form (version {version}) that this registry does not know")
    return Header(key_id, salt)


def length_prefix(length: int) -> bytes:
    """What a segment begins with."""
    return _LENGTH.pack(length)


def read_length(frame: bytes | memoryview) -> int:
    """The length that a segment or the end begins with."""
    return int(_LENGTH.unpack_from(frame)[0])


def about(index: int, kind: int) -> bytes:
    """What a segment (DATA) or the end (END) is bound to."""
    return _ABOUT.pack(index, kind)


def summary(size: int, digest: str) -> bytes:
    """What the end says."""
    return _SUMMARY.pack(size, bytes.fromhex(digest.partition(":")[2]))


def sealed_name(key_id: bytes, digest: str) -> str:
    """The name that sealed content has in the store: SHA-256 of the key's id and the digest, as a digest."""
    return "sha256:" + hashlib.sha256(key_id + digest.encode()).hexdigest()


def segments(size: int) -> int:
    """How many segments content of this size has."""
    return -(-size // SEGMENT)


def sealed_size(size: int) -> int:
    """The size of the file that has content of this size."""
    return HEADER_SIZE + size + segments(size) * OVERHEAD + END_SIZE


def content_size(sealed: int) -> int | None:
    """The other way round; None for what no sealed file can have."""
    body = sealed - HEADER_SIZE - END_SIZE
    full, rest = divmod(body, FRAME)
    if body < 0 or 0 < rest <= OVERHEAD:
        return None
    return full * SEGMENT + (rest - OVERHEAD if rest else 0)


def stretch(start: int, stop: int, size: int) -> Stretch:
    """Where the content from `start` to before `stop` lies, in a file whose content has `size` bytes."""
    first, last = start // SEGMENT, segments(min(stop, size))
    end = HEADER_SIZE + min(last * FRAME, size + segments(size) * OVERHEAD)
    return Stretch(HEADER_SIZE + first * FRAME, end, first, start - first * SEGMENT)
