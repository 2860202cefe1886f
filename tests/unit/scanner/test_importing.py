"""Advisories out of files: beside each other, again, replaced, withdrawn; broken ones are told of and passed over."""

import gzip
import io
import json
import struct
import zipfile

import pytest

from services.scanner.adapters import records
from services.scanner.adapters.importing import NothingUsable, import_files
from services.scanner.adapters.index import Index
from tests.builders.scanner import CRITICAL, RECORDS, advisories


@pytest.fixture
def index(tmp_path):
    return tmp_path / "advisories.sqlite"


def osv(id_="X-1", name="x", **members):
    told = {
        "package": {"ecosystem": "npm", "name": name},
        "ranges": [{"type": "SEMVER", "events": [{"introduced": "0"}]}],
    }
    return {"id": id_, "modified": "2024-01-01T00:00:00Z", "affected": [told], **members}


def put(folder, *told, name="some.json"):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(list(told)))
    return folder


def known(index, name="x", ecosystem="npm"):
    opened = Index(index)
    found = [(each.advisory, each.severity) for each in opened.lookup(ecosystem, name)]
    opened.close()
    return found


def revision(index):
    opened = Index(index)
    opened.close()
    return opened.revision


def touched(index, since):
    opened = Index(index)
    found = sorted(name for _, name in opened.touched(since))
    opened.close()
    return found


def test_an_import_says_what_there_is(index, tmp_path):
    told = import_files(index, advisories(tmp_path / "osv", [*RECORDS, {"broken": True}]), 5.0)
    assert (told["used"], told["changed"], told["skipped"], told["imported_at"]) == (3, 3, 1, 5.0)
    assert told["newest"] == "2023-09-01T00:00:00.000000Z"
    assert told["ecosystems"] == {"Debian:12": 1, "PyPI": 1, "npm": 1}
    assert "no id" in told["problems"][0]


def test_sources_live_side_by_side_until_one_is_to_replace_the_others(index, tmp_path):
    import_files(index, put(tmp_path / "a", osv("A-1")), 1.0)
    import_files(index, put(tmp_path / "b", osv("B-1")), 2.0)
    assert known(index) == [("A-1", "UNDEFINED"), ("B-1", "UNDEFINED")]
    import_files(index, tmp_path / "b", 3.0, replace=True)
    assert known(index) == [("B-1", "UNDEFINED")]
    assert [source["name"] for source in Index(index).meta()["sources"]] == [str(tmp_path / "b")]


def test_the_same_again_changes_nothing(index, tmp_path):
    import_files(index, put(tmp_path / "a", osv("A-1")), 1.0)
    before = revision(index)
    told = import_files(index, tmp_path / "a", 2.0)
    assert (revision(index), told["used"], told["changed"]) == (before, 1, 0)


def test_what_a_source_has_no_more_goes_and_touches_its_package(index, tmp_path):
    import_files(index, put(tmp_path / "a", osv("A-1"), osv("A-2", "y")), 1.0)
    before = revision(index)
    told = import_files(index, put(tmp_path / "a", osv("A-1")), 2.0)
    assert (told["dropped"], known(index, "y"), touched(index, before)) == (1, [], ["y"])


def test_a_withdrawn_advisory_leaves_and_hides_an_older_copy_of_another_source(index, tmp_path):
    import_files(index, put(tmp_path / "a", osv("A-1")), 1.0)
    before = revision(index)
    newer = osv("A-1", modified="2025-01-01T00:00:00Z", withdrawn="2025-01-01T00:00:00Z")
    import_files(index, put(tmp_path / "b", newer, osv("B-1", "y")), 2.0)
    assert (known(index), touched(index, before)) == ([], ["x", "y"])
    import_files(index, put(tmp_path / "b", osv("B-1", "y")), 3.0)
    assert known(index) == [("A-1", "UNDEFINED")]


