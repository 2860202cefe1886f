"""Feeds as OSV publishes them: only what is new is fetched, what is cut goes on, what fails comes again."""

import http.server
import json
import threading
import zipfile

import pytest

from services.scanner.adapters import feeds
from services.scanner.adapters.index import Index


@pytest.fixture
def index(tmp_path):
    return tmp_path / "advisories.sqlite"


def osv(id_, at, name="x", **members):
    told = {
        "package": {"ecosystem": "npm", "name": name},
        "ranges": [{"type": "SEMVER", "events": [{"introduced": "0"}]}],
    }
    return {"id": id_, "modified": at, "affected": [told], **members}


def day(number):
    return f"2024-01-{number:02d}T00:00:00Z"


class Served(http.server.ThreadingHTTPServer):
    """A feed over HTTP. `cut`: of these paths only half is sent; `away`: these are 500."""

    daemon_threads = True

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.asked, self.cut, self.away = folder, [], set(), set()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/npm"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.removeprefix("/npm/")
        self.server.asked.append(name)
        path = self.server.folder / name
        if name in self.server.away or not path.exists():
            self.send_error(500 if name in self.server.away else 404)
            return
        data = path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if name in self.server.cut else data)

    def log_message(self, *_):
        """Nothing is printed."""


class Feed:
    """A feed's folder."""

    def __init__(self, folder):
        folder.mkdir()
        self.folder, self.records = folder, {}

    def put(self, *told):
        """Publish records."""
        for each in told:
            self.records[each["id"]] = each
            (self.folder / f"{each['id']}.json").write_text(json.dumps(each))
        rows = sorted(((each["modified"], id_) for id_, each in self.records.items()), reverse=True)
        (self.folder / "modified_id.csv").write_text("".join(f"{at},{id_}\n" for at, id_ in rows))

    def zip(self):
        """All of them in one file."""
        with zipfile.ZipFile(self.folder / "all.zip", "w") as archive:
            for id_, each in self.records.items():
                archive.writestr(f"{id_}.json", json.dumps(each))


@pytest.fixture
def feed(tmp_path):
    return Feed(tmp_path / "feed")


@pytest.fixture
def served(feed):
    server = Served(feed.folder)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def known(index, name="x"):
    opened = Index(index)
    found = [each.advisory for each in opened.lookup("npm", name)]
    opened.close()
    return found


def test_only_what_is_new_is_fetched(index, feed, served):
    feed.put(osv("A", day(1)), osv("B", day(2)))
    told = feeds.update(index, served.url, 1.0)
    assert (told["used"], told["stopped"], known(index)) == (2, "", ["A", "B"])
    served.asked.clear()
    feed.put(osv("C", day(3)), osv("A", day(4), withdrawn=day(4)))
    told = feeds.update(index, served.url, 2.0)
    assert (known(index), "A.json" in served.asked, "C.json" in served.asked) == (["B", "C"], True, True)
    served.asked.clear()
    feeds.update(index, served.url, 3.0)
    assert served.asked == ["modified_id.csv", "A.json"]  # the newest, whose moment may have others


def test_a_folder_is_a_feed_too(index, feed):
    feed.put(osv("A", day(1)))
    feeds.update(index, str(feed.folder), 1.0)
    (source,) = Index(index).meta()["sources"]
    assert (source["kind"], source["name"], source["used"]) == ("feed", str(feed.folder), 1)


def test_the_first_time_much_is_fetched_as_one_file(index, feed, served, monkeypatch):
    monkeypatch.setattr(feeds, "WHOLE_FROM", 5)
    feed.put(*(osv(f"A-{n}", day(n)) for n in range(1, 9)))
    feed.zip()
    feeds.update(index, served.url, 1.0)
    assert served.asked == ["modified_id.csv", "all.zip"]
    assert len(known(index)) == 8


