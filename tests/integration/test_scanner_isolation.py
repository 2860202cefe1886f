"""What the bytes of an image can make of a worker: nothing that reaches anything else. Seen from inside."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from pathlib import Path

import pytest
import structlog

from services.scanner.adapters.workers import Workers, _environment
from services.scanner.handlers.isolation import Confinement, Isolation

INSIDE = """
import json, os, sys, socket, subprocess
from services.scanner import worker
worker._confine(sys.argv[1], sys.argv[3:])
port, folder = json.loads(sys.argv[2])
def connect():
    socket.create_connection(("127.0.0.1", port), timeout=5).close()
def unix():
    socket.socket(socket.AF_UNIX).connect(folder + "/door")
def write(name):
    with open(name, "w") as file:
        file.write("x")
tries = {
    "connect": connect,
    "unix": unix,
    "run": lambda: subprocess.run(["/bin/true"]),
    "write": lambda: write(folder + "/elsewhere"),
    "write own": lambda: write(folder + "/own/file"),
    "remove": lambda: os.remove(folder + "/precious"),
    "truncate": lambda: os.truncate(folder + "/precious", 0),
    "become": lambda: os.setuid(12345),
    "read": lambda: open(folder + "/precious").read(),
}
came = {}
for name, work in tries.items():
    try:
        work()
        came[name] = True
    except OSError:
        came[name] = False
print(json.dumps(came))
"""
REFUSED = dict.fromkeys(("connect", "unix", "run", "write", "write own", "remove", "truncate", "become"), False)


@pytest.fixture
def world(tmp_path):
    """A place with what a worker may want: (port, folder)."""
    (tmp_path / "own").mkdir()
    (tmp_path / "precious").write_text("kept")
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as door:
        door.bind(str(tmp_path / "door"))
        door.listen()
        yield server.getsockname()[1], str(tmp_path)


async def inside(mode: str, world: tuple[int, str], *arguments: str) -> dict[str, bool]:
    """What a worker can do once it is confined."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-S", "-c", INSIDE, mode, json.dumps(world), *arguments,
        env=_environment(), stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    told, _ = await process.communicate()
    return dict(json.loads(told))


async def test_who_reads_a_layer_reaches_nothing_and_changes_nothing(world):
    assert await inside("layer", world, "{}") == {**REFUSED, "read": True}
    assert Path(world[1], "precious").read_text() == "kept"


async def test_who_asks_the_index_writes_beside_it_and_nowhere_else(world):
    can = await inside("match", world, f"{world[1]}/own/advisories.sqlite")
    assert can == {**REFUSED, "write own": True, "read": True}


async def test_who_takes_in_a_feed_of_the_network_has_it_and_writes_nowhere_else(world):
    can = await inside("update", world, "http://127.0.0.1/feed", f"{world[1]}/own/advisories.sqlite", "1.0")
    assert {name: can[name] for name in ("connect", "write", "write own", "remove")} == {
        "connect": True,
        "write": False,
        "write own": True,
        "remove": False,
    }
    assert not (await inside("update", world, "/srv/feed", f"{world[1]}/own/advisories.sqlite", "1.0"))["connect"]


async def test_the_scanner_tells_whether_its_workers_are_confined():
    isolation = Isolation(Workers(1))
    assert isolation.told == Confinement(known=False)
    await isolation.look()
    assert isolation.told == Confinement(known=True, missing=[])


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
async def test_a_user_without_rights_gets_the_same_isolation():
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-S", "-c",
        "import os, socket\nfrom services.scanner.adapters.confinement import confine\n"
        "os.setgid(65534); os.setuid(65534)\nprint(confine(), flush=True)\nsocket.socket()",
        env=_environment(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    told, complaint = await process.communicate()
    assert told.strip() == b"[]"
    assert b"PermissionError" in complaint


async def test_where_sockets_can_not_be_forbidden_there_is_a_network_without_anything(world):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-S", "-c",
        "import socket, sys\nfrom services.scanner.adapters import confinement\n"
        "confinement._no_sockets = lambda libc: False\nprint(confinement.confine(), flush=True)\n"
        "socket.create_connection(('127.0.0.1', int(sys.argv[1])), timeout=5)", str(world[0]),
        env=_environment(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    told, complaint = await process.communicate()
    assert told.strip() == b"[]"
    assert b"Network is unreachable" in complaint


class Unconfined(Workers):
    """Workers of a machine that can't keep them from anything."""

    async def run(self, mode, *arguments, **more):
        return b'{"missing": ["the network (Operation not permitted)"]}'


async def test_what_can_not_be_given_up_is_said_in_the_log_and_at_the_door():
    isolation = Isolation(Unconfined(1))
    with structlog.testing.capture_logs() as logs:
        await isolation.look()
    assert isolation.told == Confinement(known=True, missing=["the network (Operation not permitted)"])
    assert [(each["event"], each["keep"]) for each in logs] == [("workers.not_confined", isolation.told.missing)]
