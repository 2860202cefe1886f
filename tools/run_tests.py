"""Runs every suite that needs no Docker, in lanes side by side: they wait more than they work.

Each suite is a pytest of its own, so that a crash in one can't hide the others. A file with a failed test is run a
second time, by itself: what fails twice is broken; what passes then is unsteady, is told with what it said, and is a
bug of the test or of the code all the same. More than MOST_UNSTEADY of those are no accident, and the run fails.

    python tools/run_tests.py                 all suites
    python tools/run_tests.py NAME PATH …     one suite of these paths, with what pytest takes besides
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

LANES = (
    (("integration", ["tests/integration"], 120),),
    (("flows", ["tests/flows"], 180),),
    (
        ("units and contracts", ["tests/unit", "tests/contract"], 60),
        ("conformance", ["tests/conformance"], 180),
        ("chaos", ["tests/chaos"], 180),
    ),
)
WITHOUT_DOCKER = ("-m", "not docker")
MOST_UNSTEADY = 2
_COUNT = re.compile(r"(\d+) (passed|failed|error|errors|skipped)")
_FAILED = re.compile(r"^(?:FAILED|ERROR) (tests/[^\s:]+\.py)", re.MULTILINE)


class Run:
    """One pytest: its exit code, what it printed, what it counted, and the files in which something failed."""

    def __init__(self, arguments: Sequence[str]) -> None:
        command = [sys.executable, "-m", "pytest", "-q", "-ra", *arguments]
        ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        self.code, self.text = ended.returncode, ended.stdout
        self.last = (self.text.strip().splitlines() or [""])[-1]
        found = Counter({what: int(count) for count, what in _COUNT.findall(self.last)})
        self.failed = found["failed"] + found["error"] + found["errors"]
        self.passed, self.skipped = found["passed"], found["skipped"]
        self.files = sorted(set(_FAILED.findall(self.text)))


def suite(name: str, paths: Sequence[str], options: Sequence[str]) -> tuple[Run, list[str], bool]:
    """Run a suite: (its run, the unsteady files, whether it is broken)."""
    started = time.monotonic()
    print(f"== {name} …", flush=True)
    run = Run([*options, *paths])
    unsteady, broken, said = [], run.code != 0, ""
    if broken:
        said = f"{run.text}\n"
    if broken and run.files and len(run.files) <= MOST_UNSTEADY:
        again = Run([*options, *run.files])
        broken = again.code != 0
        unsteady = [] if broken else run.files
        said += f"-- again, by themselves: {', '.join(run.files)}\n{again.text if broken else again.last}\n"
    print(f"{said}== {name}: {run.last} ({time.monotonic() - started:.0f} s in all)", flush=True)
    return run, unsteady, broken


def lane(suites: Sequence[tuple[str, list[str], int]]) -> list[tuple[str, Run, list[str], bool]]:
    """Run suites one after the other."""
    results = []
    for name, paths, timeout in suites:
        here = [path for path in paths if os.path.isdir(path)]
        results.append((name, *suite(name, here, ["--timeout", str(timeout), *WITHOUT_DOCKER])))
    return results


def main(arguments: Sequence[str]) -> int:
    """Run all, or the one that is named; 1 when something is broken, too much is unsteady, or nothing ran."""
    if arguments:
        name, *rest = arguments
        results = [(name, *suite(name, [], rest))]
    else:
        with ThreadPoolExecutor(len(LANES)) as pool:
            results = [result for results in pool.map(lane, LANES) for result in results]
    runs = [run for _, run, _, _ in results]
    counts = [sum(getattr(run, what) for run in runs) for what in ("passed", "failed", "skipped")]
    print("{} passed, {} failed, {} skipped".format(*counts))
    broken = [name for name, _, _, is_broken in results if is_broken]
    unsteady = [file for _, _, files, _ in results for file in files]
    if broken:
        print(f"Broken: {', '.join(broken)}")
    if unsteady:
        print(f"UNSTEADY, failed once and passed then: {', '.join(unsteady)}")
    return 1 if broken or len(unsteady) > MOST_UNSTEADY or not any(r.passed for r in runs) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
