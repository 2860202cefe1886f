"""`python -m tests.bench [NAME]`: all benchmarks, or one."""

from __future__ import annotations

import importlib
import sys
import time

from tests.bench.figures import RESULTS, Figure, table, write

BENCHMARKS = {
    "api": "requests a second, against moto and ministack",
    "start": "start-up time, idle memory and processor time",
    "tasks": "RunTask to RUNNING and replacement, against docker run",
    "placement": "tasks a second that find their node, on 5,000 nodes",
    "names": "a task's start to the first DNS answer with its address",
    "scan": "a pushed image to its findings",
    "sbom": "packages found, against syft; a pushed image to its bills of materials",
    "advisories": "200,000 advisories imported; 10,000 images matched again when one changes",
    "scale": "200 services of 5 tasks on simulated nodes: what they cost while nothing happens",
    "fleet": "thousands of simulated nodes: services filled, a zone lost",
    "metrics": "CloudWatch: values in and out, and the usage of a thousand tasks",
    "registry": "images, layers and manifests in and out, memory and many tags, against docker-registry",
    "gateway": "requests through App Runner's HAProxy against a bare one; a push to its first request",
    "scaling": "a load step to the new desired count",
}


def main() -> int:
    """Run, print the table, write build/bench.json. 0 when every bar that could be measured holds."""
    chosen = sys.argv[1:] or list(BENCHMARKS)
    unknown = [name for name in chosen if name not in BENCHMARKS]
    if unknown:
        print(f"There is no benchmark {', '.join(unknown)}. There is: " + ", ".join(BENCHMARKS))
        return 2
    figures: list[Figure] = []
    for name in chosen:
        print(f"{name}: {BENCHMARKS[name]} …", flush=True)
        began = time.monotonic()
        figures += importlib.import_module(f"tests.bench.bench_{name}").run()
        print(f"  {time.monotonic() - began:.0f} s", flush=True)
    write(figures)
    print("\n" + table(figures) + f"\n\nwritten to {RESULTS}")
    return 0 if all(f.holds is not False for f in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
