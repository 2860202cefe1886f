"""Which tasks of an Express service are in the balance, how much they get, and what is told of them."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from contracts.records.agent import NetworkInterface
from contracts.records.scheduler import Connector, DeploymentStage, ExpressRevision, Gateway
from services.app_runner_gateway.decisions.express import (
    Placed,
    Replica,
    check_of,
    decide,
    patience,
    stage_of,
    weights,
    why_ill,
)
from services.app_runner_gateway.decisions.proxy import EXPRESS, OWN, TEST, WEIGHTED, Frame, Server, render
from services.app_runner_gateway.decisions.trial import Trial, trial_of
from tests.builders import ecs

SERVICE = ecs.service(2, ecs.deployment("d1"))
NOW = 100.0


def replica(task, stage, balance=None, deployment="d1", **members):
    return Replica(task=task, deployment=deployment, stage=stage, balance=balance, **members)


def stopping(task, balance, idle=False, stops_at=130.0):
    return replica(task, "stopping", balance, idle=idle, stops_at=stops_at)


def planned(*replicas, service=SERVICE):
    plan = decide(service, replicas, NOW)
    return {task: placed.state for task, placed in plan.balance.items()}, dict(plan.targets)


def test_who_is_ready_gets_requests_and_is_told_to_be_healthy():
    balance, targets = planned(replica("a", "ready"), replica("b", "starting"), replica("c", "ready", "ready"))
    assert balance == {"a": "ready", "c": "ready"}
    assert targets == {"a": "healthy", "c": "healthy"}


def test_who_is_to_stop_is_drained_first_and_then_told_so():
    other = replica("a", "ready", "ready")
    assert planned(other, stopping("b", "ready"))[0] == {"a": "ready", "b": "drain"}
    assert planned(other, stopping("b", "drain"))[0] == {"a": "ready", "b": "drain"}
    balance, targets = planned(other, stopping("b", "drain", idle=True))
    assert (balance, targets["b"]) == ({"a": "ready"}, "drained")
    assert planned(other, stopping("b", None)) == ({"a": "ready"}, {"a": "healthy", "b": "drained"})


def test_who_is_not_drained_in_time_is_let_go():
    late = stopping("b", "drain", stops_at=NOW)
    assert planned(replica("a", "ready", "ready"), late) == ({"a": "ready"}, {"a": "healthy", "b": "drained"})
    plan = decide(SERVICE, [replica("a", "ready", "ready"), stopping("b", "ready")], NOW)
    assert plan.wake_at == 130.0


@pytest.mark.parametrize("stage", ["stopping", "unhealthy", "gone"])
def test_the_last_ones_stay_until_another_is_ready(stage):
    last = replica("a", stage, "ready", stops_at=130.0)
    assert planned(last, replica("b", "starting"))[0] == {"a": "ready"}
    left = {"stopping": {"a": "drain"}, "unhealthy": {"a": "drain"}, "gone": {}}[stage]
    assert planned(last, replica("b", "ready"))[0] == {"b": "ready", **left}


def test_of_a_service_that_is_deleted_nobody_stays():
    deleted = replace(SERVICE, status="DRAINING", desired_count=0)
    plan = decide(deleted, [stopping("a", "ready"), stopping("b", "drain", idle=True)], NOW)
    assert (plan.answers, dict(plan.balance)) == (False, {"a": Placed("drain")})
    assert plan.targets == {"b": "drained"}


def behind(*deployments, fronted=("d1",)):
    revisions = [ExpressRevision(deployment=one, port=80, health_check_path="/", created_at=1.0) for one in fronted]
    route = Connector(gateway="front", route="r1", host="web.localhost", revisions=revisions, drain_s=30.0)
    return replace(ecs.service(2, *deployments), connector=route)


def test_of_a_service_that_leaves_its_gateway_nobody_is_held():
    leaving = behind(ecs.deployment("d2"), ecs.deployment("d1", status="ACTIVE"))
    last = stopping("a", "ready")
    assert planned(last, service=leaving)[0] == {"a": "drain"}
    assert planned(last, service=behind(ecs.deployment("d1")))[0] == {"a": "ready"}


def on_its_way(stage="POST_TEST_TRAFFIC_SHIFT", test_weight=100.0, rolls_back=False):
    at = DeploymentStage(name=stage, since=1.0, strategy="BLUE_GREEN", rolls_back=rolls_back)
    green = ecs.deployment("d2", stage=at, weight=0.0, test_weight=test_weight)
    return behind(green, ecs.deployment("d1", status="ACTIVE", weight=100.0), fronted=("d1", "d2"))


def gateway(name="front", *values):
    rules = {"testTrafficRules": {"header": {"name": "X-Test", "values": list(values)}}} if values else {}
    return Gateway(
        account=ecs.ACCOUNT, region=ecs.REGION, name=name, created_at=1.0, updated_at=1.0, infrastructure_role="r",
        configuration=rules,
    )  # fmt: skip


def test_requests_with_the_gateways_header_go_to_the_deployment_on_its_way():
    of = {"front": gateway("front", "a", "b")}
    lines = ("/TEST/x-test/a/web.localhost", "/TEST/x-test/b/web.localhost")
    assert trial_of(on_its_way(), of) == Trial("d2", lines, ("x-test",))


@pytest.mark.parametrize(
    ("service", "gateways"),
    [
        (on_its_way(), {}),
        (on_its_way(), {"front": gateway()}),
        (on_its_way("SCALE_UP", 0.0), {"front": gateway("front", "a")}),
        (on_its_way(rolls_back=True), {"front": gateway("front", "a")}),
        (behind(ecs.deployment("d1", test_weight=0.0)), {"front": gateway("front", "a")}),
        (SERVICE, {"front": gateway("front", "a")}),
    ],
)
def test_otherwise_there_is_no_test_traffic(service, gateways):
    assert trial_of(service, gateways) == Trial()


def test_what_is_gone_is_forgotten_and_what_is_ill_is_told():
    targets = planned(replica("a", "ready"), replica("b", "gone", "ready"), replica("c", "unhealthy", "drain"))[1]
    assert targets == {"a": "healthy", "b": None, "c": "unhealthy"}


def weighted(first, second):
    return ecs.service(2, ecs.deployment("d2", weight=second), ecs.deployment("d1", status="ACTIVE", weight=first))


def test_without_weights_nobody_has_one():
    plan = decide(SERVICE, [replica("a", "ready")], NOW)
    assert (plan.weighted, plan.balance["a"]) == (False, Placed("ready", 1))


def test_weights_choose_between_deployments_and_least_in_flight_within_the_only_one():
    both = weighted(0.0, 100.0)
    assert not decide(both, [replica("a", "ready"), replica("b", "starting", deployment="d2")], NOW).weighted
    assert decide(both, [replica("a", "ready"), replica("b", "ready", deployment="d2")], NOW).weighted


def test_a_deployments_tasks_share_its_weight():
    tasks = [replica("a", "ready"), replica("b", "ready"), replica("c", "ready", deployment="d2")]
    plan = decide(weighted(90.0, 10.0), [*tasks, stopping("d", "ready")], NOW)
    assert plan.weighted
    assert {task: placed.weight for task, placed in plan.balance.items()} == {"a": 256, "b": 256, "c": 57, "d": 256}


def test_a_deployment_without_a_task_leaves_its_share_to_the_others():
    assert weights(["d1", "d1"], {"d1": 5.0, "d2": 95.0}) == {"d1": 256}
    assert weights(["d1", "d2"], {"d1": 100.0, "d2": 0.0}) == {"d1": 256, "d2": 0}
    assert weights(["d1"], {"d1": 0.0, "d2": 100.0}) == {"d1": 1}, "better these than nobody"
    assert weights(["d1", "d2"], {"d1": 75.0, "d2": None}) == {"d1": 256, "d2": 85}


@given(
    st.lists(st.sampled_from(["d1", "d2", "d3"]), min_size=1, max_size=20),
    st.lists(st.floats(0, 100), min_size=3, max_size=3),
)
def test_weights_are_such_as_the_proxy_takes_and_somebody_has_one(ready, shares):
    given = weights(ready, dict(zip(("d1", "d2", "d3"), shares, strict=True)))
    assert set(given) == set(ready)
    assert all(0 <= weight <= 256 for weight in given.values())
    assert any(given.values())


@given(st.integers(1, 99), st.integers(1, 12), st.integers(1, 12))
def test_a_deployment_gets_nearly_its_weight_however_many_tasks_it_has(percent, first, second):
    given = weights(["d1"] * first + ["d2"] * second, {"d1": float(percent), "d2": float(100 - percent)})
    total = given["d1"] * first + given["d2"] * second
    assert abs(given["d1"] * first / total - percent / 100) < 0.04


def a_task(last, health="STARTING", started=50.0, **members):
    task = ecs.task(**members)
    network = NetworkInterface(private_ipv4="10.0.0.5") if last == "RUNNING" else None
    status = ecs.status(task, last, started_at=started, network=network) if last else None
    return stage_of(task, status, health, 60.0, NOW)


def test_how_far_a_task_is():
    assert a_task("") == a_task("PENDING") == a_task("RUNNING") == "starting"
    assert a_task("RUNNING", started=30.0) == "unhealthy", "it had its minute"
    assert (a_task("RUNNING", "HEALTHY"), a_task("RUNNING", "UNHEALTHY")) == ("ready", "unhealthy")
    assert a_task("DEACTIVATING") == a_task("RUNNING", "HEALTHY", desired_status="STOPPED") == "stopping"
    assert a_task("STOPPED") == a_task("DEPROVISIONING") == a_task("RUNNING", lost_at=1.0) == "gone"


def test_backends_for_express_services_are_there_once_one_is_wanted():
    frame = Frame("127.0.0.1", 8443, 2, 1000, 1.5, 1, 1)
    assert "backend x0" not in render(frame, {})
    grown = frame.grown(EXPRESS)
    assert [grown.count(kind) for kind in (OWN, EXPRESS, WEIGHTED)] == [1, 8, 4]
    assert frame.widened(grown) == grown and grown.widened(frame) == grown
    tried = msgspec.structs.replace(frame.grown(TEST), headers=("x-test",))
    assert (tried.count(TEST), tried.grown(TEST).count(TEST), frame.widened(tried)) == (2, 4, tried)
    found = "var(txn.test0),map(hosts.map)"
    assert f"  use_backend %[{found}] if {{ {found} -m found }}" in render(tried, {}).splitlines()
    text = render(grown, {"w0": {0: Server("10.0.0.5", 8080, 7, weight=13)}})
    of = lambda name: text.partition(f"backend {name}\n")[2].partition("backend ")[0]  # noqa: E731
    own, shared, weighed = of("b0"), of("x0"), of("w0")
    assert "balance leastconn" in own and "retry-on" not in own
    assert "balance leastconn" in shared and "retry-on conn-failure empty-response" in shared
    assert "balance roundrobin" in weighed and "server s0 10.0.0.5:8080 maxconn 7 weight 13" in weighed


def test_a_backend_that_needs_more_slots_gets_them_and_keeps_them():
    frame = Frame("127.0.0.1", 8443, 2, 1000, 1.5, 2, 2)
    deep = frame.deepened("b1").deepened("b1")
    assert (deep.depth("b0"), deep.depth("b1")) == (2, 8)
    assert frame.widened(deep) == deep.widened(frame) == deep
    assert render(deep, {}).count("\n  server ") == 10


def test_a_task_is_checked_and_waited_for_as_its_revision_says():
    plain = ExpressRevision(deployment="d1", port=80, health_check_path="/ping", created_at=1.0)
    own = replace(plain, check_port=81, interval_s=30.0, timeout_s=5.0, healthy=3, unhealthy=2, good_to=299)
    check = check_of(own)
    assert (check.protocol, check.path, check.codes) == ("HTTP", "/ping", ((200, 299),))
    assert (check.interval, check.timeout, check.healthy, check.unhealthy) == (30.0, 5.0, 3, 2)
    assert why_ill(plain) == "GET /ping on port 80 is not answered with 200"
    assert why_ill(own) == "GET /ping on port 81 is not answered with 200 to 299"
    secured = replace(plain, check_protocol="HTTPS", also_good=[[204, 204], [300, 301]])
    assert check_of(secured).codes == ((200, 200), (204, 204), (300, 301))
    assert why_ill(secured) == "GET /ping on port 80 over HTTPS is not answered with 200, 204, 300 to 301"
    assert (patience(SERVICE, plain, 60.0), patience(SERVICE, own, 60.0)) == (60.0, 120.0)
    slow = replace(SERVICE, request={**SERVICE.request, "healthCheckGracePeriodSeconds": 300})
    assert patience(slow, plain, 60.0) == 300.0
