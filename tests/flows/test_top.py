"""`roadstead top`, as a person sees it: one picture for scripts, and live in a real terminal until `q`."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import termios
import time

import pytest

from tests.builders.platform import FARGATE, ROOT, sleeper, until


@pytest.fixture(scope="module")
def service(platform, busybox):
    ecs = platform.client("ecs")
    ecs.create_cluster(clusterName="watched")
    ecs.register_task_definition(**sleeper(busybox) | {"family": "watched"})
    ecs.create_service(cluster="watched", serviceName="web", taskDefinition="watched", desiredCount=2, **FARGATE)
    yield "watched/web"
    ecs.delete_service(cluster="watched", service="web", force=True)


def test_one_picture_shows_services_tasks_nodes_and_events(platform, service):
    def steady() -> str:
        text = platform.command("top", "--once")
        return text if re.search(r"watched/web +2/2 +steady", text) else ""

    text = until(steady, 60, every=0.3)
    assert "\x1b" not in text
    assert f"http://127.0.0.1:{platform.port}" in text
    assert len(re.findall(r"^node-us-east-1[abc] .* ready$", text, re.MULTILINE)) == 3
    assert len(re.findall(r"^[0-9a-f]{8} +web +node-us-east-1[abc] +running +10\.\S+", text, re.MULTILINE)) == 2
    assert re.search(r"service\.steady +watched/web", text)


def test_live_until_q_and_the_terminal_as_it_was(platform, service):
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (30, 100))
    before = termios.tcgetattr(slave)
    command = [sys.executable, "-m", "services.cli", "top", "--data", str(platform.data)]
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, cwd=ROOT)
    try:
        text = read_until(master, lambda text: text.count("watched/web") >= 2 and text.count("q quits") >= 2)
        assert text.startswith("\x1b[?1049h")
        os.write(master, b"q")
        assert read_until(master, lambda text: "\x1b[?1049l" in text)
        assert process.wait(30) == 0
        assert termios.tcgetattr(slave) == before
    finally:
        process.kill()
        process.wait()
        os.close(master)
        os.close(slave)


def read_until(terminal: int, enough) -> str:
    """What the terminal shows until it is enough. AssertionError after half a minute."""
    text, deadline = "", time.monotonic() + 30
    while not enough(text):
        ready, _, _ = select.select([terminal], [], [], max(deadline - time.monotonic(), 0))
        assert ready, text
        text += os.read(terminal, 65536).decode(errors="replace")
    return text


def test_without_a_platform_it_says_so(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "services.cli", "top", "--once", "--data", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("No platform runs on")
