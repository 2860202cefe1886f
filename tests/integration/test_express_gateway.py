"""The gateway before Express services: a real HAProxy and NATS, tasks that are told of by the test and answer here."""

import asyncio
import json
import os
import ssl
from collections import Counter

import aiohttp
import msgspec
import pytest
from aiohttp import web
from msgspec.structs import replace

from contracts.records.agent import TASK_STATUS, NetworkInterface
from contracts.records.app_runner_gateway import TARGET
from contracts.records.metrics import MetricBatch
from contracts.records.scheduler import GATEWAY, SERVICE, TASK, Connector, Express, ExpressRevision, ExpressScaling
from contracts.subjects import METRICS
from services.app_runner_gateway.adapters.haproxy import Haproxy, end
from services.app_runner_gateway.app import AppRunnerGatewayApp
from services.app_runner_gateway.settings import AppRunnerGatewaySettings
from services.shared.runner import Host, start_app, stop_app
from services.shared.state import Store
from tests.builders import ecs
from tests.builders.visitors import Localhost
from tests.builders.waiting import until

HOST = "web-1234.ecs.us-east-1.localhost"
SCALING = ExpressScaling(min_tasks=1, max_tasks=5, metric="AVERAGE_CPU", target=60.0, wanted_at=1.0)

pytestmark = pytest.mark.skipif(Haproxy(os.curdir, "haproxy", lambda: None).missing, reason="haproxy is not installed")


class Answers:
    """What a task serves: its name on every path, once `released` on /held; well on /ping while `well`."""

    def __init__(self, name) -> None:
        self.name, self.well, self.asked, self.checked = name, True, 0, 0
        self.released, self.held = asyncio.Event(), asyncio.Event()

    async def start(self, tls=None):
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=tls).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def stop(self):
        self.released.set()
        await self._runner.cleanup()

    async def _answer(self, request):
        if request.path == "/ping":
            self.checked += 1
            return web.Response(status=200 if self.well else 301)
        self.asked += 1
        if request.path == "/held":
            self.held.set()
            await self.released.wait()
        return web.Response(text=self.name)


class Stage:
    """The gateway, and the pens of scheduler and agent: a deployment `d<name>` of one task for each that answers."""

    def __init__(self, platform, directory) -> None:
        self.platform, self.directory = platform, directory
        self.answers = {}

    async def start(self):
        self.scheduler = await Store.open(await self.platform.bus("scheduler"), (SERVICE, TASK, GATEWAY))
        self.agent = await Store.open(await self.platform.bus("agent"), (TASK_STATUS,))
        await self.gateway()
        return self

    async def gateway(self):
        host = Host(await self.platform.bus("app_runner_gateway"), self.directory, instance="t")
        self.app = AppRunnerGatewayApp(host, AppRunnerGatewaySettings(https_port=0, metrics_s=0.3))
        await start_app(self.app)

    async def leave(self):
        """The gateway ends without a word; HAProxy goes on."""
        await self.app.proxy.stop(leave=True)
        await self.app.host.bus.close()

    async def serve(
        self, *names, weights=(), status="ACTIVE", host=HOST, check=None, behind=None, routes=(), **primary
    ):
        """Want these deployments, the first one primary (with `primary` besides); with their weights. Those of `behind`
        (all) have revisions; `routes` are more than the one to `host`."""
        for name in names:
            if name not in self.answers:
                self.answers[name] = await Answers(name).start()
        deployments = [
            ecs.deployment(f"d{name}", status="ACTIVE" if n else "PRIMARY", weight=weights[n] if weights else None)
            for n, name in enumerate(names)
        ]
        deployments[0] = replace(deployments[0], **primary)
        revisions = [
            ExpressRevision(deployment=f"d{n}", port=self.answers[n].port, health_check_path="/ping", created_at=1.0)
            for n in (names if behind is None else behind)
        ]
        service = ecs.service(1, *deployments, status=status)
        if check is None:
            own = Express(host=host, infrastructure_role="r", scaling=SCALING, revisions=revisions, updated_at=1.0)
            service = replace(service, express=own)
        else:
            revisions = [replace(revision, **check) for revision in revisions]
            route = Connector(gateway="g", route="r", host=host, revisions=revisions, drain_s=30.0, others=list(routes))
            service = replace(service, connector=route)
        await self.scheduler.put(SERVICE, service, "service.updated.v1")

    async def run(self, name, last_status="RUNNING", started_at=None, **members):
        """What is wanted of a task, and how it is."""
        task = ecs.task(name, service="web", deployment=f"d{name}", drain_s=30.0, **members)
        network = NetworkInterface(private_ipv4="127.0.0.1")
        await self.scheduler.put(TASK, task, "task.placed.v1")
        status = ecs.status(task, last_status, network=network, started_at=started_at or self.app.host.clock())
        await self.agent.put(TASK_STATUS, status, "task.running.v1")

    async def stop(self, name):
        """Want a task to stop."""
        await self.run(name, "DEACTIVATING", desired_status="STOPPED", stopping_at=self.app.host.clock())

    def targets(self):
        return {t.task: t.state for t in self.app.world.store.table(TARGET).records()}

    def session(self):
        context = ssl.create_default_context(cafile=self.app.ca_file)
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context, resolver=Localhost(), limit=0))

    async def visit(self, session, path="/", host=HOST, **headers):
        async with session.get(f"https://{host}:{self.app.https_port}{path}", headers=headers) as answer:
            return answer.status, (await answer.text()).strip()

    async def close(self):
        for answers in self.answers.values():
            await answers.stop()
        await stop_app(self.app)
        end(self.directory / "app_runner_gateway")
        await self.scheduler.close()
        await self.agent.close()


