"""A data directory belongs to one platform, and whoever looks does not get in its way."""

import os
import threading
from types import SimpleNamespace

import pytest

from services.cli import ask
from services.cli.__main__ import main, parser
from services.cli.layout import Layout, PlatformInfo, ServiceInfo
from services.cli.up import up
from services.identity.adapters import read_credentials
from services.shared.settings import SettingsError

INFO = PlatformInfo(
    pid=1, port=2, registry_port=3, nats_url="nats://127.0.0.1:1", nats_pid=4, runtime="oci", zones=1, started_at=0.0,
    services=[ServiceInfo(name="monitor", instance="monitor", port=1, started_at=0.0)],
)  # fmt: skip


@pytest.fixture
def layout(tmp_path):
    made = Layout(tmp_path / "data")
    made.prepare()
    return made


def said(capsys) -> str:
    out, err = capsys.readouterr()
    return out + err


def test_a_directory_is_held_by_one_and_tells_by_whom(layout):
    assert (layout.is_running(), layout.holder(), layout.has_crashed()) == (False, None, False)
    held = layout.lock()
    assert (layout.is_running(), layout.holder(), layout.lock()) == (True, os.getpid(), None)
    held.close()
    assert (layout.is_running(), layout.holder()) == (False, None)


def test_those_who_only_look_keep_nobody_out(layout):
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            layout.is_running()

    lookers = [threading.Thread(target=look) for _ in range(2)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(20):
            held = layout.lock()
            assert held is not None
            held.close()
    finally:
        over.set()
        for looker in lookers:
            looker.join()


def test_status_tells_starting_from_down_and_down_from_crashed(layout, capsys):
    arguments = SimpleNamespace()
    assert ask.status(layout, arguments) == 1
    assert said(capsys) == f"down (nothing runs on {layout.root})\n"
    held = layout.lock()
    assert ask.status(layout, arguments) == 3
    assert said(capsys) == f"starting or stopping (process {os.getpid()}, data {layout.root})\n"
    held.close()
    layout.write_info(INFO)
    assert ask.status(layout, arguments) == 1
    assert said(capsys).startswith("down: it ended without being stopped")


def test_a_platform_that_does_not_answer_is_told_in_one_line(layout, capsys):
    held = layout.lock()
    layout.write_info(INFO)
    with pytest.raises(SystemExit) as ended:
        main(["trace", "--data", str(layout.root)])
    assert ended.value.code == 1
    assert said(capsys).startswith(f"The platform on {layout.root} does not answer: ")
    with pytest.raises(SystemExit):
        main(["services", "--data", str(layout.root)])
    assert said(capsys).count("no: it does not answer") == 2
    held.close()


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_place_where_nothing_can_be_is_told_in_one_line(tmp_path, capsys, place):
    (tmp_path / "file").touch()
    assert up(Layout(tmp_path / place), parser().parse_args(["up"])) == 1
    assert said(capsys).startswith(f"The platform can't live under {tmp_path / place}: ")


def test_two_doors_need_two_ports(layout, capsys):
    assert up(layout, parser().parse_args(["up", "--port", "4567", "--registry-port", "4567"])) == 1
    assert "both 4567" in said(capsys)
    with pytest.raises(SystemExit):
        parser().parse_args(["up", "--port", "65536"])


def test_a_secret_that_was_cut_off_is_made_anew(layout):
    (layout.root / "nats.secret").touch()
    assert layout.secret("nats.secret", "made") == "made"
    assert layout.secret("nats.secret", "other") == "made"
    assert (layout.root / "nats.secret").stat().st_mode & 0o077 == 0


def test_credentials_that_are_none_are_named(tmp_path):
    path = tmp_path / "credentials.json"
    assert read_credentials(path) is None
    path.write_text('{"a')
    with pytest.raises(SettingsError, match=r"credentials\.json holds no key pair"):
        read_credentials(path)


def test_no_lines_are_no_lines(layout, capsys):
    (layout.logs / "edge.log").write_text("one\ntwo\nthree\n")
    for lines, expected in ((0, ""), (2, "two\nthree\n"), (9, "one\ntwo\nthree\n")):
        ask.logs(layout, SimpleNamespace(service="edge", lines=lines, json=True, follow=False))
        assert said(capsys) == expected
