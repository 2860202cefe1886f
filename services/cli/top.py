"""`roadstead top`: what runs, live in the terminal, out of what the services tell over HTTP."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import signal
import sys
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Iterator
from typing import Any

from services.cli.frame import Facts, frame
from services.cli.layout import Layout, PlatformInfo

REFRESH_S = 1.0
TIMEOUT_S = 2.0
MOST_TASKS = 200
MOST_EVENTS = 50
ENTER, LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
ONCE_SIZE = (120, 60)


class Watcher:
    """Asks the services of a platform, each time from the start, so that one that was started anew is found again."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._events: deque[dict[str, Any]] = deque(maxlen=MOST_EVENTS)
        self._last = 0

    def look(self, now: float) -> Facts | None:
        """What is now; None when no platform runs."""
        info = self._layout.read_info()
        if info is None:
            return None
        missing: dict[str, str] = {}
        state = self._ask(info, "scheduler", f"/state?tasks={MOST_TASKS}", missing) or {}
        usage = self._ask(info, "monitor", "/usage", missing, optional=True) or {}
        self._follow(info, missing)
        tasks = state.get("latest_tasks", ())
        return Facts(
            now=now,
            title=_title(info, now),
            nodes=state.get("nodes", ()),
            clusters=state.get("clusters", ()),
            services=state.get("services", ()),
            tasks=tasks,
            task_count=max(len(tasks), sum(node["tasks"] for node in state.get("nodes", ()))),
            usage={each["task"]: each for node in usage.get("nodes", ()) for each in node["tasks"]},
            apps=(self._ask(info, "app_runner_gateway", "/services", missing) or {}).get("services", ()),
            events=list(self._events),
            missing=missing,
        )

    def _follow(self, info: PlatformInfo, missing: dict[str, str]) -> None:
        found = self._ask(info, "monitor", f"/events?limit={MOST_EVENTS}&after={self._last}", missing)
        if found is not None:
            self._events.extend(found["events"])
            self._last = found["last"]

    @staticmethod
    def _ask(
        info: PlatformInfo, service: str, path: str, missing: dict[str, str], *, optional: bool = False
    ) -> Any | None:
        """A service's JSON; None when it is not there (any more), which is put down unless the path is optional."""
        port = next((each.port for each in info.services if each.name == service), None)
        if port is None:
            return None
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=TIMEOUT_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                if not optional:
                    missing[service] = f"answers {error.code}"
        except (OSError, ValueError) as error:
            missing[service] = f"does not answer ({getattr(error, 'reason', error)})"
        return None


def _title(info: PlatformInfo, now: float) -> str:
    clock = time.strftime("%H:%M:%S", time.localtime(now))
    minutes = (now - info.started_at) / 60
    up = f"{minutes * 60:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h"
    where = f"http://127.0.0.1:{info.port}  registry localhost:{info.registry_port}"
    return f"Roadstead  {clock}  up {up}  {where}  {info.runtime}, {info.zones} zones"


def top(layout: Layout, arguments: argparse.Namespace) -> int:
    """Live until `q`; with --once, or where there is no terminal, one picture."""
    watcher = Watcher(layout)
    if arguments.once or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return _once(watcher, layout)
    with _terminal():
        while True:
            facts = watcher.look(time.time())
            lines = _absent(layout) if facts is None else None
            width, height = os.get_terminal_size()
            if facts is not None:
                lines = frame(facts, width, height - 1, colour=not os.environ.get("NO_COLOR"))
            _show([*(lines or []), "q quits"][:height])
            if _key(REFRESH_S) in ("q", "Q", "\x03", "\x04"):
                return 0


def _once(watcher: Watcher, layout: Layout) -> int:
    facts = watcher.look(time.time())
    if facts is None:
        print(_absent(layout)[0], file=sys.stderr)
        return 1
    size = os.get_terminal_size() if sys.stdout.isatty() else ONCE_SIZE
    print("\n".join(frame(facts, size[0], size[1], colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR"))))
    return 0


def _absent(layout: Layout) -> list[str]:
    return [f"No platform runs on {layout.root}: start one with `roadstead up`"]


def _show(lines: list[str]) -> None:
    """Over what was there, line by line: clearing all first would flicker."""
    text = "\x1b[H" + "\r\n".join(f"{line}\x1b[K" for line in lines) + "\x1b[J"
    sys.stdout.write(text)
    sys.stdout.flush()


def _key(seconds: float) -> str:
    """The key that is pressed within so many seconds, or none."""
    ready, _, _ = select.select([sys.stdin], [], [], seconds)
    return os.read(sys.stdin.fileno(), 1).decode(errors="replace") if ready else ""


@contextlib.contextmanager
def _terminal() -> Iterator[None]:
    """The alternate screen, keys as they are pressed; everything as it was afterwards, whatever happens."""
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    handlers = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        tty.setcbreak(descriptor)
        sys.stdout.write(ENTER)
        yield
    finally:
        signal.signal(signal.SIGTERM, handlers)
        sys.stdout.write(LEAVE)
        sys.stdout.flush()
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
