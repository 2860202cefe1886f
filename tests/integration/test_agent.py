"""The agent against a real NATS and a runtime in memory."""

import asyncio
import json

import msgspec
import pytest

from contracts.records.agent import NODE, TASK_STATUS, TaskStatus
from contracts.records.logs import LogBatch
from contracts.records.scheduler import TASK, TASK_DEFINITION, Task, TaskDefinition
from contracts.rpc.identity import ISSUE_SESSION, IssueSession, Session
from contracts.rpc.registry import ISSUE_PULL_TOKEN, IssuePullToken, PullToken
from contracts.subjects import HEARTBEATS
from services.agent.app import AgentApp
from services.agent.settings import AgentSettings
from services.shared.errors import AwsError
from services.shared.runner import Host
from services.shared.state import Store
from services.shared.views import View
from tests.builders.waiting import until
from tests.fakes.runtime import Behaviour, FakeRuntime

ACCOUNT, REGION = "000000000000", "us-east-1"
AWSLOGS = {"logDriver": "awslogs", "options": {"awslogs-group": "/shop", "awslogs-stream-prefix": "web"}}


def key(task_id: str) -> tuple[str, ...]:
    return (ACCOUNT, REGION, "main", "n1", task_id)


class Stage:
    """A scheduler's pen, a registry, an identity, and agents that come and go over one runtime."""

    def __init__(self, platform, data) -> None:
        self.platform, self.data, self.runtime = platform, data, FakeRuntime()
        self.agents = []
        self.revision = 0
        self.known_images = None

    async def open(self) -> None:
        self.scheduler_bus = await self.platform.bus("scheduler")
        self.tasks = await Store.open(self.scheduler_bus, (TASK, TASK_DEFINITION))
        self.view = await View.open(self.scheduler_bus, NODE, TASK_STATUS)
        registry, identity = await self.platform.bus("registry"), await self.platform.bus("identity")
        await registry.serve(ISSUE_PULL_TOKEN, self.issue_token)
        await identity.serve(ISSUE_SESSION, self.issue_session)

    async def issue_token(self, request: IssuePullToken) -> PullToken:
        if request.image == "refused":
            raise AwsError("RepositoryNotFoundException", "there is no such repository")
        return PullToken(local=True, image=f"localhost:5000/{request.image}", username="AWS", password="p")

    async def issue_session(self, request: IssueSession) -> Session:
        return Session(access_key_id="ASIA1", secret="s", session_token="t", expires_at=4e9, role_arn=request.role_arn)

    async def agent(self, **settings) -> AgentApp:
        settings = {"node": "n1", "zone": "z1", "runtime": "fake", "cpu_units": 2048, "memory_mib": 4096, **settings}
        bus = await self.platform.bus("agent")
        app = AgentApp(Host(bus, self.data, instance="n1"), AgentSettings(**settings), self.runtime)
        await app.start()
        self.agents.append(app)
        return app

    def kill(self, app: AgentApp) -> None:
        """As kill -9 does: nothing is told, nothing is finished."""
        self.agents.remove(app)
        app._beating.cancel()
        for work in app._supervisor._working:
            work.cancel()
        for runner in app._supervisor._runners.values():
            for container in runner._containers.values():
                container.abandon()
        for writing in app._reports._writing.values():
            writing.cancel()
        asyncio.get_running_loop().create_task(app.host.bus.close())

    async def task(self, task_id: str, *containers: dict, groups: list[str] | None = None, **members) -> Task:
        """A task that is placed here; in these security groups, in its VPC's default one, or (None) in no VPC."""
        self.revision += 1
        definition = {"networkMode": "awsvpc", "containerDefinitions": list(containers), **members}
        common = {"account": ACCOUNT, "region": REGION}
        await self.tasks.put(
            TASK_DEFINITION,
            TaskDefinition(
                **common,
                family="shop",
                revision=self.revision,
                status="ACTIVE",
                definition=definition,
                registered_at=1.0,
            ),
            "task_definition.registered.v1",
        )
        task = Task(
            **common,
            cluster="main",
            node="n1",
            id=task_id,
            task_definition=f"shop:{self.revision}",
            desired_status="RUNNING",
            created_at=1.0,
            network_configuration={} if groups is None else {"awsvpcConfiguration": {"securityGroups": groups}},
        )
        await self.tasks.put(TASK, task, "task.placed.v1")
        return task

    async def ask_stop(self, task_id: str) -> None:
        await self.tasks.update(
            TASK,
            key(task_id),
            lambda t: msgspec.structs.replace(t, desired_status="STOPPED", stop_code="UserInitiated"),
            "task.stop_asked.v1",
        )

    def status(self, task_id: str) -> TaskStatus | None:
        return self.view.table(TASK_STATUS).record(*key(task_id))

    async def reached(self, task_id: str, state: str, seconds: float = 30.0) -> TaskStatus:
        return await until(lambda: (s := self.status(task_id)) and s.last_status == state and s, seconds)

    async def history(self, task_id: str) -> list[str]:
        """Every state that was ever reported of a task."""
        operator = await self.platform.bus("operator")
        subject = TASK_STATUS.subject(key(task_id)).replace("state.", "events.", 1)
        heard = await operator.client.jetstream().subscribe(subject, stream="EVENTS", ordered_consumer=True)
        states = []
        while True:
            message = await heard.next_msg(30)
            states.append(TASK_STATUS.decoder.decode(message.data).last_status)
            if message.metadata.num_pending == 0:
                return states

    async def lines(self, subject: str, at_least: int) -> list[str]:
        """The log lines on a subject, in order, when there are that many."""
        operator = await self.platform.bus("operator")
        heard = await operator.client.jetstream().subscribe(subject, stream="LOGS", ordered_consumer=True)
        lines: list[str] = []
        pending = 1
        while len(lines) < at_least or pending:
            message = await heard.next_msg(30)
            pending = message.metadata.num_pending
            lines += [event.message for event in msgspec.json.decode(message.data, type=LogBatch).events]
        return lines

    async def close(self) -> None:
        for app in self.agents:
            await app.stop()


