"""RPM's databases, as rpm itself wrote one."""

import gzip
import sqlite3
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scanner.decisions.packages import Package, catalogue

GOLDEN = Path(__file__).parent / "golden"
DATABASE = gzip.decompress((GOLDEN / "rpmdb.sqlite.gz").read_bytes())
BERKELEY = gzip.decompress((GOLDEN / "Packages.gz").read_bytes())
INSTALLED = [
    Package("rpm", "bash", "5.1.8-9.el9", "bash", "5.1.8-9.el9", "noarch"),
    Package("rpm", "openssl", "1:3.0.7-27.el9", "openssl", "1:3.0.7-27.el9", "noarch"),
    Package("rpm", "openssl-libs", "1:3.0.7-27.el9", "openssl", "1:3.0.7-27.el9", "noarch"),
    Package("rpm", "zlib", "1.2.11-40.el9", "zlib", "1.2.11-40.el9", "x86_64"),
]


def headers():
    """The packages' headers, out of the database."""
    connection = sqlite3.connect(":memory:")
    connection.deserialize(DATABASE[:18] + b"\1\1" + DATABASE[20:])
    return [blob for (blob,) in connection.execute("SELECT blob FROM Packages")]


def ndb(blobs, pages=1):
    """The blobs as ndb lays them out: slots, then blocks of 16 bytes."""
    slots, body, start = b"", b"", pages * 4096
    for index, blob in enumerate(blobs, 1):
        at = start + len(body)
        content = struct.pack("<4s3I", b"BlbS", index, 0, len(blob)) + blob
        content += b"\0" * (-len(content) % 16)
        slots += struct.pack("<4s3I", b"Slot", index, at // 16, len(content) // 16)
        body += content
    head = struct.pack("<4s3I16x", b"RpmP", 0, 1, pages)
    empty = struct.pack("<4s3I", b"Slot", 0, 0, 0)
    return (head + slots).ljust(0) + empty * ((start - 32 - len(slots)) // 16) + body


@pytest.mark.parametrize(
    ("kind", "data"),
    [("rpm-sqlite", DATABASE), ("rpm-ndb", ndb(headers())), ("rpm-bdb", BERKELEY)],
    ids=["sqlite", "ndb", "Berkeley DB"],
)
def test_all_databases_tell_of_packages_with_epoch_and_source(kind, data):
    found, why = catalogue(kind, data)
    assert (sorted(found), why) == (INSTALLED, "")


def test_a_query_that_would_not_end_is_broken_off():
    connection = sqlite3.connect(":memory:")
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS hnum, x'00' AS blob FROM n"
    connection.execute(f"CREATE VIEW Packages AS {endless}")
    found, why = catalogue("rpm-sqlite", connection.serialize())
    assert (found, why) == ([], "SQLite can't read it: interrupted")


@settings(max_examples=80, deadline=None)
@given(st.integers(0, len(DATABASE) - 1), st.binary(min_size=1, max_size=64))
def test_a_damaged_database_ends_in_packages_or_words(at, damage):
    found, why = catalogue("rpm-sqlite", DATABASE[:at] + damage + DATABASE[at + len(damage) :])
    assert len(found) <= 4 or why


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(BERKELEY) - 1), st.binary(min_size=1, max_size=64))
def test_a_damaged_berkeley_db_ends_in_packages_or_words(at, damage):
    found, why = catalogue("rpm-bdb", BERKELEY[:at] + damage + BERKELEY[at + len(damage) :])
    assert len(found) <= 4
    assert isinstance(why, str)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 1200), st.binary(min_size=1, max_size=64))
def test_a_damaged_header_ends_in_packages(at, damage):
    blob = headers()[0]
    found, why = catalogue("rpm-ndb", ndb([blob[:at] + damage + blob[at + len(damage) :], headers()[1]]))
    assert len(found) >= 1
    assert not why
