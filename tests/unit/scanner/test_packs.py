"""Reports of many images in one file."""

from hashlib import sha256

import pytest

from services.scanner.adapters.packs import PACK, Packer, Packs


def name_of(data):
    return sha256(data).hexdigest()


def packed(folder, *reports):
    packer = Packer(folder)
    for report in reports:
        packer.add(report)
    packer.close()
    return packer.packs


@pytest.fixture
def three(tmp_path):
    """Three reports in one pack, of which the last is the largest."""
    reports = (b'{"a": 1}', b'{"b": 2}\n', b"c" * 4096)
    packed(tmp_path, *reports)
    packs = Packs(tmp_path)
    packs.open()
    return packs, reports


def test_a_report_is_read_by_its_name(three):
    packs, reports = three
    assert [packs.read(name_of(each)) for each in reports] == list(reports)
    assert packs.read(name_of(b"other")) is None and packs.place(name_of(b"other")) is None


def test_a_pack_goes_with_the_last_report_that_is_used(three, tmp_path):
    packs, reports = three
    for report in reports[:-1]:
        packs.drop(name_of(report))
    assert packs.read(name_of(reports[0])) is None and packs.read(name_of(reports[-1])) == reports[-1]
    packs.drop(name_of(reports[-1]))
    assert not list(tmp_path.iterdir())


def test_what_is_left_of_a_pack_that_is_mostly_empty_goes_into_another(three, tmp_path):
    packs, reports = three
    (before,) = tmp_path.iterdir()
    packs.tidy()
    assert list(tmp_path.iterdir()) == [before]
    packs.drop(name_of(reports[-1]))
    packs.tidy()
    (after,) = tmp_path.iterdir()
    assert after != before and after.stat().st_size < 4096
    packs.tidy()
    assert list(tmp_path.iterdir()) == [after]
    again = Packs(tmp_path)
    again.open()
    for each in (packs, again):
        assert [each.read(name_of(report)) for report in reports[:-1]] == list(reports[:-1])


def test_what_no_image_has_any_more_is_dropped(three, tmp_path):
    packs, reports = three
    (tmp_path / "rubbish.pack").write_bytes(b"no pack")
    packs.keep_only({name_of(reports[1])})
    assert packs.read(name_of(reports[0])) is None and packs.read(name_of(reports[1])) == reports[1]
    assert len(list(tmp_path.iterdir())) == 1
    packs.keep_only(set())
    assert not list(tmp_path.iterdir())


def test_a_report_that_is_packed_again_is_held_once(three, tmp_path):
    packs, reports = three
    packs.open(packed(tmp_path, *reports))
    assert len(list(tmp_path.iterdir())) == 1 and packs.read(name_of(reports[2])) == reports[2]


def test_a_pack_that_was_cut_or_changed_gives_nothing(three, tmp_path):
    packs, reports = three
    (pack,) = tmp_path.iterdir()
    pack.write_bytes(pack.read_bytes()[:-4000])
    assert packs.read(name_of(reports[0])) == reports[0] and packs.read(name_of(reports[2])) is None
    pack.unlink()
    assert packs.read(name_of(reports[0])) is None


def test_a_pack_is_closed_when_it_is_large(tmp_path):
    reports = [bytes([n]) * (PACK // 2) for n in range(3)]
    assert len(packed(tmp_path, *reports)) == 2
    assert not list(tmp_path.glob("*.part"))
