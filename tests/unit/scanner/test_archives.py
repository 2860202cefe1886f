"""Zip archives are read as the standard library reads them, and broken ones end."""

import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scanner.adapters import archives

MOST = 1000


class Stream(io.BytesIO):
    """Nobody goes back in it: sizes stand behind the data."""

    def seek(self, *_):
        raise io.UnsupportedOperation

    def seekable(self):
        return False


def read(path):
    with open(path, "rb") as file:
        return {member.name: archives.read(file, member, MOST) for member in archives.members(path)}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("kind", [io.BytesIO, Stream])
def test_what_zipfile_wrote_is_read(tmp_path, method, kind):
    path = tmp_path / "x.zip"
    told = {"a.json": b"{}", "folder/b.json": b"x" * 900, "empty.json": b"", "ä.json": b"1"}
    file = kind()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in told.items():
            with archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as member:
                member.write(data)
        archive.comment = b"a comment"
    path.write_bytes(file.getvalue())
    assert read(path) == told


def test_more_members_than_sixteen_bits_count(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(66_000):
            archive.writestr(zipfile.ZipInfo(f"{number}"), b"")
    assert sum(1 for _ in archives.members(path)) == 66_000


def test_a_bomb_is_unpacked_only_so_far(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", b"\0" * 50_000_000)
    assert len(read(path)["bomb"]) == MOST + 1


def whole():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", b"abc" * 100)
        archive.writestr("b", b"xyz" * 100)
    return file.getvalue()


WHOLE = whole()


@given(st.integers(0, len(WHOLE) - 1), st.binary(max_size=8), st.integers(0, len(WHOLE)))
def test_whatever_is_wrong_with_it_ends_in_its_own_errors(tmp_path_factory, at, other, end):
    path = tmp_path_factory.mktemp("zip") / "x.zip"
    path.write_bytes((WHOLE[:at] + other + WHOLE[at + len(other) :])[:end])
    try:
        assert len(read(path)) <= 2
    except (archives.BadArchive, archives.BadMember):
        pass