@pytest.mark.parametrize("how", ["missing", "broken", "cut"])
def test_a_whole_that_can_not_be_had_is_no_end(index, feed, served, monkeypatch, how):
    monkeypatch.setattr(feeds, "WHOLE_FROM", 5)
    feed.put(*(osv(f"A-{n}", day(n)) for n in range(1, 9)))
    if how == "broken":
        (feed.folder / "all.zip").write_bytes(b"PK")
    elif how == "cut":
        feed.zip()
        served.cut.add("all.zip")
    told = feeds.update(index, served.url, 1.0)
    assert (len(known(index)), bool(told["stopped"])) == ((8, False) if how == "missing" else (0, True))
    feed.zip()
    served.cut.clear()
    feeds.update(index, served.url, 2.0)
    assert len(known(index)) == 8


def test_a_list_that_is_cut_off_loses_nothing(index, feed, served):
    feed.put(*(osv(f"A-{n}", day(n)) for n in range(1, 9)))
    served.cut.add("modified_id.csv")
    told = feeds.update(index, served.url, 1.0)
    assert ("cut off" in told["stopped"], known(index)) == (True, [])
    served.cut.clear()
    assert (feeds.update(index, served.url, 2.0)["stopped"], len(known(index))) == ("", 8)


def test_a_feed_that_goes_away_half_way_goes_on_from_there(index, feed, served, monkeypatch):
    monkeypatch.setattr(feeds, "PORTION", 3)
    feed.put(*(osv(f"A-{n}", day(n)) for n in range(1, 9)))
    served.away.update(f"A-{n}.json" for n in range(4, 9))
    told = feeds.update(index, served.url, 1.0)
    assert ("does not answer" in told["stopped"], known(index)) == (True, ["A-1", "A-2", "A-3"])
    served.away.clear()
    served.asked.clear()
    feeds.update(index, served.url, 2.0)
    assert (len(known(index)), "A-1.json" in served.asked, "A-2.json" in served.asked) == (8, False, False)


def test_a_record_that_fails_is_told_of_and_tried_again(index, feed, served):
    feed.put(osv("A", day(1)), osv("B", day(2)), osv("C", day(3)))
    served.cut.add("A.json")
    (feed.folder / "B.json").write_text("{}")
    told = feeds.update(index, served.url, 1.0)
    assert (told["skipped"], told["stopped"], known(index)) == (2, "", ["C"])
    assert any("cut off" in each for each in told["problems"])
    served.cut.clear()
    told = feeds.update(index, served.url, 2.0)
    assert (told["skipped"], known(index)) == (1, ["A", "C"])
    feed.put(osv("B", day(2)))
    assert (feeds.update(index, served.url, 3.0)["skipped"], known(index)) == (0, ["A", "B", "C"])


def test_a_record_that_never_comes_is_given_up(index, feed, served):
    feed.put(osv("A", day(1)), osv("B", day(2)))
    served.away.add("A.json")
    for at in range(feeds.TRIES + 1):
        told = feeds.update(index, served.url, at)
    assert (told["skipped"], known(index)) == (0, ["B"])


def test_a_record_that_is_gone_leaves(index, feed, served):
    feed.put(osv("A", day(1)), osv("B", day(2)))
    feeds.update(index, served.url, 1.0)
    feed.put(osv("A", day(3)))
    (feed.folder / "A.json").unlink()
    assert (feeds.update(index, served.url, 2.0)["stopped"], known(index)) == ("", ["B"])


def test_wrong_lines_of_the_list_are_told_of(index, feed, served):
    feed.put(osv("A", day(1)))
    rows = [
        "no list",
        "yesterday,A",
        f"{day(5)},../../etc/passwd",
        f"{day(4)},http://x/y",
        f"{day(1)},A",
        "",
        f"{day(1)}",
    ]
    (feed.folder / "modified_id.csv").write_text("\n".join(rows))
    told = feeds.update(index, served.url, 1.0)
    assert (told["skipped"], known(index), served.asked) == (5, ["A"], ["modified_id.csv", "A.json"])


def test_a_feed_that_is_none_is_said_so(index, tmp_path):
    told = feeds.update(index, str(tmp_path / "nowhere"), 1.0)
    assert "no modified_id.csv" in told["stopped"]
    (source,) = Index(index).meta()["sources"]
    assert "no modified_id.csv" in source["problems"][0]