@pytest.fixture
async def stage(nats_platform, tmp_path):
    stage = await Stage(nats_platform, tmp_path / "data").start()
    try:
        yield stage
    finally:
        await stage.close()


async def test_a_task_that_is_well_answers_at_the_url_and_is_written_down(stage):
    await stage.serve("a")
    stage.answers["a"].well = False
    await stage.run("a")
    async with stage.session() as session:
        await until(lambda: stage.app.proxy.running)
        assert (await stage.visit(session))[0] == 404
        assert stage.targets() == {}
        stage.answers["a"].well = True
        await until(lambda: stage.targets() == {"a": "healthy"})
        assert await stage.visit(session) == (200, "a")


async def test_a_service_behind_a_gateway_is_checked_as_its_connector_says(stage):
    doctor = await Answers("doctor").start()
    doctor.well = False
    stage.answers["doctor"] = doctor
    checked = {"check_port": doctor.port, "healthy": 2, "interval_s": 0.2, "good_from": 200, "good_to": 299}
    await stage.serve("a", check=checked)
    await stage.run("a")
    await until(lambda: doctor.checked > 2)
    assert stage.targets() == {}
    doctor.well = True
    await until(lambda: stage.targets() == {"a": "healthy"})
    async with stage.session() as session:
        assert await stage.visit(session) == (200, "a")
    assert stage.answers["a"].checked == 0


async def test_a_service_that_is_made_anew_with_another_host_leaves_the_old_one(stage):
    await stage.serve("a", check={})
    await stage.run("a")
    await until(lambda: stage.targets() == {"a": "healthy"})
    other = HOST.replace("web", "shop")
    await stage.serve("a", check={}, host=other)
    await until(lambda: stage.app.proxy.answers(other) and not stage.app.proxy.answers(HOST))
    async with stage.session() as session:
        assert await stage.visit(session, host=other) == (200, "a")
        assert (await stage.visit(session))[0] == 404


async def test_a_task_that_is_ill_leaves_and_it_is_said_why(stage):
    await stage.serve("a", "b")
    for name in "ab":
        await stage.run(name)
    await until(lambda: stage.targets() == {"a": "healthy", "b": "healthy"})
    stage.answers["a"].well = False
    await until(lambda: stage.targets() == {"a": "unhealthy", "b": "healthy"}, 60)
    async with stage.session() as session:
        assert [await stage.visit(session) for _ in range(10)] == [(200, "b")] * 10
    told = next(t for t in stage.app.world.store.table(TARGET).records() if t.task == "a")
    assert told.reason == f"GET /ping on port {stage.answers['a'].port} is not answered with 200"


