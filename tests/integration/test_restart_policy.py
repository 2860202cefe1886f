"""A restart policy over real containers."""

import asyncio
import time
from types import SimpleNamespace

import msgspec
import pytest

from contracts.records.logs import LogBatch
from services.agent.containers import ContainerRun
from services.agent.cursors import Cursors
from services.agent.decisions.members import Logging
from services.agent.decisions.plan import ContainerPlan
from services.agent.decisions.restarts import RestartPolicy
from services.agent.values import ContainerSpec, Mount, SandboxSpec
from tests.integration.test_runtime_oci import image, machine, make

__all__ = ["image", "machine", "make"]

pytestmark = pytest.mark.root

COUNT = "n=$(cat /count/n 2>/dev/null || echo 0); echo run $n; echo $((n+1)) > /count/n; [ $n = 2 ] && exit 7; exit 1"


class Logs:
    """A bus that keeps what is published, and refuses doubles as NATS does."""

    def __init__(self) -> None:
        self.lines: dict[str, list[str]] = {}

    async def publish(self, subject: str, payload: bytes, headers: dict[str, str]) -> None:
        events = msgspec.json.decode(payload, type=LogBatch).events
        self.lines.setdefault(headers["Nats-Msg-Id"], [event.message for event in events])


async def test_a_container_is_started_again_until_it_ends_with_an_ignored_code(make, image, tmp_path):
    runtime = await make()
    sandbox = await runtime.create_sandbox(SandboxSpec(id="t1", network_mode="none"))
    (tmp_path / "count").mkdir()
    logs = Logs()
    node = SimpleNamespace(
        runtime=runtime,
        bus=logs,
        cursors=Cursors(tmp_path / "cursors"),
        clock=time.time,
        settings=SimpleNamespace(logs_before_restart_s=10.0),
    )
    plan = ContainerPlan(
        id="t1-0",
        name="main",
        image=image.reference,
        definition={},
        restart=RestartPolicy(0.0, ignored=(7,)),
        logging=Logging("awslogs", {}, "logs.t1"),
    )
    spec = ContainerSpec(
        id="t1-0",
        name="main",
        image=image,
        command=["sh", "-c", COUNT],
        mounts=[Mount("/count", str(tmp_path / "count"))],
    )

    async def launch() -> float:
        return await runtime.run_container(sandbox, spec)

    run = ContainerRun(node, plan, lambda changed: None)
    run.start_ended(await launch())
    async with asyncio.timeout(30):
        exit = await run.end(launch, asyncio.Event())
        run.finish(exit)
        await run.shipping
    assert (exit.code, run.run.restarts) == (7, 2)
    assert sorted(line for lines in logs.lines.values() for line in lines) == ["run 0", "run 1", "run 2"]
    await runtime.remove_sandbox("t1")
