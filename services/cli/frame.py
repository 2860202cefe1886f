"""One picture of the platform for `roadstead top`, out of facts, for a terminal of some size. Pure.

The facts are JSON as the services gave it; a service that is away gives none, and its part of the picture says so.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

Row = Mapping[str, Any]
SMALLEST = 20
_ACCOUNT, _ID = re.compile("[0-9]{12}"), re.compile("[0-9a-f]{32}")
_DIGEST = re.compile(r"(sha256:[0-9a-f]{12})[0-9a-f]{52}")
EVENTS_SHARE = 3
"""Of the lines that are left for tasks and events, the events get one in so many at least."""
BOLD, DIM, RED, GREEN, YELLOW = "1", "2", "31", "32", "33"


class Facts(msgspec.Struct, kw_only=True):
    """What is known at `now` (seconds since the epoch). `apps` are App Runner's services; `missing` is what could not
    be asked, and why."""

    now: float
    title: str
    nodes: Sequence[Row] = ()
    clusters: Sequence[Row] = ()
    services: Sequence[Row] = ()
    tasks: Sequence[Row] = ()
    task_count: int = 0
    usage: Mapping[str, Row] = {}
    apps: Sequence[Row] = ()
    events: Sequence[Row] = ()
    missing: Mapping[str, str] = {}


class Cell(NamedTuple):
    """A piece of text and its colour."""

    text: str
    colour: str = ""


class Column(NamedTuple):
    """A column's title, its least and most width, and how much it matters: the least goes first where room is short."""

    title: str
    least: int
    most: int
    matters: int = 9
    right: bool = False


def frame(facts: Facts, width: int, height: int, *, colour: bool = True) -> list[str]:
    """Lines of at most `width` characters, at most `height` of them. `colour`: with ANSI's."""
    width = max(width, SMALLEST)
    painter = _Painter(width, colour)
    head = [painter.line([Cell(facts.title, BOLD)])]
    head += [painter.line([Cell(f"{who}: {why}", RED)]) for who, why in sorted(facts.missing.items())]
    parts = [_nodes(facts, painter), _services(facts, painter), _tasks(facts, painter), _events(facts, painter)]
    return [*head, *_fit(parts, height - len(head))][: max(height, 1)]


