"""The form of sealed content: any range opens, and any change of it is found."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.registry.adapters.sealing import Sealer, open_whole, seal_whole
from services.registry.decisions.segments import (
    END_SIZE,
    FRAME,
    HEADER_SIZE,
    OVERHEAD,
    SEGMENT,
    Damaged,
    content_size,
    sealed_name,
    sealed_size,
    segments,
    stretch,
)
from services.registry.ports import ContentKey
from tests.builders.images import digest_of

KEY, OTHER = ContentKey(b"k" * 16, b"s" * 32), ContentKey(b"k" * 16, b"t" * 32)
LARGEST = 3 * SEGMENT + 5
CONTENT = os.urandom(LARGEST)
EDGES = [n * SEGMENT + d for n in range(4) for d in (-1, 0, 1) if 0 <= n * SEGMENT + d <= LARGEST]
SIZES = st.one_of(st.sampled_from(EDGES), st.integers(0, LARGEST))


def sealed(size=LARGEST) -> bytes:
    return seal_whole(KEY, CONTENT[:size], digest_of(CONTENT[:size]))


def opened(data: bytes, size=LARGEST) -> bytes:
    return open_whole(KEY, data, digest_of(CONTENT[:size]))


@given(SIZES)
def test_what_was_sealed_opens_and_its_size_is_told_by_the_files(size):
    data = sealed(size)
    assert opened(data, size) == CONTENT[:size]
    assert (len(data), content_size(len(data))) == (sealed_size(size), size)


@given(st.integers(-10, sealed_size(LARGEST)))
def test_a_size_that_no_sealed_content_has_is_none(length):
    size = content_size(length)
    assert size is None or sealed_size(size) == length


@settings(max_examples=200)
@given(SIZES, SIZES, SIZES)
def test_any_range_opens_out_of_the_segments_that_it_touches(size, one, other):
    start, stop = sorted((min(one, size), min(other, size)))
    if start == stop:
        return
    data = sealed(size)
    where = stretch(start, stop, size)
    content = Sealer.of(KEY, data[:HEADER_SIZE]).open(where.index, data[where.start : where.stop])
    assert bytes(content[where.skip : where.skip + stop - start]) == CONTENT[start:stop]
    touched = segments(stop) - start // SEGMENT
    assert where.stop - where.start <= touched * FRAME


@settings(max_examples=200)
@given(st.sampled_from([1, SEGMENT, SEGMENT + 1, LARGEST]), st.data())
def test_any_flipped_bit_is_found(size, data):
    content = bytearray(sealed(size))
    at = data.draw(st.one_of(st.integers(0, len(content) - 1), st.integers(0, HEADER_SIZE + 20)))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(Damaged):
        opened(bytes(content), size)


@given(st.integers(0, sealed_size(LARGEST) - 1))
def test_a_cut_is_found(length):
    with pytest.raises(Damaged):
        opened(sealed()[:length])


@given(st.integers(0, 2), st.integers(0, 2))
def test_segments_that_are_left_out_doubled_or_change_places_are_found(one, other):
    data = sealed()
    head, rest = data[:HEADER_SIZE], data[HEADER_SIZE + 3 * FRAME :]
    parts = [data[HEADER_SIZE + n * FRAME : HEADER_SIZE + (n + 1) * FRAME] for n in range(3)]
    swapped = list(parts)
    swapped[one], swapped[other] = parts[other], parts[one]
    left_out, doubled = parts[:one] + parts[one + 1 :], [*parts[:one], parts[other], *parts[one:]]
    for each in (left_out, doubled, *([swapped] if one != other else [])):
        with pytest.raises(Damaged):
            opened(b"".join((head, *each, rest)))


def test_segments_and_ends_of_other_content_are_found():
    mine, others = sealed(), seal_whole(KEY, CONTENT, digest_of(CONTENT))
    for at in (slice(HEADER_SIZE, HEADER_SIZE + FRAME), slice(len(mine) - END_SIZE, len(mine))):
        mixed = bytearray(mine)
        mixed[at] = others[at]
        with pytest.raises(Damaged):
            opened(bytes(mixed))
    with pytest.raises(Damaged, match="other content"):
        open_whole(KEY, sealed(SEGMENT), digest_of(b"x" * SEGMENT))


def test_another_key_opens_nothing():
    data, digest = sealed(), digest_of(CONTENT)
    for key in (OTHER, ContentKey(b"x" * 16, KEY.secret)):
        with pytest.raises(Damaged):
            open_whole(key, data, digest)
    assert sealed_name(KEY.id, digest) != sealed_name(b"x" * 16, digest) != digest


def test_the_same_content_is_sealed_differently_each_time_and_shows_nothing():
    marker = b"the plaintext of a layer" * 100
    one, other = (seal_whole(KEY, marker, digest_of(marker)) for _ in range(2))
    assert one[HEADER_SIZE:] != other[HEADER_SIZE:]
    assert b"plaintext" not in one
    assert len(one) == HEADER_SIZE + len(marker) + OVERHEAD + END_SIZE
