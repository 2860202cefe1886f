"""A task's life, over a runtime in memory and with reports that land at once."""

import asyncio
import time
from types import SimpleNamespace

import msgspec
import pytest

from contracts.records.scheduler import Task
from services.agent.cursors import Cursors
from services.agent.ports import CannotPullContainerError, CannotStartContainerError, ExecResult, RuntimeFailure
from services.agent.tasks import TaskRunner
from services.shared.state import Entry
from tests.fakes.runtime import Behaviour, FakeRuntime

DEPENDS = "dependsOn"


class Reports:
    """Keeps what is reported."""

    def __init__(self) -> None:
        self.told = []
        self.more = asyncio.Event()

    def offer(self, status) -> None:
        self.told.append(status)
        self.more.set()

    async def settled(self, key) -> None:
        """All that is told has landed."""

    async def reached(self, state: str, condition=lambda status: True):
        async with asyncio.timeout(30):
            while not (self.told and self.told[-1].last_status == state and condition(self.told[-1])):
                self.more.clear()
                await self.more.wait()
        return self.told[-1]

    def states(self) -> list[str]:
        return [status.last_status for status in self.told]


class Bench:
    """One task on a node of parts that answer at once."""

    def __init__(self, directory) -> None:
        self.runtime, self.reports, self.definition = FakeRuntime(), Reports(), {}
        self.directory = directory
        self.work = None
        self.freed = {}

    async def definition_of(self, task):
        return self.definition

    async def pull(self, image, task, login=None):
        return await self.runtime.pull(image)

    async def nothing(self, *_):
        return None

    def parts(self, **settings):
        kept = {"pending_after_s": 5.0, "logs_before_stopped_s": 0.1, "logs_before_restart_s": 1.0, **settings}
        return SimpleNamespace(
            runtime=self.runtime,
            reports=self.reports,
            definition=self.definition_of,
            images=SimpleNamespace(pull=self.pull),
            settings=SimpleNamespace(**kept),
            clock=time.time,
            cursors=Cursors(self.directory / "cursors"),
            sessions=SimpleNamespace(drop=lambda task: None),
            groups=SimpleNamespace(enter=self.in_no_group, leave=self.nothing),
            volumes_root=str(self.directory / "volumes"),
            file_systems="",
            require_storage=lambda gib: None,
            released=self.nothing,
            release_begins=lambda ports: asyncio.Event(),
            release_ends=lambda ports, done: done.set(),
        )

    async def in_no_group(self, task, sandbox, adopted=False) -> bool:
        return False

    def start(self, *containers, **settings) -> TaskRunner:
        self.definition = {"containerDefinitions": [{"image": "i", **c} for c in containers]}
        self.task = Task(
            account="1",
            region="r",
            cluster="c",
            node="n",
            id="t1",
            task_definition="f:1",
            desired_status="RUNNING",
            created_at=1.0,
        )
        self.runner = TaskRunner(self.parts(**settings), Entry(self.task, 1, None), "cred", None, None)
        self.work = asyncio.ensure_future(self.runner.run())
        return self.runner

    def ask_stop(self, **members) -> None:
        stopped = msgspec.structs.replace(self.task, desired_status="STOPPED", **members)
        self.runner.wanted(Entry(stopped, 2, None))

    def called(self, what: str) -> list[str]:
        return [name for call, name in self.runtime.calls if call == what]

    async def over(self):
        await asyncio.wait_for(self.work, 30)
        return self.reports.told[-1]


@pytest.fixture
async def bench(tmp_path):
    made = Bench(tmp_path)
    yield made
    if made.work is not None:
        made.work.cancel()
        await asyncio.gather(made.work, return_exceptions=True)
        await made.runner.abandon()


async def test_running_is_the_only_report_of_a_quick_start(bench):
    bench.start({"name": "a"}, {"name": "b"})
    status = await bench.reports.reached("RUNNING")
    assert bench.reports.states() == ["RUNNING"]
    assert [c.last_status for c in status.containers] == ["RUNNING", "RUNNING"]


async def test_a_dependency_on_success_starts_its_dependent_after_it(bench):
    bench.runtime.behaviours["init"] = Behaviour(exit_after=0.03)
    bench.start(
        {"name": "web", DEPENDS: [{"containerName": "init", "condition": "SUCCESS"}]},
        {"name": "init", "essential": False},
    )
    status = await bench.reports.reached("RUNNING")
    assert {c.name: c.last_status for c in status.containers} == {"init": "STOPPED", "web": "RUNNING"}
    assert bench.called("start") == ["init", "web"]