def test_the_newest_of_two_copies_counts_whatever_came_first(index, tmp_path):
    newer = osv("A-1", "y", modified="2025-01-01T00:00:00Z")
    import_files(index, put(tmp_path / "b", newer), 1.0)
    import_files(index, put(tmp_path / "a", osv("A-1", "x")), 2.0)
    assert (known(index, "x"), known(index, "y")) == ([], [("A-1", "UNDEFINED")])


def test_of_two_copies_in_one_source_the_newest_counts_and_the_other_when_it_is_gone(index, tmp_path):
    older, newer = osv("A-1", "x"), osv("A-1", "y", modified="2025-01-01T00:00:00Z")
    folder = put(tmp_path / "a", newer, older)
    import_files(index, folder, 1.0)
    assert (known(index, "x"), known(index, "y")) == ([], [("A-1", "UNDEFINED")])
    assert import_files(index, folder, 2.0)["changed"] == 0
    import_files(index, put(tmp_path / "a", older), 3.0)
    assert (known(index, "x"), known(index, "y")) == ([("A-1", "UNDEFINED")], [])


def test_a_severity_that_another_advisory_brings_touches_those_that_have_none(index, tmp_path):
    import_files(index, put(tmp_path / "a", osv("A-1", aliases=["CVE-1"])), 1.0)
    before = revision(index)
    rated = osv("B-1", "y", aliases=["CVE-1"], severity=[{"type": "CVSS_V3", "score": CRITICAL}])
    import_files(index, put(tmp_path / "b", rated), 2.0)
    assert (known(index), touched(index, before)) == ([("A-1", "CRITICAL")], ["x", "y"])
    before = revision(index)
    import_files(index, put(tmp_path / "b", osv("B-2", "z")), 3.0)
    assert (known(index), touched(index, before)) == ([("A-1", "UNDEFINED")], ["x", "y", "z"])


def listed(*names):
    told = [{"cveID": name, "dateAdded": "2024-05-06", "dueDate": "2024-06-06"} for name in names]
    return {"title": "CISA", "catalogVersion": "1", "vulnerabilities": told}


def test_what_is_known_to_be_exploited_is_told_with_its_day(index, tmp_path):
    import_files(index, put(tmp_path / "a", osv("A-1", aliases=["CVE-1"])), 1.0)
    before = revision(index)
    path = tmp_path / "known_exploited_vulnerabilities.json.gz"
    path.write_bytes(gzip.compress(json.dumps(listed("CVE-1", "CVE-2") | {"x": 1}).encode()))
    told = import_files(index, path, 2.0)
    assert (told["exploited"], touched(index, before)) == (2, ["x"])
    assert [each.exploited for each in Index(index).lookup("npm", "x")] == ["2024-05-06"]
    path.write_bytes(gzip.compress(json.dumps(listed("CVE-2")).encode()))
    import_files(index, path, 3.0)
    assert [each.exploited for each in Index(index).lookup("npm", "x")] == [""]


@pytest.mark.parametrize(
    "data",
    [
        json.dumps(osv("A-1")).encode("utf-16"),
        b"\xef\xbb\xbf" + json.dumps(osv("A-1")).encode(),
        json.dumps(osv("A-1", summary="half a pair: \ud83d", database_specific={"score": float("nan")})).encode(),
    ],
    ids=["utf-16", "byte order mark", "half a surrogate pair, NaN"],
)
def test_json_that_only_lenient_readers_take_is_taken(index, tmp_path, data):
    (tmp_path / "one.json").write_bytes(data)
    assert import_files(index, tmp_path / "one.json", 1.0)["used"] == 1
    opened = Index(index)
    assert [each.detail().summary[:4] for each in opened.lookup("npm", "x")] in ([""], ["half"])
    opened.close()


def zipped(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("_", "."), data)
    return file.getvalue()


def broken_member(data: bytes) -> bytes:
    """The first member's checksum is another."""
    at = data.index(b"PK\x01\x02") + 16
    wrong = struct.pack("<I", 7)
    return data[:14] + wrong + data[18:at] + wrong + data[at + 4 :]


