"""Where a container's start goes with the oci runtime: `python -m tests.bench.bench_oci [starts]`, as root."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from services.agent.ports import ContainerSpec, Image, SandboxSpec
from services.agent.runtimes.oci import OciRuntime, OciSettings
from tests.bench.figures import Figure, table
from tests.builders.images import busybox_image
from tests.fakes.image_registry import ImageRegistry

STARTS = 60
AT_ONCE = 8


class Clock:
    """Collects how long steps took, in milliseconds."""

    def __init__(self) -> None:
        self.steps: dict[str, list[float]] = defaultdict(list)

    def lap(self, step: str, since: float) -> float:
        """Note a step; the time now."""
        now = time.perf_counter()
        self.steps[step].append((now - since) * 1000)
        return now

    def figures(self) -> list[Figure]:
        """The 50th and 99th percentile of each step."""
        found = []
        for step, values in self.steps.items():
            ordered = sorted(values)
            for percent in (50, 99):
                found.append(Figure(f"{step} p{percent}", ordered[(len(ordered) - 1) * percent // 100], "ms"))
        return found


async def one(runtime: OciRuntime, image: Image, number: int, clock: Clock) -> None:
    """A task with one container: sandbox, container, process."""
    began = now = time.perf_counter()
    sandbox = await runtime.create_sandbox(SandboxSpec(f"s{number}", cpu_units=128, memory_mib=64))
    now = clock.lap("sandbox", now)
    spec = ContainerSpec(f"c{number}", "main", image, command=["sleep", "600"], memory_mib=64, cpu_units=128)
    await runtime.create_container(sandbox, spec)
    now = clock.lap("overlay, user, config", now)
    await runtime.start_container(spec.id)
    clock.lap("conmon, runc, command", now)
    clock.lap("start", began)


async def gone(runtime: OciRuntime, number: int, clock: Clock) -> None:
    """Stop and remove it."""
    now = time.perf_counter()
    await runtime.stop_container(f"c{number}", 0)
    now = clock.lap("kill", now)
    await runtime.remove_sandbox(f"s{number}")
    clock.lap("remove", now)


async def measure(starts: int) -> list[Figure]:
    """One after the other, then eight at once."""
    with tempfile.TemporaryDirectory(prefix="roadstead-bench-") as directory:
        settings = OciSettings(run_directory=Path(directory, "run"))
        runtime = OciRuntime(Path(directory, "node"), "bench", settings=settings)
        await runtime.start()
        try:
            async with ImageRegistry() as registry:
                image = await runtime.pull(registry.push("bench", "1", busybox_image()))
            alone, together, apart = Clock(), Clock(), Clock()
            for number in range(starts):
                await one(runtime, image, number, alone)
                await gone(runtime, number, alone)
            busy = 0.0
            for _ in range(max(1, starts // AT_ONCE)):
                began = time.perf_counter()
                await asyncio.gather(*(one(runtime, image, number, together) for number in range(AT_ONCE)))
                busy += time.perf_counter() - began
                await asyncio.gather(*(gone(runtime, number, apart) for number in range(AT_ONCE)))
        finally:
            await runtime.destroy()
            await runtime.aclose()
    rate = Figure(f"starts a second, {AT_ONCE} at once", len(together.steps["start"]) / busy, "/s")
    eight = [figure for figure in together.figures() if figure.name.startswith("start ")]
    renamed = [Figure(f"{AT_ONCE} at once: {figure.name}", figure.value, figure.unit) for figure in eight]
    return [*alone.figures(), *renamed, rate]


def run() -> list[Figure]:
    """The figures."""
    return asyncio.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1].isdigit() else STARTS))


if __name__ == "__main__":
    print(table(run()))
