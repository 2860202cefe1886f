"""The gateway before services behind ECS' gateways: several hosts, test traffic, comings and goings; a real HAProxy and
NATS."""

import asyncio
import ssl
from collections import Counter

import pytest
from msgspec.structs import replace

from contracts.records.scheduler import GATEWAY, SERVICE, DeploymentStage, Gateway, Route
from services.app_runner_gateway.adapters.certificates import Authority
from tests.builders import ecs
from tests.builders.waiting import until
from tests.integration.test_express_gateway import HOST, Answers, pytestmark, stage

__all__ = ["pytestmark", "stage"]

OTHER = HOST.replace("1234", "5678")
BACK = Route(gateway="back", route="r2", host=OTHER)
SHIFTED = {"test_weight": 100.0, "stage": DeploymentStage(name="TEST_TRAFFIC_SHIFT", since=1.0, strategy="BLUE_GREEN")}


async def rule(stage, *values, name="x-test", gateway="g"):
    rules = {"testTrafficRules": {"header": {"name": name, "values": list(values)}}} if values else {}
    made = Gateway(
        account=ecs.ACCOUNT, region=ecs.REGION, name=gateway, created_at=1.0, updated_at=1.0, infrastructure_role="r",
        configuration=rules,
    )  # fmt: skip
    await stage.scheduler.put(GATEWAY, made, "gateway.updated.v1")


async def test_a_service_answers_at_all_its_hosts_and_at_those_that_stay(stage):
    await stage.serve("a", check={}, routes=[BACK])
    await stage.run("a")
    await until(lambda: stage.targets() == {"a": "healthy"})
    async with stage.session() as session:
        assert [await stage.visit(session, host=host) for host in (HOST, OTHER)] == [(200, "a")] * 2
        await stage.serve("a", check={})
        await until(lambda: not stage.app.proxy.answers(OTHER))
        assert [(await stage.visit(session, host=host))[0] for host in (HOST, OTHER)] == [200, 404]
        await stage.serve("a", check={}, routes=[BACK])
        await until(lambda: stage.app.proxy.answers(OTHER))
        await stage.leave()
        await stage.gateway()
        assert [await stage.visit(session, host=host) for host in (HOST, OTHER)] == [(200, "a")] * 2
        await stage.serve("a", check={}, host=OTHER)
        await until(lambda: not stage.app.proxy.answers(HOST))
        assert await stage.visit(session, host=OTHER) == (200, "a"), "the host that stays is led there all the time"


async def test_test_traffic_goes_to_the_deployment_on_its_way_and_no_other_does(stage):
    await rule(stage, "green")
    await stage.serve("a", check={})
    await stage.run("a")
    await until(lambda: stage.targets() == {"a": "healthy"})
    async with stage.session() as session:
        assert await stage.visit(session, **{"X-Test": "green"}) == (200, "a")
        await stage.serve("b", "a", weights=(0.0, 100.0), check={}, **SHIFTED)
        await stage.run("b")
        await until(lambda: stage.app.proxy.carried(f"t:{HOST}").keys() == {"b"})

        async def seen(**headers):
            return Counter([(await stage.visit(session, **headers))[1] for _ in range(20)])

        assert await seen(**{"X-Test": "green"}) == {"b": 20}
        assert await seen() == await seen(**{"X-Test": "Green"}) == await seen(**{"X-Test": "green, b"}) == {"a": 20}
        await rule(stage, "one", "two", name="X-Other")
        await until(lambda: "/TEST/x-other/two/" + HOST in stage.app.proxy._map)
        assert await seen(**{"x-other": "two"}) == {"b": 20}
        assert await seen(**{"X-Test": "green"}) == {"a": 20}, "the rule of before is none any more"
        await stage.leave()
        await stage.gateway()
        assert await seen(**{"x-other": "one"}) == {"b": 20}
        back = replace(SHIFTED["stage"], rolls_back=True)
        await stage.serve("a", "b", weights=(100.0, 0.0), check={}, test_weight=0.0, stage=back)
        await until(lambda: f"t:{HOST}" not in stage.app.proxy.hosts())
        assert await seen(**{"x-other": "two"}) == {"a": 20}