GOOD = json.dumps(osv("GOOD")).encode()


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("bad.zip", b"PK\x03\x04 no zip", "zip"),
        ("bad.zip", zipped(A_json=GOOD)[:-30], "zip"),
        ("bad.zip", broken_member(zipped(A_json=GOOD)), "CRC"),
        ("bad.zip", zipped(A_json=b" " * 3000), "more than 2000 bytes"),
        ("bad.json", b"{", "Expecting"),
        ("bad.json", b"[" * 3900, "recursion"),
        ("bad.json", b" " * 5000, "more than 4000 bytes"),
        ("bad.json", b'{"id": "X"}, {"vulnerabilities": 7}', "Extra data"),
        ("bad.json", b'{"vulnerabilities": [{"cveID": 7}]}', "without cveID"),
        ("bad.jsonl", b"x" * 3000 + b"\n" + GOOD.replace(b"GOOD", b"NEXT"), "more than 2000 bytes"),
        ("bad.jsonl", b'{"id": "\xff"}\n', "utf-8"),
        ("bad.jsonl.gz", gzip.compress(GOOD)[:-12], "ended before"),
        ("bad.jsonl.gz", b"no gzip", "gzip"),
        ("bad.jsonl.gz", gzip.compress(b"\n" * 1_000_000), "unpacks to more than 500000 bytes"),
        ("bad.json", json.dumps(osv("X", affected=7)).encode(), "affected is no list"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_broken_is_told_of_and_the_rest_goes_on(index, tmp_path, monkeypatch, name, data, why):
    limits = {"RECORD_LIMIT": 2000, "CATALOGUE_LIMIT": 4000, "FILE_LIMIT": 500_000}
    for limit, value in limits.items():
        monkeypatch.setattr(records, limit, value)
    folder = tmp_path / "osv"
    folder.mkdir()
    (folder / name).write_bytes(data)
    (folder / "good.json").write_bytes(GOOD)
    told = import_files(index, folder, 1.0)
    assert ("GOOD", "UNDEFINED") in known(index)
    assert (told["skipped"], why in told["problems"][0]) == (1, True), told["problems"]


def test_a_record_that_became_unreadable_leaves_what_it_said_before(index, tmp_path):
    import_files(index, put(tmp_path / "a", osv("A-1"), osv("A-2", "y")), 1.0)
    told = import_files(index, put(tmp_path / "a", osv("A-1") | {"affected": 7}, osv("A-2", "y")), 2.0)
    assert (told["skipped"], known(index)) == (1, [("A-1", "UNDEFINED")])


def test_a_file_that_can_not_be_read_any_more_takes_nothing_away(index, tmp_path):
    folder = put(tmp_path / "a", osv("A-1"))
    (folder / "b.zip").write_bytes(zipped(B_json=json.dumps(osv("B-1"))))
    import_files(index, folder, 1.0)
    (folder / "b.zip").write_bytes(b"PK")
    told = import_files(index, folder, 2.0)
    assert (told["skipped"], len(known(index))) == (1, 2)


def test_nothing_usable_changes_nothing(index, tmp_path):
    import_files(index, put(tmp_path / "a", osv("A-1")), 1.0)
    with pytest.raises(NothingUsable, match="no advisory that can be used"):
        import_files(index, put(tmp_path / "b", {"id": ""}), 2.0)
    with pytest.raises(FileNotFoundError):
        import_files(index, tmp_path / "none", 3.0)
    put(tmp_path / "a")
    with pytest.raises(NothingUsable):
        import_files(index, tmp_path / "a", 4.0)
    assert known(index) == [("A-1", "UNDEFINED")]


@pytest.mark.parametrize("rubbish", [b"rubbish" * 1000, b""])
def test_an_index_that_is_none_is_made_anew(index, tmp_path, rubbish):
    index.write_bytes(rubbish)
    import_files(index, put(tmp_path / "a", osv("A-1")), 1.0)
    assert known(index) == [("A-1", "UNDEFINED")]