@pytest.mark.parametrize("condition", ["SUCCESS", "HEALTHY"])
async def test_a_dependency_that_fails_keeps_its_dependent_from_starting(bench, condition):
    bench.runtime.behaviours["init"] = Behaviour(exit_after=0.03, exit_code=3)
    bench.start(
        {"name": "web", DEPENDS: [{"containerName": "init", "condition": condition}]},
        {"name": "init", "essential": False, "healthCheck": {"command": ["CMD", "x"]}},
    )
    status = await bench.over()
    assert status.stop_code == "TaskFailedToStart"
    assert status.stopped_reason == (
        f"CannotStartContainerError: dependency init ({condition}) was not resolved: it exited with code 3"
    )
    assert bench.called("start") == ["init"]


async def test_a_dependent_waits_for_health_and_gives_up_after_the_start_timeout(bench):
    bench.runtime.behaviours["db"] = Behaviour(on_exec=lambda argv: ExecResult(1, b""))
    bench.start(
        {"name": "web", DEPENDS: [{"containerName": "db", "condition": "HEALTHY"}]},
        {"name": "db", "startTimeout": 0.1, "healthCheck": {"command": ["CMD", "x"], "interval": 0.02}},
    )
    status = await bench.over()
    assert (status.stop_code, bench.called("start")) == ("TaskFailedToStart", ["db"])
    assert "timed out" in status.stopped_reason


async def test_health_is_reported_when_it_changes(bench):
    answers = [0, 1, 1, 0]
    bench.runtime.behaviours["web"] = Behaviour(on_exec=lambda argv: ExecResult(answers.pop(0) if answers else 0, b""))
    bench.start({"name": "web", "healthCheck": {"command": ["CMD", "x"], "interval": 0.01, "retries": 2}})
    await bench.reports.reached("RUNNING")
    async with asyncio.timeout(30):
        while len(bench.reports.told) < 4:
            bench.reports.more.clear()
            await bench.reports.more.wait()
    assert [s.health_status for s in bench.reports.told[:4]] == ["UNKNOWN", "HEALTHY", "UNHEALTHY", "HEALTHY"]


async def test_a_container_that_is_not_essential_may_end(bench):
    bench.start({"name": "web"}, {"name": "job", "essential": False})
    await bench.reports.reached("RUNNING")
    bench.runtime.finish("t1-1", 4)
    status = await bench.reports.reached("RUNNING", lambda s: s.containers[1].last_status == "STOPPED")
    assert (status.containers[1].exit_code, bench.runtime.running()) == (4, ["web"])


async def test_the_end_of_the_last_container_ends_the_task(bench):
    bench.runtime.behaviours["job"] = Behaviour(exit_after=0.02)
    bench.start({"name": "job", "essential": False})
    assert (await bench.over()).stop_code == "EssentialContainerExited"


async def test_stopping_goes_against_the_dependencies_with_each_one_s_timeout(bench):
    bench.runtime.behaviours["web"] = Behaviour(ignores_sigterm=True)
    bench.start(
        {"name": "web", "stopTimeout": 0.05, DEPENDS: [{"containerName": "db", "condition": "START"}]},
        {"name": "db"},
    )
    await bench.reports.reached("RUNNING")
    bench.ask_stop()
    status = await bench.over()
    assert bench.called("stop") == ["web", "db"]
    assert {c.name: c.exit_code for c in status.containers} == {"web": 137, "db": 143}
    assert (status.stop_code, bench.reports.states()) == (None, ["RUNNING", "STOPPED"])


async def test_what_does_not_hear_of_a_stop_is_killed_when_its_capacity_is_taken_back(bench):
    bench.runtime.behaviours["web"] = Behaviour(ignores_sigterm=True)
    bench.start({"name": "web", "stopTimeout": 120})
    await bench.reports.reached("RUNNING")
    bench.ask_stop(stop_by=time.time() + 0.05)
    assert (await bench.over()).containers[0].exit_code == 137


async def test_a_slow_stop_is_reported_while_it_lasts(bench):
    bench.runtime.behaviours["web"] = Behaviour(ignores_sigterm=True)
    bench.start({"name": "web", "stopTimeout": 0.2}, pending_after_s=0.05)
    await bench.reports.reached("RUNNING")
    bench.ask_stop()
    await bench.over()
    assert bench.reports.states() == ["RUNNING", "STOPPING", "STOPPED"]


