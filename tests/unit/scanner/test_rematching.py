"""Images matched again out of their bills of materials: those that something else comes of, and no others."""

import json
from hashlib import sha256

import pytest

from services.scanner.adapters.files import Files
from services.scanner.adapters.importing import import_files
from services.scanner.adapters.index import Index
from services.scanner.adapters.rematching import rematch, touched
from services.scanner.decisions.bills import bill_of, contents_of, report_of
from services.scanner.decisions.layers import Contents, Installed
from services.scanner.decisions.matching import match, remembering, tally, unjudged
from services.scanner.decisions.packages import Package

ROCKY = {"ID": "rocky", "VERSION_ID": "9.3", "PRETTY_NAME": "Rocky Linux 9.3"}


def osv(id_, name, fixed="", ecosystem="npm", **members):
    events = [{"introduced": "0"}, *([{"fixed": fixed}] if fixed else [])]
    told = {"package": {"ecosystem": ecosystem, "name": name}, "ranges": [{"type": "ECOSYSTEM", "events": events}]}
    return {"id": id_, "modified": "2024-01-01T00:00:00Z", "affected": [told], **members}


def contents(*packages, release=None, layer="sha256:a"):
    found = [Installed(Package(*package), f"node_modules/{package[1]}", layer) for package in packages]
    return Contents(found, release or {})


class Images:
    """Bills of materials and reports, as the scanner keeps them, and the advisories that they are held against."""

    def __init__(self, root):
        self.root = root
        self.index, self.held = root / "advisories.sqlite", root / "bills.sqlite"
        self.reports = {}
        self.files = Files(root)

    def advise(self, *records):
        """These are the advisories now."""
        (self.root / "osv.json").write_text(json.dumps(records))
        import_files(self.index, self.root / "osv.json", 1.0)

    def _keep(self, folder, told):
        data = json.dumps(told).encode()
        name = sha256(data).hexdigest()
        (self.root / folder / f"{name}.json").write_bytes(data)
        return name

    def scan(self, of):
        """An image is scanned; (its bill, the revision it was matched with)."""
        index = Index(self.index)
        matched = match(of, remembering(index.lookup))
        note = unjudged(tally(of), index.covered, len(matched.odd))
        bill = self._keep("bills", bill_of(of))
        self.reports[bill] = self._keep("reports", report_of(matched, note, index.version))
        revision = index.revision
        index.close()
        return bill, revision

    def touch(self, **request):
        """What is due."""
        return touched(self.index, self.held, self.root, request)

    def again(self, due, *, whole=False, done=None):
        """Match again; what a scan's record is told."""
        bills = [[bill, name := self.reports[bill], self.files.place(name), whole] for bill in due]
        told = rematch(self.index, self.held, self.root, {"bills": bills, "done": done})
        self.files.packed(told["packs"])
        for each in told["changed"]:
            self.reports[each["bill"]] = each["report"]
        return told

    def finish(self, told):
        """It is written down."""
        names = [*told["unchanged"], *(each["bill"] for each in told["changed"])]
        rematch(self.index, self.held, self.root, {"done": [[told["revision"], names]]})

    def named(self, bill):
        """What was found in an image."""
        report = json.loads(self.files.report(self.reports[bill]))
        return [(each["name"], each["package"]) for each in report["findings"]]


@pytest.fixture
def images(tmp_path):
    images = Images(tmp_path)
    images.advise(osv("X-1", "a", "2.0.0"), osv("X-0", "other"))
    return images


A1, A2, B1 = ("npm", "a", "1.0.0"), ("npm", "a", "3.0.0"), ("npm", "b", "1.0.0")


def test_only_images_with_a_touched_package_are_due_and_only_when_something_else_comes_of_it(images):
    old, new, other = (images.scan(contents(each)) for each in (A1, A2, B1))
    assert images.touch(hold=[old, new, other])["due"] == []
    images.advise(osv("X-1", "a", "2.0.0"), osv("X-0", "other"), osv("X-2", "a", "2.5.0"))
    due = images.touch()["due"]
    assert old[0] in due and other[0] not in due
    told = images.again(due)
    assert [(each["bill"], each["added"], each["gone"]) for each in told["changed"]] == [(old[0], ["X-2 a 1.0.0"], [])]
    assert told["changed"][0]["counts"] == {"UNDEFINED": 2}
    assert images.named(old[0]) == [("X-1", "a"), ("X-2", "a")]
    images.finish(told)
    assert images.touch()["due"] == []


def test_a_finding_that_is_gone_is_told(images):
    old = images.scan(contents(A1, B1))
    images.touch(hold=[old])
    images.advise(osv("X-0", "other"))
    (changed,) = images.again(images.touch()["due"])["changed"]
    assert (changed["gone"], changed["gone_counts"], changed["counts"]) == (["X-1 a 1.0.0"], {"UNDEFINED": 1}, {})


def test_a_verdict_that_stays_makes_nobody_due(images):
    scanned = [images.scan(contents(A1, ("npm", f"n{n}", "1.0.0"))) for n in range(5)]
    images.touch(hold=scanned)
    images.finish(images.again(images.touch()["due"]))
    images.advise(osv("X-1", "a", "2.0.0"), osv("X-0", "other"), osv("X-3", "a", "0.5.0"))
    assert images.touch()["items"] <= 1  # the first time it is not known what came of it before
    images.finish(images.again(images.touch()["due"]))
    images.advise(osv("X-1", "a", "2.0.0"), osv("X-0", "other"), osv("X-3", "a", "0.6.0"))
    assert (images.touch()["items"], images.touch()["due"]) == (0, [])