@pytest.fixture
async def stage(nats_platform, tmp_path):
    made = Stage(nats_platform, tmp_path / "data")
    await made.open()
    yield made
    await made.close()


async def test_an_agent_registers_and_beats(stage):
    heard = []

    async def hear(message):
        heard.append(json.loads(message.data)["node"])

    await stage.scheduler_bus.subscribe(HEARTBEATS, hear)
    await stage.agent(heartbeat_s=0.05)
    node = await until(lambda: stage.view.table(NODE).record("n1"))
    assert (node.zone, node.cpu_units, node.memory_mib, node.runtime) == ("z1", 2048, 4096, "fake")
    await until(lambda: len(heard) > 2)
    assert set(heard) == {"n1"}


async def test_an_agent_has_idle_images_swept_every_now_and_then(stage):
    agent = await stage.agent(image_sweep_s=0.05, image_idle_s=7)
    await until(lambda: agent.runtime.calls.count(("sweep_images", "7")) >= 2)


async def test_a_task_with_its_image_here_is_reported_once_as_running(stage):
    await stage.agent()
    await stage.task("t1", {"name": "web", "image": "shop:1"})
    status = await stage.reached("t1", "RUNNING")
    assert [(c.name, c.last_status, c.image) for c in status.containers] == [("web", "RUNNING", "shop:1")]
    assert status.network.private_ipv4 == "10.0.0.2"
    assert await stage.history("t1") == ["RUNNING"]


async def test_a_slow_start_is_reported_as_pending_first(stage):
    await stage.agent(pending_after_s=0.02)
    stage.runtime.pull_delay = 0.2
    await stage.task("t1", {"name": "web", "image": "shop:1"})
    await stage.reached("t1", "RUNNING")
    assert await stage.history("t1") == ["PENDING", "RUNNING"]


async def test_a_stop_that_is_asked_for_stops_and_removes(stage):
    await stage.agent()
    await stage.task("t1", {"name": "web", "image": "shop:1"})
    await stage.reached("t1", "RUNNING")
    await stage.ask_stop("t1")
    status = await stage.reached("t1", "STOPPED")
    assert (status.stop_code, [c.exit_code for c in status.containers]) == (None, [143])
    await until(lambda: stage.runtime._sandboxes == {})
    await stage.tasks.delete(TASK, key("t1"), "task.forgotten.v1")
    await until(lambda: stage.status("t1") is None)


@pytest.mark.parametrize("image", ["refused", "missing"])
async def test_an_image_that_does_not_exist_stops_the_task_with_the_reason(stage, image):
    stage.runtime.pull_errors["localhost:5000/missing"] = "manifest unknown"
    await stage.agent()
    await stage.task("t1", {"name": "web", "image": image})
    status = await stage.reached("t1", "STOPPED")
    assert status.stop_code == "TaskFailedToStart"
    assert status.stopped_reason.startswith("CannotPullContainerError: ")
    assert status.started_at is None