def _fit(parts: list[list[str]], height: int) -> list[str]:
    """Share the lines: nodes and services first, the rest for tasks and events; a line that says what was left out."""
    nodes, services, tasks, events = parts
    nodes = _cut(nodes, max(height // 4, 3))
    services = _cut(services, max(height // 3, 3))
    rest = max(height - len(nodes) - len(services) - sum(bool(part) for part in parts[:3]), 0)
    for_events = max(min(len(events), rest // EVENTS_SHARE + 1), rest - len(tasks))
    tasks = _cut(tasks, rest - for_events)
    shown = [part for part in (nodes, services, tasks, events[:for_events]) if part]
    return [line for number, part in enumerate(shown) for line in ([""] if number else []) + part]


def _cut(lines: list[str], most: int) -> list[str]:
    if len(lines) <= most:
        return lines
    if most < 2:
        return []
    return [*lines[: most - 1], f"  … {len(lines) - most + 1} more"]


class _Painter:
    def __init__(self, width: int, colour: bool) -> None:
        self.width = width
        self._colour = colour

    def line(self, cells: Iterable[Cell]) -> str:
        """The cells one after the other, cut at the width; colours take no room."""
        left, out = self.width, []
        for cell in cells:
            text = plain(cell.text)[:left]
            left -= len(text)
            out.append(f"\x1b[{cell.colour}m{text}\x1b[0m" if self._colour and cell.colour and text.strip() else text)
        return "".join(out).rstrip()

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> list[str]:
        """A line of titles and one a row. Columns that have nothing to show, or no room, are left out."""
        keep = [i for i, column in enumerate(columns) if column.matters == 9 or any(row[i].text for row in rows)]
        while sum(columns[i].least + 2 for i in keep) > self.width and len(keep) > 1:
            keep.remove(min(reversed(keep), key=lambda i: columns[i].matters))
        widths = {i: columns[i].least for i in keep}
        spare = self.width - sum(width + 2 for width in widths.values()) + 2
        for i in sorted(keep, key=lambda i: -columns[i].matters):
            longest = max((len(plain(row[i].text)) for row in rows), default=0)
            more = max(min(longest, columns[i].most) - widths[i], 0)
            widths[i] += min(more, max(spare, 0))
            spare -= min(more, max(spare, 0))
        titles = [Cell(columns[i].title, DIM) for i in keep]
        return [self._row(columns, widths, titles), *(self._row(columns, widths, [r[i] for i in keep]) for r in rows)]

    def _row(self, columns: Sequence[Column], widths: Mapping[int, int], cells: Sequence[Cell]) -> str:
        placed = []
        for (i, width), cell in zip(widths.items(), cells, strict=True):
            text = shorten(plain(cell.text), width)
            placed += [Cell(f"{text:>{width}}" if columns[i].right else f"{text:<{width}}", cell.colour), Cell("  ")]
        return self.line(placed)


def plain(text: str) -> str:
    """Without what a terminal would act upon: names come from outside."""
    return "".join(c if c.isprintable() else "?" for c in text)


def shorten(text: str, width: int) -> str:
    """At most so many characters, the end kept: what tells names apart is there more often."""
    if len(text) <= width:
        return text
    return "…" + text[len(text) - width + 1 :] if width > 1 else text[:width]


def name_of(key: Sequence[str]) -> str:
    """An entity's key for people: without account and region, ids as short as the table of tasks has them, digests as
    docker shows them."""
    parts = key[2:] if len(key) > 2 and _ACCOUNT.fullmatch(key[0]) else key
    return "/".join(part[-8:] if _ID.fullmatch(part) else _DIGEST.sub(r"\1", part) for part in parts if part)


def ago(seconds: float) -> str:
    """A duration in one number."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"


def _nodes(facts: Facts, painter: _Painter) -> list[str]:
    if not facts.nodes:
        return []
    columns = (
        Column("NODE", 8, 32),
        Column("ZONE", 6, 16, 2),
        Column("TASKS", 5, 5, 7, True),
        Column("CPU RESERVED", 12, 14, 5, True),
        Column("MEMORY RESERVED", 15, 18, 4, True),
        Column("STATE", 8, 8),
    )
    return painter.table(columns, [_node(row) for row in facts.nodes])


def _node(row: Row) -> list[Cell]:
    state = Cell("ready", GREEN)
    if not row["connected"]:
        state = Cell("silent", RED)
    elif row["draining"]:
        state = Cell("draining", YELLOW)
    return [
        Cell(row["node"]),
        Cell(row["zone"]),
        Cell(str(row["tasks"])),
        Cell(f"{row['cpu_reserved'] / 1024:.1f}/{row['cpu_units'] / 1024:.1f}"),
        Cell(f"{row['memory_reserved']}/{row['memory_mib']} MiB"),
        state,
    ]


def _services(facts: Facts, painter: _Painter) -> list[str]:
    hidden = {(c["account"], c["region"], c["name"]) for c in facts.clusters if c.get("hidden") and facts.apps}
    shown = [row for row in facts.services if (row["account"], row["region"], row["cluster"]) not in hidden]
    rows = [*(_app(facts, row) for row in facts.apps), *(_service(facts, row) for row in shown)]
    used = {(row["account"], row["region"], row["cluster"]) for row in facts.services}
    for cluster in facts.clusters:
        if (cluster["account"], cluster["region"], cluster["name"]) not in used and not cluster.get("hidden"):
            rows.append([Cell(cluster["name"] + "/"), Cell("0/0"), Cell("no services", DIM), *[Cell("")] * 3])
    columns = (
        Column("CLUSTER/SERVICE", 15, 60),
        Column("RUNNING", 7, 7, 8, True),
        Column("STATE", 9, 12, 7),
        Column("CPU", 5, 6, 4, True),
        Column("MEMORY", 6, 6, 3, True),
        Column("URL", 12, 70, 6),
    )
    return painter.table(columns, rows) if rows else []


def _service(facts: Facts, row: Row) -> list[Cell]:
    running, wanted = row["running"], row["desired"]
    state = Cell("steady", GREEN) if row["steady"] and running == wanted else Cell("moving", YELLOW)
    if row["status"] != "ACTIVE":
        state = Cell(row["status"].lower(), DIM)
    elif running < wanted and not running:
        state = Cell("none run", RED)
    mine = [
        usage
        for usage in facts.usage.values()
        if all(usage.get(name) == row[name] for name in ("account", "region", "cluster"))
        and usage.get("service") == row["name"]
    ]
    return [
        Cell(f"{row['cluster']}/{row['name']}"),
        Cell(f"{running}/{wanted}"),
        state,
        Cell(_percent(mine, "cpu_units", "cpu_reserved")),
        Cell(_percent(mine, "memory_mib", "memory_reserved")),
        Cell(row.get("url", "")),
    ]


def _app(facts: Facts, row: Row) -> list[Cell]:
    ready = sum(state == "ready" for state in row["instances"].values())
    mine = [facts.usage[task] for task in row["instances"] if task in facts.usage]
    return [
        Cell(f"app {row['name']}"),
        Cell(f"{ready}/{len(row['instances'])}"),
        Cell(row["status"].lower(), GREEN if row["status"] == "RUNNING" else YELLOW),
        Cell(_percent(mine, "cpu_units", "cpu_reserved")),
        Cell(_percent(mine, "memory_mib", "memory_reserved")),
        Cell(row["url"]),
    ]


def _percent(usages: Sequence[Row], used: str, reserved: str) -> str:
    whole = sum(usage.get(reserved) or 0 for usage in usages)
    return f"{100 * sum(usage.get(used) or 0 for usage in usages) / whole:.0f}%" if whole else ""


def _tasks(facts: Facts, painter: _Painter) -> list[str]:
    columns = (
        Column("TASK", 8, 8),
        Column("SERVICE", 10, 48, 8),
        Column("NODE", 8, 20, 4),
        Column("STATUS", 9, 14, 7),
        Column("HEALTH", 7, 9, 1),
        Column("ADDRESS", 10, 15, 5),
        Column("CPU", 5, 6, 3, True),
        Column("MEMORY", 8, 9, 2, True),
        Column("AGE", 4, 4, 6, True),
    )
    if not facts.tasks:
        return []
    lines = painter.table(columns, [_task(facts, row) for row in facts.tasks])
    hidden = facts.task_count - len(facts.tasks)
    return [*lines, f"  … {hidden} more"] if hidden > 0 else lines


def _task(facts: Facts, row: Row) -> list[Cell]:
    status, health = row["status"], row["health"]
    usage = facts.usage.get(row["id"], {})
    return [
        Cell(row["id"][-8:]),
        Cell(row["service"] or row["task_definition"]),
        Cell(row["node"]),
        Cell(status.lower(), GREEN if status == "RUNNING" else YELLOW),
        Cell("" if health == "UNKNOWN" else health.lower(), RED if health == "UNHEALTHY" else ""),
        Cell(row["address"]),
        Cell(_percent([usage], "cpu_units", "cpu_reserved")),
        Cell(_mib(usage["memory_mib"]) if "memory_mib" in usage else ""),
        Cell(ago(facts.now - row["since"])),
    ]


def _mib(value: float) -> str:
    return f"{value:.1f} MiB" if value < 10 else f"{value:.0f} MiB"


def _events(facts: Facts, painter: _Painter) -> list[str]:
    if not facts.events:
        return []
    columns = (Column("TIME", 8, 8, 7), Column("LATEST EVENTS", 16, 40, 9), Column("OF", 10, 200, 8))
    rows = [
        [
            Cell(time.strftime("%H:%M:%S", time.localtime(row["at"])), DIM),
            Cell(row["event"].rpartition(".v")[0] or row["event"]),
            Cell(name_of(row["key"])),
        ]
        for row in sorted(facts.events, key=lambda row: -row["sequence"])
    ]
    return painter.table(columns, rows)
