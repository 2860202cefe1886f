"""Runs every suite that needs no Docker, one after the other, with a line of progress and a last line that counts.

Each suite is a pytest of its own, so that a crash in one can't hide the others.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time

SUITES = (
    ("units and contracts", ["tests/unit", "tests/contract"], 60),
    ("integration", ["tests/integration"], 120),
    ("conformance", ["tests/conformance"], 180),
    ("flows", ["tests/flows"], 180),
    ("chaos", ["tests/chaos"], 180),
)
_COUNT = re.compile(r"(\d+) (passed|failed|error|errors|skipped)")


def main() -> int:
    """Run all; 1 when anything failed or nothing ran."""
    totals = {"passed": 0, "failed": 0, "skipped": 0}
    broken = []
    for name, paths, timeout in SUITES:
        here = [path for path in paths if os.path.isdir(path)]
        started = time.monotonic()
        print(f"== {name}", flush=True)
        command = [sys.executable, "-m", "pytest", "-q", "--timeout", str(timeout), "-m", "not docker", *here]
        run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        last = run.stdout.strip().splitlines()[-1:] or [""]
        for count, what in _COUNT.findall(last[0]):
            key = "failed" if what.startswith(("failed", "error")) else what
            totals[key] += int(count)
        if run.returncode != 0:
            broken.append(name)
            print(run.stdout)
        print(f"   {last[0]} ({time.monotonic() - started:.0f} s in all)", flush=True)
    print(f"{totals['passed']} passed, {totals['failed']} failed, {totals['skipped']} skipped")
    if broken:
        print(f"Broken: {', '.join(broken)}")
    return 1 if broken or not totals["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