async def test_a_stop_while_images_come_ends_the_pull(bench):
    bench.runtime.pull_delay = 30
    bench.start({"name": "web"})
    await asyncio.sleep(0.02)
    bench.ask_stop()
    status = await bench.over()
    assert (status.containers[0].exit_code, bench.called("start")) == (None, [])
    assert await bench.runtime.sandboxes() == []


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (
            Behaviour(start_error=CannotStartContainerError("no such command")),
            "CannotStartContainerError: no such command",
        ),
        (Behaviour(create_error=RuntimeFailure("odd")), "ContainerRuntimeError: odd"),
    ],
)
async def test_an_essential_container_that_can_not_start_fails_the_task(bench, behaviour, reason):
    bench.runtime.behaviours["web"] = behaviour
    bench.start({"name": "web"}, {"name": "side"})
    status = await bench.over()
    assert (status.stop_code, status.stopped_reason) == ("TaskFailedToStart", reason)
    assert {c.name: c.reason for c in status.containers}["web"] == reason
    assert bench.runtime.running() == []


async def test_an_image_of_no_essential_container_may_be_missing(bench):
    bench.runtime.pull_errors["bad"] = "no such image"
    bench.start({"name": "web"}, {"name": "side", "image": "bad", "essential": False})
    status = await bench.reports.reached("RUNNING")
    assert {c.name: c.reason for c in status.containers}["side"] == (f"{CannotPullContainerError.code}: no such image")


async def test_no_network_and_an_odd_definition_fail_the_start(bench):
    bench.runtime.sandbox_error = RuntimeFailure("no address is free")
    bench.start({"name": "web"})
    status = await bench.over()
    assert status.stopped_reason == "ResourceInitializationError: no address is free"


async def test_what_is_not_supported_is_told_before_anything_is_made(bench):
    bench.start({"name": "web", "logConfiguration": {"logDriver": "splunk"}})
    status = await bench.over()
    assert (status.stop_code, "splunk" in status.stopped_reason) == ("TaskFailedToStart", True)
    assert bench.runtime.calls == []


async def test_a_container_that_somebody_removed_is_reported_gone(bench):
    bench.start({"name": "web"})
    await bench.reports.reached("RUNNING")
    bench.ask_stop()
    bench.runtime._containers.clear()
    status = await bench.over()
    assert (status.containers[0].exit_code, "NoSuchContainer" in status.containers[0].reason) == (None, True)


RESTARTED = {"enabled": True, "restartAttemptPeriod": 0}


async def test_a_container_with_a_restart_policy_is_started_again_and_its_task_goes_on(bench):
    bench.start({"name": "a", "restartPolicy": {**RESTARTED, "ignoredExitCodes": [0]}})
    first = await bench.reports.reached("RUNNING")
    bench.runtime.finish("t1-0", 1)
    status = await bench.reports.reached("RUNNING", lambda s: s.containers[0].restart_count == 1)
    assert (bench.runtime.running(), status.started_at) == (["a"], first.started_at)
    assert [call for call in bench.runtime.calls if call[1] == "a"][-3:] == [
        ("remove", "a"),
        ("create", "a"),
        ("start", "a"),
    ]
    bench.runtime.finish("t1-0", 0)
    ended = await bench.over()
    assert (ended.stop_code, ended.containers[0].exit_code) == ("EssentialContainerExited", 0)


async def test_a_container_that_did_not_last_is_not_started_again(bench):
    bench.start({"name": "a", "restartPolicy": {"enabled": True, "restartAttemptPeriod": 60}})
    await bench.reports.reached("RUNNING")
    bench.runtime.finish("t1-0", 1)
    assert (await bench.over()).containers[0].restart_count == 0


async def test_a_container_that_is_stopped_is_not_started_again(bench):
    bench.start({"name": "a", "restartPolicy": RESTARTED})
    await bench.reports.reached("RUNNING")
    bench.ask_stop()
    status = await bench.over()
    assert (status.last_status, bench.runtime.running(), bench.called("create")) == ("STOPPED", [], ["a"])


async def test_a_task_that_is_stopped_while_a_container_starts_again_leaves_nothing(bench):
    bench.runtime.behaviours["a"] = Behaviour(start_delay=0.05)
    bench.start({"name": "a", "restartPolicy": RESTARTED})
    await bench.reports.reached("RUNNING")
    bench.runtime.finish("t1-0", 1)
    async with asyncio.timeout(30):
        while bench.called("create") != ["a", "a"]:  # noqa: ASYNC110
            await asyncio.sleep(0)
    bench.ask_stop()
    assert (await bench.over()).last_status == "STOPPED"
    assert bench.runtime.running() == []
