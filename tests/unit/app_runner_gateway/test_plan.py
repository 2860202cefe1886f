"""What is done next about a service: deployments, roll-back, scaling, pause, deletion; and that nothing is dropped."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from contracts.records.app_runner_gateway import AppService
from services.app_runner_gateway.decisions import life
from services.app_runner_gateway.decisions.plan import DRAIN, READY, Instance, Put, Workload, decide
from services.app_runner_gateway.decisions.scaling import Bounds
from services.shared.errors import AwsError

NOW = 1000.0
SOURCE = {"ImageRepository": {"ImageIdentifier": "i", "ImageConfiguration": {"Port": "8080"}}}


def fresh():
    return AppService(
        account="0", region="r", id="a" * 32, name="shop", host="x.r", status="OPERATION_IN_PROGRESS", created_at=NOW,
        updated_at=NOW, source=SOURCE, instance={"Cpu": "1024"}, health_check={}, auto_scaling="",
    )  # fmt: skip


def creating():
    return life.deploy(life.begin(fresh(), "CREATE_SERVICE", "o1", NOW), "image@1", None, NOW)


def running():
    return life.succeed(creating(), NOW)


def deploying(kind="START_DEPLOYMENT", **changes):
    return life.deploy(life.begin(replace(running(), **changes), kind, "o2", NOW), "image@2", None, NOW)


def instance(name, revision=1, state="ready", **members):
    return Instance(task=name, revision=revision, state=state, **members)


def workload(revision=1, desired=1, **members):
    return Workload(revision=revision, active=True, desired=desired, **members)


def plan(service, workloads=(), instances=(), wanted=1, bounds=None, now=NOW):
    return decide(service, bounds or Bounds(1, 5, 10), wanted, workloads, instances, now, deploy_s=60, drain_s=30)


def test_a_new_service_gets_its_workload_and_answers_with_its_first_healthy_instance():
    first = plan(creating(), wanted=2)
    assert (first.puts, first.answers, first.outcome) == ((Put(1, 2),), False, None)
    waiting = plan(creating(), [workload(desired=2)], [instance("a", state="starting")], wanted=2)
    assert (waiting.puts, waiting.balance, waiting.answers, waiting.wake_at) == ((), {}, False, NOW + 60)
    healthy = plan(creating(), [workload(desired=2)], [instance("a"), instance("b", state="starting")], wanted=2)
    assert (healthy.balance, healthy.answers, healthy.outcome) == ({"a": READY}, True, "succeeded")


def test_a_deployment_waits_until_as_many_are_healthy_as_were_in_the_balance():
    old = [instance("a", balance=READY), instance("b", balance=READY)]
    loads = [workload(1, 2), workload(2, 2)]
    one = plan(deploying(), loads, [*old, instance("c", 2), instance("d", 2, "starting")], wanted=2)
    assert (one.balance, one.outcome) == ({"a": READY, "b": READY}, None)
    two = plan(deploying(), loads, [*old, instance("c", 2), instance("d", 2)], wanted=2)
    assert two.balance == {"c": READY, "d": READY, "a": DRAIN, "b": DRAIN}
    assert (two.outcome, two.deletes) == ("succeeded", ())


def test_old_instances_are_stopped_when_nothing_is_in_flight_or_their_time_is_over():
    service = life.succeed(deploying(), NOW)
    new = instance("c", 2, balance=READY)
    loads = [workload(1, 1), workload(2, 1)]
    busy = instance("a", balance=DRAIN, in_flight=1, drained_since=NOW)
    assert plan(service, loads, [new, busy]).deletes == ()
    assert plan(service, loads, [new, busy]).wake_at == NOW + 30
    assert plan(service, loads, [new, replace(busy, in_flight=0)]).deletes == (1,)
    assert plan(service, loads, [new, busy], now=NOW + 30).deletes == (1,)


def test_a_new_version_that_dies_three_times_is_given_up_and_the_old_goes_on():
    old = instance("a", balance=READY)
    twice = plan(deploying(), [workload(1), workload(2, failures=2, reason="exit 1")], [old])
    assert twice.outcome is None
    thrice = plan(deploying(), [workload(1), workload(2, failures=3, reason="exit 1")], [old])
    assert (thrice.outcome, thrice.balance, thrice.deletes) == ("failed", {"a": READY}, (2,))
    assert "exit 1" in thrice.reason


def test_a_refusal_of_the_scan_gate_ends_a_deployment_at_once():
    reason = "CannotPullContainerError: refused by the scan gate: 2 CRITICAL findings"
    refused = plan(creating(), [workload(1, failures=1, reason=reason)])
    assert (refused.outcome, refused.deletes) == ("failed", (1,))
    assert "scan gate" in refused.reason


def test_a_version_that_is_never_healthy_is_given_up_in_time():
    late = plan(deploying(), [workload(1), workload(2)], [instance("a", balance=READY)], now=NOW + 60)
    assert late.outcome == "failed"


def test_load_brings_instances_and_those_that_go_are_the_least_busy_and_drained():
    assert plan(running(), [workload(desired=1)], [instance("a", balance=READY)], wanted=3).puts == (Put(1, 3),)
    many = [instance(n, balance=READY, in_flight=i) for i, n in enumerate("abc")]
    less = plan(running(), [workload(desired=3)], many, wanted=1)
    assert less.balance == {"c": READY, "b": DRAIN, "a": DRAIN}
    assert less.puts == ()
    drained = [many[2], *(instance(n, balance=DRAIN, drained_since=NOW) for n in "ab")]
    assert plan(running(), [workload(desired=3)], drained, wanted=1).puts == (Put(1, 1, ("a", "b")),)


def test_what_drains_comes_back_when_it_is_wanted_again():
    there = [instance("a", balance=READY), instance("b", balance=DRAIN, drained_since=NOW)]
    assert plan(running(), [workload(desired=2)], there, wanted=2).balance == {"a": READY, "b": READY}


def test_without_a_healthy_instance_the_last_ones_stay_so_that_requests_are_held():
    dead = instance("a", state="gone", balance=READY)
    held = plan(running(), [workload()], [dead, instance("b", state="starting")])
    assert (held.balance, held.answers) == ({"a": READY}, True)
    back = plan(running(), [workload()], [dead, instance("b")])
    assert back.balance == {"b": READY}


def test_an_ill_instance_leaves_the_balance_and_is_replaced():
    there = [instance("a", balance=READY), instance("b", state="unhealthy", balance=READY)]
    ill = plan(running(), [workload(desired=2)], there, wanted=2)
    assert (ill.balance, ill.puts) == ({"a": READY, "b": DRAIN}, (Put(1, 3),))
    three = [instance("a", balance=READY), instance("c", balance=READY), instance("b", state="unhealthy")]
    assert plan(running(), [workload(desired=3)], three, wanted=2).puts == (Put(1, 2, ("b",)),)


def test_a_pause_drains_then_wants_nothing_and_a_resume_brings_it_back():
    pausing = life.begin(running(), "PAUSE_SERVICE", "o3", NOW)
    first = plan(pausing, [workload()], [instance("a", balance=READY, in_flight=1)])
    assert (first.balance, first.answers, first.puts, first.outcome) == ({"a": DRAIN}, False, (), None)
    drained = plan(pausing, [workload()], [instance("a", balance=DRAIN, drained_since=NOW)])
    assert (drained.balance, drained.puts) == ({}, (Put(1, 0, ("a",)),))
    assert plan(pausing, [workload(desired=0)], []).outcome == "succeeded"
    paused = life.succeed(pausing, NOW)
    assert paused.status == "PAUSED"
    resuming = life.begin(paused, "RESUME_SERVICE", "o4", NOW)
    assert plan(resuming, [workload(desired=0)], []).puts == (Put(1, 1),)
    assert plan(resuming, [workload()], [instance("b")]).outcome == "succeeded"


def test_a_deletion_takes_every_workload_and_is_done_when_all_is_gone():
    deleting = life.begin(running(), "DELETE_SERVICE", "o3", NOW)
    assert plan(deleting, [workload()], [instance("a", balance=READY)]).balance == {"a": DRAIN}
    assert plan(deleting, [workload()], [instance("a", balance=DRAIN, drained_since=NOW)]).deletes == (1,)
    gone = plan(deleting, [Workload(revision=1, active=False, desired=0)], [])
    assert (gone.outcome, gone.deletes) == ("succeeded", ())


@pytest.mark.parametrize(
    ("kind", "status", "image"), [("UPDATE_SERVICE", "ROLLBACK_SUCCEEDED", "i"), ("START_DEPLOYMENT", "FAILED", "new")]
)
def test_a_failed_update_is_taken_back_a_failed_deployment_is_not(kind, status, image):
    changed = {"ImageRepository": {**SOURCE["ImageRepository"], "ImageIdentifier": "new"}}
    failed = life.fail(deploying(kind, source=changed), "no", NOW)
    assert (failed.status, failed.active, failed.candidate) == ("RUNNING", 1, 0)
    assert failed.operations[0].status == status
    assert failed.source["ImageRepository"]["ImageIdentifier"] == image


@pytest.mark.parametrize(
    "kind", ["UPDATE_SERVICE", "START_DEPLOYMENT", "PAUSE_SERVICE", "RESUME_SERVICE", "DELETE_SERVICE"]
)
def test_nothing_else_begins_while_an_operation_is_in_progress(kind):
    with pytest.raises(AwsError) as refusal:
        life.require(creating(), kind)
    assert refusal.value.code == "InvalidStateException"


class Cloud:
    """A scheduler and a proxy that do what a plan says, a step at a time, in whatever order they are told to."""

    def __init__(self) -> None:
        self.service = creating()
        self.now = NOW
        self.workloads: dict[int, int] = {}
        self.tasks: dict[str, tuple[int, str]] = {}
        self.balance: dict[str, tuple[str, float]] = {}
        self.flights: dict[str, int] = {}
        self.made = 0

    def step(self, wanted, bounds):
        instances = [
            Instance(
                task=name, revision=revision, state=state, balance=self.balance.get(name, (None,))[0],
                in_flight=self.flights.get(name, 0), drained_since=self.balance.get(name, (None, None))[1],
            )
            for name, (revision, state) in self.tasks.items()
        ]  # fmt: skip
        loads = [workload(n, desired) for n, desired in self.workloads.items()]
        done = plan(self.service, loads, instances, wanted, bounds, self.now)
        before = {n for n, (s, _) in self.balance.items() if s == READY and self.tasks[n][1] == "ready"}
        after = {n for n, s in done.balance.items() if s == READY and self.tasks[n][1] == "ready"}
        if self.service.operations[0].type not in ("PAUSE_SERVICE", "DELETE_SERVICE"):
            assert len(after) >= min(len(before), max(bounds.low, min(bounds.high, wanted)))
        since = {n: self.balance.get(n, (None, None)) for n in done.balance}
        for name in self.balance.keys() - done.balance.keys():
            assert not self.flights.get(name) or self.now - (self.balance[name][1] or self.now) >= 30
        self.balance = {
            n: (s, (since[n][1] if since[n][0] == DRAIN else self.now) if s == DRAIN else None)
            for n, s in done.balance.items()
        }
        for put in done.puts:
            self._put(put)
        for number in done.deletes:
            del self.workloads[number]
            self.tasks = {n: t for n, t in self.tasks.items() if t[0] != number}
        assert sum(self.workloads.values()) <= 2 * bounds.high
        if done.outcome == "succeeded":
            self.service = life.succeed(self.service, self.now)
        elif done.outcome == "failed":
            self.service = life.fail(self.service, done.reason, self.now)

    def _put(self, put):
        self.workloads[put.revision] = put.count
        own = [n for n, (revision, _) in self.tasks.items() if revision == put.revision]
        for _ in range(put.count - len(own)):
            self.made += 1
            self.tasks[f"t{self.made}"] = (put.revision, "starting")
        order = sorted(own, key=lambda n: (n not in put.stop_first, self.tasks[n][1] == "ready"))
        for name in order[: max(0, len(own) - put.count)]:
            assert not self.flights.get(name) or name not in self.balance, "a busy instance was stopped"
            del self.tasks[name]
            self.balance.pop(name, None)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_happens_no_busy_instance_is_stopped_and_the_balance_never_shrinks_below_what_is_wanted(data):
    cloud, bounds = Cloud(), Bounds(1, 4, 10)
    for _ in range(data.draw(st.integers(5, 40))):
        match data.draw(st.sampled_from(["heal", "fly", "land", "wait", "deploy", "step"])):
            case "heal" if starting := [n for n, (_, s) in cloud.tasks.items() if s == "starting"]:
                name = data.draw(st.sampled_from(starting))
                cloud.tasks[name] = (cloud.tasks[name][0], "ready")
            case "fly" if open_ := [n for n, (s, _) in cloud.balance.items() if s == READY]:
                name = data.draw(st.sampled_from(open_))
                cloud.flights[name] = cloud.flights.get(name, 0) + 1
            case "land" if busy := [n for n, count in cloud.flights.items() if count]:
                cloud.flights[data.draw(st.sampled_from(busy))] -= 1
            case "wait":
                cloud.now += 5
            case "deploy" if cloud.service.status == "RUNNING":
                begun = life.begin(cloud.service, "START_DEPLOYMENT", "o", cloud.now)
                cloud.service = life.deploy(begun, "image", None, cloud.now)
        cloud.step(data.draw(st.integers(0, 6)), bounds)
