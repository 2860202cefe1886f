"""A layer's tar, walked header by header as it streams by: nothing is unpacked, only what is wanted is kept.

The format is POSIX.1-2017 pax and GNU's (https://www.gnu.org/software/tar/manual/html_node/Standard.html). Reading
goes on where an unpacker would stop to complain, as long as the headers are whole: what an image has must not be hidden
behind an odd entry.
"""

from __future__ import annotations

import posixpath
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

BLOCK = 512
PIECE = 1 << 20
NAMES_LIMIT = 1 << 20
"""The largest extended header: it holds names, no files."""

_REGULAR = frozenset(b"0\x007")
_EMPTY = frozenset(b"123456")
_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL, _SPARSE = b"LKxgS"
_TAKEN = ("path", "linkpath", "size", "GNU.sparse.name")
"""What a pax header may say that changes what is read."""
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTD_WINDOW = 1 << 27
"""The largest window that zstd itself takes without being told to (`--long` goes so far)."""
_ZSTD_STEP = 2048
"""So much is unpacked at once (bytes): it becomes 64 MiB at worst."""
_FOREIGN = ((b"BZh", "bzip2"), (b"\xfd7zXZ", "xz"))
_ELF = b"\x7fELF"
_ELF_LEAST = 4096
"""A smaller program has nothing to tell."""


class LayerRefused(Exception):
    """The layer can't be read, or is more than what the limits allow. The message says why."""


class LayerUnsupported(LayerRefused):
    """The layer is packed in a way that is not read here."""


class Limits(NamedTuple):
    """What a layer may cost. Sizes in bytes, time in seconds of processor time."""

    unpacked: int = 8 << 30
    entries: int = 2_000_000
    file: int = 64 << 20
    packages: int = 200_000
    memory: int = 1 << 30
    seconds: int = 120


class Entry(NamedTuple):
    """One entry: its path without a leading slash, `..` taken in; whether it is a link to `link`; its content, if it
    is a regular file that was wanted, or a `program` (an ELF file; of a very large one its data segment alone).
    `large` is the size of a wanted file that has more bytes than are read of such ones. `text`: it was not wanted, but
    is to be searched."""

    path: str
    link: str = ""
    data: bytes | None = None
    program: bool = False
    large: int = 0
    text: bool = False


def unpacked(chunks: Iterable[bytes], limit: int) -> Iterator[bytes]:
    """The bytes of the tar, out of a layer as it is stored: gzip (of one or many members), zstd or plain.

    Raises LayerUnsupported for other packings, LayerRefused for a broken one or more than `limit` bytes.
    """
    source = iter(chunks)
    head = b""
    for chunk in source:
        head += chunk
        if len(head) >= 6:
            break
    for magic, name in _FOREIGN:
        if head.startswith(magic):
            raise LayerUnsupported(f"layers packed with {name} are not read yet")
    pieces = _chain(head, source)
    if head.startswith(b"\x1f\x8b"):
        pieces = _gunzipped(pieces)
    elif head.startswith(_ZSTD):
        pieces = _unzstd(pieces)
    total = 0
    for piece in pieces:
        total += len(piece)
        if total > limit:
            raise LayerRefused(f"it unpacks to more than {limit} bytes")
        yield piece


def _chain(head: bytes, rest: Iterable[bytes]) -> Iterator[bytes]:
    yield head
    yield from rest


def _gunzipped(chunks: Iterator[bytes]) -> Iterator[bytes]:
    inflater = zlib.decompressobj(31)
    ended = False
    for chunk in chunks:
        data = chunk
        while data:
            if ended:
                data = data.lstrip(b"\0")  # padding behind the last member
                if not data:
                    break
                inflater, ended = zlib.decompressobj(31), False
            try:
                piece = inflater.decompress(data, PIECE)
            except zlib.error as error:
                raise LayerRefused(f"its gzip stream is broken ({error})") from None
            data = inflater.unconsumed_tail
            if piece:
                yield piece
            if inflater.eof:
                ended, data = True, inflater.unused_data
    while not ended:
        piece = inflater.decompress(inflater.unconsumed_tail, PIECE) if inflater.unconsumed_tail else b""
        if not piece:
            raise LayerRefused("its gzip stream ends too early")
        yield piece
        ended = inflater.eof


