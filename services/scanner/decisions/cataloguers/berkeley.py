"""The values of a hash in Berkeley DB: pages of one size, each with a header of 26 bytes (dbinc/db_page.h of its
sources). An item of a page begins with its type: the value itself, or the first of a chain of pages that have it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from services.scanner.decisions.bounds import Broken

_MAGIC = 0x061561
_HEADER = 26
_HASH_PAGES = frozenset((2, 13))
_OVERFLOW = 7
_HERE, _ELSEWHERE = 1, 3


def hash_values(data: bytes) -> Iterator[bytes]:
    """All values, in the order of pages. What leads nowhere is passed over. Raises Broken for what is no such hash."""
    if len(data) < 512:
        raise Broken("it is no Berkeley DB")
    order = next((each for each in "<>" if struct.unpack_from(each + "I", data, 12)[0] == _MAGIC), None)
    if order is None:
        raise Broken("it is no hash of Berkeley DB")
    (size,) = struct.unpack_from(order + "I", data, 20)
    if not 512 <= size <= 65_536 or size & (size - 1):
        raise Broken("it is no hash of Berkeley DB: its pages have a size that is none")
    if data[24]:
        raise Broken("it is encrypted")
    read: set[int] = set()
    for start in range(size, len(data) - size + 1, size):
        if data[start + 25] in _HASH_PAGES:
            yield from _of_page(data, start, size, order, read)


def _of_page(data: bytes, start: int, size: int, order: str, read: set[int]) -> Iterator[bytes]:
    """The values of a page: every second item. Items lie from its end on, one before the other."""
    (count,) = struct.unpack_from(order + "H", data, start + 20)
    count = min(count, (size - _HEADER) // 2)
    places = struct.unpack_from(f"{order}{count}H", data, start + _HEADER)
    for index in range(1, count, 2):
        at, end = places[index], places[index - 1]
        if not _HEADER <= at < end <= size:
            continue
        item = data[start + at : start + end]
        if item[0] == _HERE:
            yield item[1:]
        elif item[0] == _ELSEWHERE and len(item) >= 12:
            page, length = struct.unpack_from(order + "II", item, 4)
            yield _chained(data, page, length, size, order, read)


def _chained(data: bytes, page: int, length: int, size: int, order: str, read: set[int]) -> bytes:
    """A value out of overflow pages; each page belongs to one value, so that what is read is no more than there is."""
    parts, left = [], length
    while left > 0 and page and page not in read and (page + 1) * size <= len(data):
        read.add(page)
        start = page * size
        (following,) = struct.unpack_from(order + "I", data, start + 16)
        (here,) = struct.unpack_from(order + "H", data, start + 22)
        if data[start + 25] != _OVERFLOW or here > size - _HEADER:
            break
        parts.append(data[start + _HEADER : start + _HEADER + min(here, left)])
        left -= min(here, left)
        page = following
    return b"".join(parts)