async def test_a_task_that_never_is_well_is_ill_in_the_end(stage):
    await stage.serve("a")
    stage.answers["a"].well = False
    await stage.run("a", started_at=stage.app.host.clock() - 59.0)
    await until(lambda: stage.targets() == {"a": "unhealthy"})


async def test_a_task_that_is_to_stop_is_drained_and_only_then_said_to_be(stage):
    await stage.serve("a", "b")
    await stage.run("a")
    await until(lambda: stage.targets() == {"a": "healthy"})
    async with stage.session() as session:
        held = asyncio.create_task(stage.visit(session, "/held"))
        await stage.answers["a"].held.wait()
        await stage.run("b")
        await until(lambda: stage.targets() == {"a": "healthy", "b": "healthy"})
        await stage.stop("a")
        await until(lambda: {s.state for s in stage.app.proxy.carried(f"x:{HOST}").values()} == {"ready", "drain"})
        assert [await stage.visit(session) for _ in range(20)] == [(200, "b")] * 20
        assert stage.targets()["a"] == "healthy", "there is a request left on it"
        stage.answers["a"].released.set()
        assert await held == (200, "a")
        await until(lambda: stage.targets() == {"a": "drained", "b": "healthy"})
    await stage.run("a", "STOPPED", desired_status="STOPPED")
    await until(lambda: stage.targets() == {"b": "healthy"})


async def test_requests_go_by_the_weights_of_deployments(stage):
    await stage.serve("a", "b", weights=(25.0, 75.0))
    for name in "ab":
        await stage.run(name)
    await until(lambda: stage.targets() == {"a": "healthy", "b": "healthy"})
    async with stage.session() as session:

        async def shares(count=200):
            return Counter([(await stage.visit(session))[1] for _ in range(count)])

        seen = await shares()
        assert abs(seen["a"] - 50) <= 3, seen
        await stage.serve("a", "b", weights=(100.0, 0.0))
        await until(lambda: [s.weight for _, s in sorted(stage.app.proxy.carried(f"w:{HOST}").items())] == [256, 0])
        assert await shares(50) == {"a": 50}
        await stage.serve("a", "b")
        await until(lambda: len(stage.app.proxy.carried(f"x:{HOST}")) == 2)
        seen = await shares(50)
        assert sorted(seen) == ["a", "b"]


async def test_no_request_fails_while_weights_come_and_go(stage):
    await stage.serve("a", "b")
    for name in "ab":
        await stage.run(name)
    await until(lambda: stage.targets() == {"a": "healthy", "b": "healthy"})
    answers, over = [], asyncio.Event()

    async def load(session):
        while not over.is_set():
            try:
                answers.append((await stage.visit(session))[0])
            except aiohttp.ClientError as error:
                answers.append(repr(error))

    async with stage.session() as session:
        visitors = [asyncio.create_task(load(session)) for _ in range(4)]
        for weights in ((10.0, 90.0), (), (50.0, 50.0), (100.0, 0.0), ()):
            kind = "w" if weights else "x"
            await stage.serve("a", "b", weights=weights)
            await until(lambda kind=kind: len(stage.app.proxy.carried(f"{kind}:{HOST}")) == 2)
            seen = len(answers)
            await until(lambda seen=seen: len(answers) > seen + 50)
        over.set()
        await asyncio.gather(*visitors)
    assert set(answers) == {200}


async def test_what_a_killed_task_has_not_answered_is_asked_of_another(stage):
    await stage.serve("a", "b")
    for name in "ab":
        await stage.run(name)
    await until(lambda: stage.targets() == {"a": "healthy", "b": "healthy"})
    async with stage.session() as session:
        held = [asyncio.create_task(stage.visit(session, "/held")) for _ in range(6)]
        await until(lambda: all(stage.answers[n].held.is_set() for n in "ab") and _asked(stage) == 6)
        stage.answers["b"].released.set()
        await stage.answers["a"]._runner.cleanup()
        assert {await answer for answer in held} == {(200, "b")}
    await stage.run("a", "STOPPED")
    await until(lambda: stage.targets() == {"b": "healthy"})