async def test_a_second_agent_adopts_what_the_first_left_running(stage):
    first = await stage.agent()
    await stage.task("t1", {"name": "web", "image": "shop:1", "logConfiguration": AWSLOGS})
    before = await stage.reached("t1", "RUNNING")
    stage.kill(first)
    await stage.agent()
    await until(lambda: stage.agents[0]._supervisor._runners)
    stage.runtime.finish("t1-0", 7)
    after = await stage.reached("t1", "STOPPED")
    assert (after.started_at, after.containers[0].exit_code) == (before.started_at, 7)
    assert [call for call in stage.runtime.calls if call[0] == "start"] == [("start", "web")]


async def test_an_end_while_no_agent_was_there_is_reported_with_its_exit_code(stage):
    first = await stage.agent()
    await stage.task("t1", {"name": "web", "image": "shop:1"})
    await stage.reached("t1", "RUNNING")
    stage.kill(first)
    stage.runtime.finish("t1-0", 137, oom=True)
    await stage.agent()
    status = await stage.reached("t1", "STOPPED")
    assert (status.stop_code, status.containers[0].exit_code) == ("EssentialContainerExited", 137)
    assert status.containers[0].reason == "OutOfMemoryError: Container killed due to memory usage"


async def test_an_exit_code_that_was_not_written_down_is_still_there_for_the_next_agent(stage):
    first = await stage.agent()
    await stage.task("t1", {"name": "web", "image": "shop:1"})
    await stage.reached("t1", "RUNNING")
    (runner,) = first._supervisor._runners.values()
    await stage.platform.server.stop()
    stage.runtime.finish("t1-0", 3)
    await until(lambda: runner.stopped)
    with pytest.raises(TimeoutError):
        await until(lambda: stage.runtime._sandboxes == {}, 0.3)
    stage.kill(first)
    await stage.platform.server.start()
    await stage.agent()
    assert (await stage.reached("t1", "STOPPED")).containers[0].exit_code == 3
    await until(lambda: stage.runtime._sandboxes == {})


async def test_the_exit_code_of_a_container_that_somebody_removed_meanwhile_stays(stage):
    first = await stage.agent()
    containers = ({"name": "web", "image": "shop:1"}, {"name": "init", "image": "shop:1", "essential": False})
    await stage.task("t1", *containers)
    await stage.reached("t1", "RUNNING")
    stage.runtime.finish("t1-1", 3)
    await until(lambda: stage.status("t1").containers[1].exit_code == 3)
    stage.kill(first)
    await stage.runtime.remove_container("t1-1")
    await stage.agent()
    stage.runtime.finish("t1-0", 4)
    containers = (await stage.reached("t1", "STOPPED")).containers
    assert [(c.exit_code, c.reason) for c in containers] == [(4, None), (3, None)]


async def test_what_a_killed_agent_did_not_come_to_remove_is_removed_by_the_next(stage):
    first = await stage.agent()
    await stage.task("t1", {"name": "web", "image": "shop:1"})
    await stage.reached("t1", "RUNNING")
    stage.kill(first)
    own = stage.data / "agent" / "n1"
    for task in ("gone", "t1"):
        (own / "volumes" / task / "work").mkdir(parents=True)
        (own / "cursors" / f"{task}-0.cursor").touch()
    await stage.agent()
    left = sorted(str(path.relative_to(own)) for path in own.glob("*/*"))
    assert left == ["cursors/t1-0.cursor", "volumes/t1"]


async def test_what_is_gone_is_reported_and_what_nobody_wants_is_removed(stage):
    first = await stage.agent()
    await stage.task("gone", {"name": "web", "image": "shop:1"})
    await stage.task("orphan", {"name": "web", "image": "shop:1"})
    await stage.reached("gone", "RUNNING")
    await stage.reached("orphan", "RUNNING")
    stage.kill(first)
    await stage.runtime.remove_sandbox("gone")
    await stage.tasks.delete(TASK, key("orphan"), "task.forgotten.v1")
    await stage.task("new", {"name": "web", "image": "shop:1"})
    await stage.agent()
    status = await stage.reached("gone", "STOPPED")
    assert (status.stop_code, status.containers[0].exit_code) == ("EssentialContainerExited", None)
    await stage.reached("new", "RUNNING")
    await until(lambda: set(stage.runtime._sandboxes) == {"new"} and stage.status("orphan") is None)