def _unzstd(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Frame by frame, skippable ones too (RFC 8878, 3.1.2: tables of contents of chunked layers)."""
    import zstandard  # only layers that are packed so need it

    unpacker = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    frame = None
    try:
        for chunk in chunks:
            for at in range(0, len(chunk), _ZSTD_STEP):
                data = chunk[at : at + _ZSTD_STEP]
                while data:
                    frame = frame or unpacker.decompressobj()
                    if piece := frame.decompress(data):
                        yield piece
                    data = frame.unused_data if frame.eof else b""
                    frame = None if frame.eof else frame
    except zstandard.ZstdError as error:
        raise LayerRefused(f"its zstd stream is broken ({error})") from None
    if frame is not None:
        raise LayerRefused("its zstd stream ends too early")


class _Stream:
    """Bytes as they come, taken or passed over by count."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = b""
        self._at = 0

    def _more(self) -> bool:
        for piece in self._pieces:
            if piece:
                self._piece, self._at = piece, 0
                return True
        return False

    def take(self, count: int) -> bytes:
        """Exactly this many bytes, or fewer at the end."""
        end = self._at + count
        if end <= len(self._piece):
            taken = self._piece[self._at : end]
            self._at = end
            return taken
        parts = []
        while count:
            if self._at == len(self._piece) and not self._more():
                break
            part = self._piece[self._at : self._at + count]
            self._at += len(part)
            count -= len(part)
            parts.append(part)
        return b"".join(parts)

    def begins(self, with_: bytes) -> bool:
        """Whether what is next begins so; it is still next then."""
        if self._at + len(with_) > len(self._piece):
            rest = self._piece[self._at :]
            while len(rest) < len(with_) and self._more():
                rest += self._piece
            self._piece, self._at = rest, 0
        return self._piece.startswith(with_, self._at)

    def skip(self, count: int) -> bool:
        """Pass over; whether they were all there."""
        while count:
            if self._at == len(self._piece) and not self._more():
                return False
            step = min(count, len(self._piece) - self._at)
            self._at += step
            count -= step
        return True


def walk(
    pieces: Iterator[bytes],
    wanted: Callable[[str], bool],
    limits: Limits,
    most: Callable[[str], int | None] = lambda path: None,
    searched: Callable[[str, int], bool] = lambda path, size: False,
) -> Iterator[Entry]:
    """The entries of a tar, in order, directories and devices too. `most` tells how many bytes a wanted file may have
    to be read; None: it must be read, and may have what the limits say. `searched` says which other files, by path and
    size, are read. Raises LayerRefused."""
    stream = _Stream(pieces)
    extended: dict[str, str] = {}
    count = 0
    while True:
        block = stream.take(BLOCK)
        if not block.strip(b"\0") and (len(block) < BLOCK or not (block := stream.take(BLOCK)).strip(b"\0")):
            return
        _check(block)
        kind, size = block[156], _number(block[124:136])
        if kind in (_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL):
            extended |= _extension(stream, kind, size)
            continue
        count += 1
        if count > limits.entries:
            raise LayerRefused(f"it has more than {limits.entries} entries")
        yield _entry(stream, block, kind, size, extended, wanted, limits, most, searched)
        extended = {}


def _check(block: bytes) -> None:
    if len(block) < BLOCK:
        raise LayerRefused("its tar ends in the middle of a header")
    told = _number(block[148:156])
    actual = sum(block) - sum(block[148:156]) + 8 * 32
    if told != actual:
        raise LayerRefused("it is no tar: a header's checksum is wrong")


def _number(field: bytes) -> int:
    if field[0] & 0x80:  # GNU's base-256
        value = int.from_bytes(field, "big", signed=True) if field[0] == 0xFF else int.from_bytes(field[1:], "big")
    else:
        try:
            value = int(field.split(b"\0", 1)[0].strip() or b"0", 8)
        except ValueError:
            raise LayerRefused("it is no tar: a header's number can't be read") from None
    if value < 0:
        raise LayerRefused("it is no tar: a header's number is negative")
    return value


def _extension(stream: _Stream, kind: int, size: int) -> dict[str, str]:
    """What an extended header says of the entry behind it. Global ones change nothing that is looked at here."""
    if size > NAMES_LIMIT:
        raise LayerRefused("one of its extended headers is too large")
    data = _content(stream, size)
    if kind == _LONG_NAME:
        return {"path": _text(data.rstrip(b"\0"))}
    if kind == _LONG_LINK:
        return {"linkpath": _text(data.rstrip(b"\0"))}
    pax = _pax(data)
    told = {name: value for name, value in pax.items() if name in _TAKEN}
    if told and (kind == _PAX_GLOBAL or not all(told.values())):  # readers do not agree on what that means
        raise LayerRefused("one of its pax headers gives all entries a name, or one none")
    if any(name.startswith("GNU.sparse.") for name in pax):
        told["sparse"] = "yes"
    return told


def _told_size(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise LayerRefused("one of its pax headers has a size that is none")
    return int(text)


def _pax(data: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    while data:
        length, _, _ = data.partition(b" ")
        if not length.isdigit() or len(length) > 8 or not len(length) + 1 < int(length) <= len(data):
            raise LayerRefused("one of its pax headers can't be read")
        name, _, value = data[len(length) + 1 : int(length) - 1].partition(b"=")
        found[_text(name)] = _text(value)
        data = data[int(length) :]
    if "GNU.sparse.name" in found:
        found["path"] = found["GNU.sparse.name"]
    return found


def _entry(
    stream: _Stream,
    block: bytes,
    kind: int,
    size: int,
    extended: dict[str, str],
    wanted: Callable[[str], bool],
    limits: Limits,
    most: Callable[[str], int | None],
    searched: Callable[[str, int], bool],
) -> Entry:
    short = _name(block)
    named = extended.get("path") or short
    path = clean(named)
    if "size" in extended:
        size = _told_size(extended["size"])
    if kind == 0 and size and (named.endswith("/") or short.endswith("/")):
        # Before POSIX a slash made a file a directory; whether it has content then, readers do not agree.
        raise LayerRefused(f"/{path} may be a file or a directory")
    if kind == _SPARSE:
        if wanted(path):
            raise LayerRefused(f"/{path} is a sparse file")
        _pass_sparse_map(stream, block)
    if kind in _EMPTY:  # their size says something else, if anything
        link = extended.get("linkpath") or _text(block[157:257].split(b"\0", 1)[0])
        return Entry(path, link=clean(link) if kind == ord("1") else "")
    large = 0
    if kind in _REGULAR and not (kind == 0 and named.endswith("/")):
        if wanted(path):
            if "sparse" in extended:
                raise LayerRefused(f"/{path} is a sparse file")
            limit = most(path)
            if limit is None and size > limits.file:
                raise LayerRefused(f"/{path} has {size} bytes; at most {limits.file} are read")
            if limit is None or size <= limit:
                return Entry(path, data=_content(stream, size))
            large = size
        elif size >= _ELF_LEAST and stream.begins(_ELF) and "sparse" not in extended:
            return Entry(path, data=_program(stream, size, limits.file), program=True)
        elif size and "sparse" not in extended and searched(path, size):
            return Entry(path, data=_content(stream, size), text=True)
    _skipped(stream, -(-size // BLOCK) * BLOCK)
    return Entry(path, large=large)


def _program(stream: _Stream, size: int, limit: int) -> bytes:
    """An ELF file whole, or of one that is too large for that the segment that can be written to: where Go puts what
    it tells of itself. Not more than `limit` bytes."""
    if size <= limit:
        return _content(stream, size)
    head = stream.take(_ELF_LEAST)
    offset, length = _data_segment(head)
    length = max(min(length, size - offset, limit), 0)
    data = head[offset : offset + length]
    _skipped(stream, gap := max(min(offset, size) - len(head), 0))
    more = stream.take(length - len(data))
    _skipped(stream, size - len(head) - gap - len(more) + -size % BLOCK)
    return data + more


def _skipped(stream: _Stream, count: int) -> None:
    if not stream.skip(count):
        raise LayerRefused("its tar ends in the middle of a file")


def _data_segment(head: bytes) -> tuple[int, int]:
    """(offset, size) of the first segment of a program that can be written to; (0, 0) without one."""
    from services.scanner.decisions.bounds import Broken
    from services.scanner.decisions.cataloguers.elf import Elf

    try:
        segments = Elf(head).segments()
    except Broken:
        return 0, 0
    return next(((each.offset, each.size) for each in segments if each.writable), (0, 0))


def _content(stream: _Stream, size: int) -> bytes:
    data = stream.take(size)
    if len(data) < size or not stream.skip(-size % BLOCK):
        raise LayerRefused("its tar ends in the middle of a file")
    return data


def _pass_sparse_map(stream: _Stream, block: bytes) -> None:
    more = block[482]
    while more:
        block = stream.take(BLOCK)
        if len(block) < BLOCK:
            raise LayerRefused("its tar ends in the middle of a header")
        more = block[504]


def _name(block: bytes) -> str:
    name = block[:100].split(b"\0", 1)[0]
    prefix = block[345:500].split(b"\0", 1)[0] if block[257:263] == b"ustar\0" else b""
    return _text(prefix + b"/" + name if prefix else name)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def clean(path: str) -> str:
    """A path as it lies under the root of the image: no leading slash, nothing that leads out."""
    return posixpath.normpath("/" + path).lstrip("/")