async def test_all_traffic_shifts_at_once_without_a_failed_request_and_what_is_behind_is_drained(stage):
    await rule(stage, "green")
    await stage.serve("b", "a", weights=(0.0, 100.0), check={}, **SHIFTED)
    await stage.run("a")
    await stage.run("b")
    await until(lambda: stage.targets() == {"a": "healthy", "b": "healthy"})
    async with stage.session() as session:
        over, answers = asyncio.Event(), []

        async def load():
            while not over.is_set():
                answers.append(await stage.visit(session))

        visitors = [asyncio.create_task(load()) for _ in range(4)]
        held = asyncio.create_task(stage.visit(session, "/held"))
        await stage.answers["a"].held.wait()
        for green in (100.0, 0.0, 100.0):
            told = len(answers)
            await stage.serve("b", "a", weights=(green, 100.0 - green), check={}, **SHIFTED)
            await until(lambda told=told: len(answers) > told + 100)
        await stage.stop("a")
        await until(lambda: len(answers) > told + 200)
        assert stage.targets()["a"] == "healthy", "there is a request left on it"
        stage.answers["a"].released.set()
        assert await held == (200, "a")
        await until(lambda: stage.targets() == {"a": "drained", "b": "healthy"})
        over.set()
        await asyncio.gather(*visitors)
    assert {code for code, _ in answers} == {200}


async def test_a_request_in_the_haproxy_of_before_is_waited_for(stage):
    await stage.serve("a", "b", check={})
    await stage.run("a")
    await stage.run("b")
    await until(lambda: stage.targets() == {"a": "healthy", "b": "healthy"})
    async with stage.session() as session:
        held = [asyncio.create_task(stage.visit(session, "/held")) for _ in range(4)]
        await until(lambda: all(stage.answers[name].held.is_set() for name in "ab"))
        await stage.app.proxy.know({"x-new"})
        await stage.stop("a")
        await until(lambda: stage.app.proxy.carried(f"x:{HOST}")["a"].state == "drain")
        looks, look = [], stage.app.proxy.look

        async def counted():
            looks.append(await look())
            return looks[-1]

        stage.app.proxy.look = counted
        await until(lambda: len(looks) > 5)
        assert stage.targets()["a"] == "healthy", "there are requests left on it"
        for name in "ab":
            stage.answers[name].released.set()
        assert {code for code, _ in await asyncio.gather(*held)} == {200}
        await until(lambda: stage.targets() == {"a": "drained", "b": "healthy"})


async def test_tasks_from_before_a_service_came_to_its_gateway_are_none_of_its(stage):
    await stage.serve("b", "a", check={}, behind=["b"])
    await stage.run("a")
    await stage.run("b")
    await until(lambda: stage.targets() == {"b": "healthy"})
    async with stage.session() as session:
        assert [await stage.visit(session) for _ in range(10)] == [(200, "b")] * 10
    assert stage.answers["a"].checked == 0


async def test_the_last_task_of_a_service_that_leaves_is_drained_and_nothing_is_left_of_it(stage):
    await stage.serve("a", check={})
    await stage.run("a")
    await until(lambda: stage.targets() == {"a": "healthy"})
    await stage.serve("b", "a", check={}, behind=["a"])
    async with stage.session() as session:
        assert await stage.visit(session) == (200, "a")
        await stage.stop("a")
        await until(lambda: stage.targets() == {"a": "drained"})
        (service,) = stage.scheduler.table(SERVICE).records()
        await stage.scheduler.put(SERVICE, replace(service, connector=None), "service.progressed.v1")
        await until(lambda: stage.targets() == {} and stage.app.proxy.hosts() == [])
        assert (await stage.visit(session))[0] == 404


async def test_a_task_is_checked_over_https_whatever_its_certificate_is(stage, tmp_path):
    authority = Authority.open(tmp_path, stage.app._now())
    authority.leaf(tmp_path / "own.pem", {"nowhere"}, stage.app._now())
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(tmp_path / "own.pem")
    doctor = stage.answers["doctor"] = await Answers("doctor").start(tls)
    await stage.serve("a", check={"check_port": doctor.port, "check_protocol": "HTTPS", "also_good": [[204, 204]]})
    await stage.run("a")
    await until(lambda: stage.targets() == {"a": "healthy"})
    assert doctor.checked and not stage.answers["a"].checked


@pytest.mark.parametrize("good", [[301, 301], [300, 302]])
async def test_codes_beyond_the_first_are_good_too(stage, good):
    await stage.serve("a", check={"also_good": [good]})
    stage.answers["a"].well = False
    await stage.run("a")
    await until(lambda: stage.targets() == {"a": "healthy"})