async def test_containers_and_reports_outlive_an_absence_of_nats(stage):
    await stage.agent()
    await stage.task("t1", {"name": "web", "image": "shop:1", "logConfiguration": AWSLOGS})
    await stage.reached("t1", "RUNNING")
    await stage.platform.server.stop()
    stage.runtime.container("t1-0").write("while you were away")
    await asyncio.sleep(0.2)
    assert stage.runtime.running() == ["web"]
    stage.runtime.finish("t1-0", 3)
    await asyncio.sleep(0.2)
    await stage.platform.server.start()
    status = await stage.reached("t1", "STOPPED")
    assert status.containers[0].exit_code == 3
    assert await stage.lines("logs.>", 1) == ["while you were away"]
    await until(lambda: stage.runtime._sandboxes == {})


async def test_every_line_lands_once_though_the_agent_is_killed_in_the_middle(stage):
    wanted = [f"line {n}" for n in range(400)]
    app = await stage.agent()
    await stage.task("t1", {"name": "web", "image": "shop:1", "logConfiguration": AWSLOGS})
    await stage.reached("t1", "RUNNING")
    web = stage.runtime.container("t1-0")
    for number, text in enumerate(wanted):
        web.write(text)
        if number % 100 == 50:
            await asyncio.sleep(0.1 + number / 10000)
            stage.kill(app)
            app = await stage.agent()
    stage.runtime.finish("t1-0", 0)
    await stage.reached("t1", "STOPPED")
    assert await stage.lines("logs.>", len(wanted)) == wanted


async def test_a_batch_that_landed_unacknowledged_is_not_written_twice(stage):
    app = await stage.agent()
    await stage.task("t1", {"name": "web", "image": "shop:1", "logConfiguration": AWSLOGS})
    await stage.reached("t1", "RUNNING")
    web = stage.runtime.container("t1-0")
    publish, landed = app.host.bus.publish, asyncio.Event()

    async def lose_the_answer(subject, payload, headers=None):
        sequence = await publish(subject, payload, headers)
        if subject.startswith("logs."):
            landed.set()
            await asyncio.Event().wait()
        return sequence

    app.host.bus.publish = lose_the_answer
    web.write("one")
    web.write("two")
    await asyncio.wait_for(landed.wait(), 30)
    stage.kill(app)
    web.write("three")
    await stage.agent()
    assert await stage.lines("logs.>", 3) == ["one", "two", "three"]


async def test_a_container_reads_its_metadata_and_its_role_s_credentials(stage):
    import aiohttp

    await stage.agent()
    role = "arn:aws:iam::000000000000:role/shop"
    await stage.task("t1", {"name": "web", "image": "shop:1"}, taskRoleArn=role, cpu="256", memory="512")
    await stage.reached("t1", "RUNNING")
    environment = stage.runtime.spec("web").environment
    port = stage.runtime.sockets["t1"].getsockname()[1]
    base = f"http://127.0.0.1:{port}"
    async with aiohttp.ClientSession() as http:

        async def get(path):
            async with http.get(base + path) as answer:
                return answer.status, await answer.json()

        v4 = environment["ECS_CONTAINER_METADATA_URI_V4"].removeprefix("http://169.254.170.2")
        status, container = await get(v4)
        assert (status, container["Name"], container["KnownStatus"]) == (200, "web", "RUNNING")
        status, task = await get(f"{v4}/task")
        assert (task["Family"], task["KnownStatus"], task["Limits"]) == (
            "shop",
            "RUNNING",
            {"CPU": 0.25, "Memory": 512},
        )
        status, stats = await get(f"{v4}/stats")
        assert stats["memory_stats"]["usage"] == 2_097_152
        status, credentials = await get(environment["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"])
        assert (status, credentials["AccessKeyId"], credentials["RoleArn"]) == (200, "ASIA1", role)
        status, refused = await get("/v2/credentials/guess")
        assert (status, refused["code"]) == (404, "InvalidIdInRequest")


async def test_a_failing_essential_container_takes_its_siblings_with_it_in_reverse_order(stage):
    await stage.agent()
    stage.runtime.behaviours["job"] = Behaviour(exit_after=0.05, exit_code=2)
    await stage.task(
        "t1",
        {"name": "db", "image": "a", "essential": False},
        {"name": "web", "image": "b", "essential": False, "dependsOn": [{"containerName": "db", "condition": "START"}]},
        {"name": "job", "image": "c"},
    )
    status = await stage.reached("t1", "STOPPED")
    assert status.stopped_reason == "Essential container in task exited"
    assert [call for call in stage.runtime.calls if call[0] == "stop"] == [("stop", "web"), ("stop", "db")]
    assert {c.name: c.exit_code for c in status.containers} == {"db": 143, "web": 143, "job": 2}