def _asked(stage):
    return sum(answers.asked for answers in stage.answers.values())


async def test_the_last_task_stays_when_it_dies_until_another_is_there(stage):
    await stage.serve("a", "b")
    await stage.run("a")
    await until(lambda: stage.targets() == {"a": "healthy"})
    async with stage.session() as session:
        assert await stage.visit(session) == (200, "a")
        await stage.answers["a"].stop()
        await stage.run("a", "STOPPED")
        await until(lambda: stage.targets() == {})
        assert [s.state for s in stage.app.proxy.carried(f"x:{HOST}").values()] == ["ready"]
        asking = asyncio.create_task(stage.visit(session))
        await stage.run("b")
        await until(lambda: stage.targets() == {"b": "healthy"})
        answered = await asking  # held for about five seconds, which a machine that is very busy may need by itself
        assert answered == (200, "b") or (answered[0] == 503 and await stage.visit(session) == (200, "b"))
        assert stage.app.proxy.carried(f"x:{HOST}").keys() == {"b"}


async def test_the_next_gateway_goes_on_where_this_one_ended(stage):
    await stage.serve("a", "b")
    await stage.run("a")
    await until(lambda: stage.targets() == {"a": "healthy"})
    async with stage.session() as session:
        assert await stage.visit(session) == (200, "a")
        pid = stage.app.proxy.haproxy.pid
        await stage.leave()
        assert await stage.visit(session) == (200, "a"), "nobody is needed for what is served"
        await stage.gateway()
        assert stage.app.proxy.haproxy.pid == pid
        assert stage.app.proxy.carried(f"x:{HOST}").keys() == {"a"}
        await stage.run("b")
        await until(lambda: stage.targets() == {"a": "healthy", "b": "healthy"})


async def test_what_is_no_more_is_taken_from_the_proxy_by_the_next_gateway(stage):
    await stage.serve("a")
    await stage.run("a")
    await until(lambda: stage.targets() == {"a": "healthy"})
    await stage.leave()
    for record in (SERVICE, TASK):
        (key,) = stage.scheduler.table(record).all_keys()
        await stage.scheduler.delete(record, key, "service.removed.v1")
    await stage.gateway()
    assert stage.app.proxy.running
    await until(lambda: stage.app.proxy.hosts() == [] and not stage.app.proxy.answers(HOST))


async def test_a_service_that_is_deleted_answers_no_more(stage):
    await stage.serve("a")
    await stage.run("a")
    await until(lambda: stage.targets() == {"a": "healthy"})
    async with stage.session() as session:
        await stage.serve("a", status="DRAINING")
        await until(lambda: not stage.app.proxy.answers(HOST))
        assert (await stage.visit(session))[0] == 404
        await stage.stop("a")
        await until(lambda: stage.targets() == {"a": "drained"})
        await stage.run("a", "STOPPED", desired_status="STOPPED")
        await until(lambda: stage.targets() == {} and stage.app.proxy.hosts() == [])


async def test_what_is_asked_is_counted_for_scaling(stage):
    heard = []

    async def hear(message):
        heard.extend(msgspec.json.decode(message.data, type=MetricBatch).samples)

    listening = await (await stage.platform.bus("autoscaler")).subscribe(METRICS, hear)
    await stage.serve("a")
    await stage.run("a")
    await until(lambda: stage.targets() == {"a": "healthy"})
    async with stage.session() as session:
        await until(lambda: any(s.name == "RequestCountPerTarget" for s in heard))
        for _ in range(10):
            await stage.visit(session)
        counted = lambda: sum(s.sum for s in heard if s.name == "RequestCountPerTarget")  # noqa: E731
        await until(lambda: counted() == 10)
    (dimensions,) = {json.dumps(s.dimensions) for s in heard}
    assert json.loads(dimensions) == {"ClusterName": "main", "ServiceName": "web"}
    await listening.unsubscribe()
