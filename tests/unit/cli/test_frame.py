"""The picture of `roadstead top`."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from services.cli.frame import Facts, ago, frame, name_of, shorten

NOW = 1_700_000_000.0
ID = "0123456789abcdef0123456789abcdef"
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def node(name="node-a", **more):
    return {"node": name, "zone": "us-east-1a", "tasks": 1, "cpu_units": 2048, "cpu_reserved": 512, "memory_mib": 4000,
            "memory_reserved": 512, "connected": True, "draining": False} | more  # fmt: skip


def service(name="web", **more):
    return {"account": "0" * 12, "region": "us-east-1", "cluster": "shop", "name": name, "status": "ACTIVE",
            "desired": 1, "running": 1, "steady": True} | more  # fmt: skip


def task(identifier=ID, **more):
    return {"id": identifier, "service": "web", "task_definition": "web:1", "node": "node-a", "status": "RUNNING",
            "health": "UNKNOWN", "address": "10.64.0.2", "since": NOW - 90} | more  # fmt: skip


def event(sequence, name="task.running.v1", key=("0" * 12, "us-east-1", "shop", "node-a", ID)):
    return {"sequence": sequence, "at": NOW, "event": name, "key": list(key)}


def usage(**more):
    return {"account": "0" * 12, "region": "us-east-1", "cluster": "shop", "service": "web", "task": ID,
            "cpu_units": 64.0, "cpu_reserved": 256, "memory_mib": 128.0, "memory_reserved": 512} | more  # fmt: skip


def facts(**more):
    given = {"nodes": [node()], "services": [service()], "tasks": [task()], "task_count": 1, "events": [event(1)]}
    return Facts(now=NOW, title="Roadstead", **(given | more))


def words(lines: list[str]) -> list[list[str]]:
    return [line.split() for line in lines]


def test_everything_that_runs_is_in_it():
    shown = facts(usage={ID: usage()})
    lines = words(frame(shown, 120, 40, colour=False))
    assert ["node-a", "us-east-1a", "1", "0.5/2.0", "512/4000", "MiB", "ready"] in lines
    assert ["shop/web", "1/1", "steady", "25%", "25%"] in lines
    assert ["89abcdef", "web", "node-a", "running", "10.64.0.2", "25%", "128", "MiB", "2m"] in lines
    assert lines[-1][1:] == ["task.running", "shop/node-a/89abcdef"]


def test_apps_have_their_url_and_their_workloads_are_not_shown_twice():
    app = {
        "name": "front",
        "status": "RUNNING",
        "url": "https://x.localhost:8443",
        "instances": {ID: "ready", "b": "drain"},
    }
    workload = service("front-1", cluster="apprunner")
    hidden = {"account": "0" * 12, "region": "us-east-1", "name": "apprunner", "hidden": True}
    shown = facts(apps=[app], services=[workload], clusters=[hidden], usage={ID: usage()}, tasks=[])
    lines = words(frame(shown, 120, 40, colour=False))
    assert ["app", "front", "1/2", "running", "25%", "25%", "https://x.localhost:8443"] in lines
    assert not any("apprunner/front-1" in line for line in lines)


def test_columns_that_have_nothing_to_show_are_not_there():
    text = "\n".join(frame(facts(), 120, 40, colour=False))
    assert "URL" not in text and "HEALTH" not in text and "CPU  MEMORY" not in text


def test_a_narrow_terminal_keeps_what_matters():
    lines = frame(facts(), 40, 30, colour=False)
    assert "shop/web" in "\n".join(lines) and "1/1" in "\n".join(lines) and "ready" in "\n".join(lines)
    assert not any("MEMORY RESERVED" in line for line in lines)


def test_more_tasks_than_lines_say_how_many_and_leave_room_for_events():
    lines = frame(facts(tasks=[task(f"{n:032x}") for n in range(50)], task_count=320), 100, 30, colour=False)
    assert len(lines) <= 30
    (left,) = (line for line in lines if "more" in line)
    shown = sum("running  " in line and "10.64.0.2" in line for line in lines)
    assert (shown, left) == (shown, f"  … {50 + 1 - shown} more") and shown > 5
    assert any("task.running" in line for line in lines)


def test_what_is_wrong_is_red_and_what_can_not_be_asked_is_said():
    shown = facts(
        nodes=[node(connected=False)],
        services=[service(running=0, steady=False)],
        tasks=[task(health="UNHEALTHY")],
        missing={"monitor": "does not answer"},
    )
    red = re.findall(r"\x1b\[31m([^\x1b]*)", "\n".join(frame(shown, 120, 40)))
    assert [each.strip() for each in red] == ["monitor: does not answer", "silent", "none run", "unhealthy"]


def test_without_colour_there_is_no_escape_in_it_whatever_names_say():
    shown = facts(services=[service("evil\x1b[2J\n")], events=[event(1, key=("\x07bell",))])
    assert not any(ord(c) < 32 for line in frame(shown, 120, 40, colour=False) for c in line)


def test_events_are_newest_first():
    shown = facts(events=[event(1, "task.placed.v1"), event(3, "task.running.v1"), event(2, "task.pending.v1")])
    names = [line.split()[1] for line in frame(shown, 120, 40, colour=False) if "89abcdef" in line and ":" in line[:3]]
    assert names == ["task.running", "task.pending", "task.placed"]


def test_words_for_people():
    assert [ago(s) for s in (-1, 5, 90, 7200, 200_000)] == ["0s", "5s", "2m", "2h", "2d"]
    assert (shorten("abcdef", 4), shorten("abc", 4), shorten("abc", 1)) == ("…def", "abc", "a")
    image = ["0" * 12, "eu", "shop", "sha256:" + "0123456789ab" + "c" * 52]
    assert name_of(image) == "shop/sha256:0123456789ab"
    assert (name_of(["node-a"]), name_of(["0" * 12, "eu", "shop", ""])) == ("node-a", "shop")


ROWS = st.integers(0, 40)


@given(width=st.integers(1, 300), height=st.integers(1, 100), nodes=ROWS, services=ROWS, tasks=ROWS, events=ROWS,
       name=st.text(max_size=40), colour=st.booleans())  # fmt: skip
def test_it_never_outgrows_the_terminal(width, height, nodes, services, tasks, events, name, colour):
    shown = facts(
        nodes=[node(name)] * nodes,
        services=[service(name)] * services,
        tasks=[task(service=name)] * tasks,
        task_count=tasks + 3,
        events=[event(n, name) for n in range(events)],
        missing={"scheduler": name},
    )
    lines = frame(shown, width, height, colour=colour)
    assert len(lines) <= height
    assert all(len(ANSI.sub("", line)) <= max(width, 20) for line in lines)