def test_what_was_not_written_down_is_due_again_and_comes_to_the_same(images):
    old = images.scan(contents(A1))
    images.touch(hold=[old])
    images.advise(osv("X-1", "a", "2.5.0"))
    images.again(images.touch()["due"])  # and then it is killed
    assert images.touch()["due"] == [old[0]]
    told = images.again([old[0]])
    assert (told["changed"], told["unchanged"]) == ([], [old[0]])
    images.finish(told)
    assert images.touch()["due"] == []


def test_a_scan_that_began_before_the_advisories_changed_is_due(images):
    late = images.scan(contents(A1))
    images.advise(osv("X-1", "a", "2.5.0"))
    images.touch()
    assert images.touch(hold=[late])["due"] == [late[0]]


def test_what_changes_while_bills_are_matched_is_not_missed(images):
    old = images.scan(contents(A1, B1))
    images.touch(hold=[old])
    images.advise(osv("X-1", "a", "2.5.0"))
    due = images.touch()["due"]
    images.advise(osv("X-1", "a", "2.5.0"), osv("X-9", "b"))
    images.finish(images.again(due))
    assert images.touch()["due"] == [old[0]]
    images.again([old[0]])
    assert images.named(old[0]) == [("X-1", "a"), ("X-9", "b")]


def test_an_ecosystem_that_is_known_at_last_changes_what_could_not_be_judged(images):
    image = images.scan(contents(("pypi", "p", "1.0"), A1))
    images.touch(hold=[image])
    images.advise(osv("X-1", "a", "2.0.0"), osv("P-1", "q", ecosystem="PyPI"))
    (changed,) = images.again(images.touch()["due"])["changed"]
    assert (changed["note"], changed["added"]) == ("", [])


def test_a_place_with_two_questions_is_asked_both(images):
    kernel = ("rpm", "kernel-core", "5.14.0-1.el9", "kernel", "5.14.0-1.el9")
    by_source, by_name = (osv(f"R-{name}", name, "5.14.0-2.el9", "Rocky Linux:9") for name in ("kernel", "kernel-core"))
    images.advise(by_source)
    image = images.scan(contents(kernel, release=ROCKY))
    images.touch(hold=[image])
    images.advise(by_source, by_name)
    images.again(images.touch()["due"])
    assert images.named(image[0]) == [("R-kernel", "kernel-core"), ("R-kernel-core", "kernel-core")]


def test_what_is_matched_in_part_says_what_is_matched_as_a_whole_says(images):
    image = images.scan(contents(A1, A2, B1, ("npm", "c", "not a version")))
    images.touch(hold=[image])
    images.advise(
        osv("X-1", "a", "2.0.0"), osv("X-2", "a", "4.0.0"), osv("X-3", "b", "2.0.0"), osv("X-4", "c", "2.0.0")
    )
    images.again(images.touch()["due"])
    partly = json.loads(images.files.report(images.reports[image[0]]))
    images.again([image[0]], whole=True)
    assert len(partly["findings"]) == 4 and partly["odd"]
    assert json.loads(images.files.report(images.reports[image[0]])) == partly
    index = Index(images.index)
    anew = match(contents(A1, A2, B1, ("npm", "c", "not a version")), remembering(index.lookup))
    index.close()
    assert (partly["findings"], partly["odd"]) == (anew.findings, anew.odd)


def test_lost_files_are_made_again_or_told_of(images):
    image, gone = images.scan(contents(A1)), images.scan(contents(B1))
    (images.root / "bills" / f"{gone[0]}.json").unlink()
    assert images.touch(only=[image[0], gone[0]])["lost"] == [gone[0]]
    (images.root / "reports" / f"{images.reports[image[0]]}.json").write_bytes(b"")
    (changed,) = images.again([image[0]])["changed"]
    assert (changed["counts"], images.named(image[0])) == ({"UNDEFINED": 1}, [("X-1", "a")])


def test_an_index_of_bills_that_is_lost_is_made_again(images):
    image = images.scan(contents(A1))
    images.touch(hold=[image])
    for path in images.root.glob("bills.sqlite*"):
        path.write_bytes(b"rubbish")
    assert images.touch(only=[image[0]])["due"] == [image[0]]
    assert images.again([image[0]])["unchanged"] == [image[0]]


def test_another_index_of_advisories_is_held_against_everything(images):
    image, other = images.scan(contents(A1)), images.scan(contents(B1))
    images.touch(hold=[image, other])
    for path in images.root.glob("advisories.sqlite*"):
        path.unlink()
    images.advise(osv("Y-1", "b"))
    assert sorted(images.touch()["due"]) == sorted([image[0], other[0]])
    images.again([image[0], other[0]])
    assert (images.named(image[0]), images.named(other[0])) == ([], [("Y-1", "b")])


def test_bills_that_no_image_has_are_forgotten(images):
    image, gone = images.scan(contents(A1)), images.scan(contents(("npm", "a", "1.1.0")))
    images.touch(hold=[image, gone])
    images.touch(only=[image[0]])
    images.advise(osv("X-1", "a", "2.5.0"))
    assert images.touch()["due"] == [image[0]]


def test_a_bill_is_read_as_it_was_written_also_with_members_of_another_time():
    told = contents(A1, ("deb", "x", "1", "y", "2"), release=ROCKY)
    bill = json.loads(json.dumps(bill_of(told)))
    assert contents_of(bill) == told
    bill["packages"][0]["later"] = 7
    assert contents_of(bill | {"more": 1}) == told
