"""A layer's tar, walked: what is read is what tarfile would unpack, and what is hostile is refused."""

import gzip
import io
import tarfile
import zlib

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scanner.decisions.tar import Entry, LayerRefused, LayerUnsupported, Limits, clean, unpacked, walk

LIMITS = Limits(unpacked=1 << 24, entries=1000, file=1 << 16)


def tar(*members, format=tarfile.PAX_FORMAT):
    """A tar of (TarInfo fields, data)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for fields, data in members:
            info = tarfile.TarInfo(fields["name"])
            for name, value in fields.items():
                setattr(info, name, value)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def entries(data, wanted=lambda path: True, limits=LIMITS, step=1000):
    pieces = (data[i : i + step] for i in range(0, len(data), step))
    return list(walk(unpacked(pieces, limits.unpacked), wanted, limits))


names = st.text(alphabet=st.characters(blacklist_characters="\0/", blacklist_categories=("Cs",)), min_size=1)
paths = st.lists(names, min_size=1, max_size=12).map("/".join).filter(lambda p: clean(p) and len(p.encode()) < 4000)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(paths, st.binary(max_size=900)), max_size=4, unique_by=lambda m: m[0]),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
    st.booleans(),
    st.integers(min_value=50, max_value=5000),
)
def test_files_are_read_as_tarfile_wrote_them(members, format, packed, step):
    data = tar(*(({"name": name}, content) for name, content in members), format=format)
    found = entries(gzip.compress(data) if packed else data, step=step)
    assert found == [Entry(clean(name), data=content) for name, content in members]


def test_only_what_is_wanted_is_kept():
    data = tar(({"name": "a"}, b"1" * 5000), ({"name": "b"}, b"2"))
    assert entries(data, wanted=lambda path: path == "b") == [Entry("a"), Entry("b", data=b"2")]


def test_links_devices_and_directories_have_no_content():
    data = tar(
        ({"name": "d", "type": tarfile.DIRTYPE}, b""),
        ({"name": "l", "type": tarfile.LNKTYPE, "linkname": "/a/../f"}, b""),
        ({"name": "s", "type": tarfile.SYMTYPE, "linkname": "f"}, b""),
        ({"name": "n", "type": tarfile.CHRTYPE}, b""),
    )
    assert entries(data) == [Entry("d"), Entry("l", link="f"), Entry("s"), Entry("n")]


def test_a_path_that_leads_out_is_one_that_stays_in():
    assert [e.path for e in entries(tar(({"name": "../../etc/passwd"}, b"x"), ({"name": "/abs"}, b"")))] == [
        "etc/passwd", "abs",
    ]  # fmt: skip


def test_gzip_of_several_members_is_one_layer():
    data = tar(({"name": "a"}, b"1" * 4000))
    packed = gzip.compress(data[:700]) + gzip.compress(data[700:]) + b"\0" * 20
    assert entries(packed) == [Entry("a", data=b"1" * 4000)]


def test_an_entry_behind_a_single_empty_block_is_seen():
    data = tar(({"name": "a"}, b""))[:512] + b"\0" * 512 + tar(({"name": "b"}, b"x"))
    assert [e.path for e in entries(data)] == ["a", "b"]


def test_an_empty_layer_has_nothing():
    assert entries(b"\0" * 1024) == []
    assert entries(b"") == []


def bomb():
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return packer.compress(b"\0" * (LIMITS.unpacked + 1)) + packer.flush()


big = tar(({"name": "a"}, b"x" * 70_000))
one = tar(({"name": "a"}, b"x" * 600))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (tar(({"name": "a"}, b""))[:100] + b"junk", "in the middle of a header"),
        (b"no tar at all" * 100, "it is no tar"),
        (one[:124] + b"-0000000001 " + one[136:], "it is no tar"),
        (gzip.compress(one)[:-20], "ends too early"),
        (gzip.compress(one)[:30] + b"\xff" * 200, "is broken"),
        (one[:700], "in the middle of a file"),
        (big, "at most 65536 are read"),
        (tar(*(({"name": str(i)}, b"") for i in range(1001))), "more than 1000 entries"),
    ],
)
def test_what_is_broken_or_too_much_is_refused(data, why):
    with pytest.raises(LayerRefused, match=why):
        entries(data)


def test_a_bomb_is_refused_before_it_is_unpacked():
    with pytest.raises(LayerRefused, match="unpacks to more than"):
        list(unpacked([bomb()], 1 << 20))


@pytest.mark.parametrize("magic", [b"BZh9", b"\xfd7zXZ\0"])
def test_other_packings_are_named(magic):
    with pytest.raises(LayerUnsupported, match=r"bzip2|xz"):
        entries(magic + b"\0" * 100)


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=2000), st.integers(0, 1023), st.binary(max_size=40))
def test_damage_ends_in_an_answer_or_a_refusal(noise, at, patch):
    damaged = one[:at] + patch + one[at + len(patch) :]
    for data in (noise, damaged, gzip.compress(damaged)):
        try:
            entries(data)
        except LayerRefused:
            pass


def test_layers_packed_with_zstd_are_read_frame_by_frame():
    data = tar(({"name": "a"}, b"1" * 5000), ({"name": "b"}, b"2"))
    half = len(data) // 2
    frames = [zstandard.ZstdCompressor().compress(part) for part in (data[:half], data[half:])]
    skippable = b"\x50\x2a\x4d\x18\x04\x00\x00\x00toc!"
    for packed in (b"".join(frames), frames[0] + skippable + frames[1] + skippable):
        assert [entry.path for entry in entries(packed, step=7)] == ["a", "b"]


def test_a_broken_zstd_stream_is_refused():
    packed = zstandard.ZstdCompressor(write_checksum=True).compress(tar(({"name": "a"}, bytes(range(256)) * 50)))
    with pytest.raises(LayerRefused, match="ends too early"):
        list(unpacked([packed[:-1]], 1 << 24))
    with pytest.raises(LayerRefused, match="is broken"):
        list(unpacked([packed[:40] + b"xxxxxxxx" + packed[48:]], 1 << 24))


def test_a_zstd_bomb_is_refused():
    with pytest.raises(LayerRefused, match="unpacks to more"):
        entries(
            zstandard.ZstdCompressor().compress(tar(({"name": "a"}, b"\0" * (64 << 20)))), wanted=lambda path: False
        )


def test_a_wanted_file_that_may_be_large_is_passed_over():
    data = tar(({"name": "a"}, b"1" * 5000), ({"name": "b"}, b"2"))
    found = list(walk(iter([data]), lambda path: True, LIMITS, lambda path: 100))
    assert found == [Entry("a", large=5000), Entry("b", data=b"2")]
