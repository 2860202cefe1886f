"""What the controller of a DAEMON does next."""

import pytest

from services.scheduler.decisions.backoff import BackoffRules, Member
from services.scheduler.decisions.daemons import decide
from services.scheduler.decisions.life import UNHEALTHY_REASON
from services.scheduler.decisions.managed_daemons import impairs
from tests.builders.ecs import deployment, service, status, task

RULES = BackoffRules()


def member(name: str, node: str, of: str = "d1", **members) -> Member:
    return Member(name, of, 1.0, **{"node": node, "state": "running", "healthy": True, "started_at": 1.0, **members})


def daemon(*deployments, minimum: int = 0, **members):
    request = {"schedulingStrategy": "DAEMON"}
    return service(0, *deployments, minimum=minimum, maximum=100, request=request, **members)


def test_each_node_without_a_task_gets_one():
    plan = decide(daemon(), [member("a", "n1")], ["n1", "n2", "n3"], 100.0, RULES)
    assert (plan.nodes, plan.stops, plan.desired, plan.steady) == (("n2", "n3"), (), 3, False)


def test_a_node_is_not_free_before_its_task_has_stopped():
    stopping = member("a", "n1", state="stopping", healthy=False)
    assert decide(daemon(), [stopping], ["n1"], 100.0, RULES).nodes == ()


def test_tasks_leave_nodes_that_do_not_suit_any_more_and_nodes_have_one_each():
    members = [member("a", "gone"), member("b", "n1")]
    second = Member("c", "d1", 2.0, node="n1", state="running", healthy=True, started_at=2.0)
    plan = decide(daemon(), [*members, second], ["n1"], 100.0, RULES)
    assert [stop.task for stop in plan.stops] == ["a", "c"]


def test_an_update_stops_as_many_as_may_be_missing():
    new, old = deployment("d2"), deployment("d1", status="ACTIVE")
    members = [member(str(i), f"n{i}") for i in range(4)]
    nodes = [m.node for m in members]
    assert len(decide(daemon(new, old, minimum=75), members, nodes, 100.0, RULES).stops) == 1
    assert len(decide(daemon(new, old), members, nodes, 100.0, RULES).stops) == 4


def test_when_all_nodes_have_one_that_is_healthy_it_is_steady():
    plan = decide(daemon(), [member("a", "n1")], ["n1"], 100.0, RULES)
    assert (plan.steady, plan.deployments[0].rollout_state) == (True, "COMPLETED")


def managed(*deployments, bake=10, **members):
    request = {"schedulingStrategy": "DAEMON", "drainPercent": 50.0}
    configuration = {"bakeTimeInMinutes": bake, **members.pop("configuration", {})}
    return service(0, *deployments, minimum=0, maximum=100, request=request, configuration=configuration, **members)


def test_each_step_of_an_update_is_watched_before_the_next_one():
    new, old = deployment("d2"), deployment("d1", status="ACTIVE", rollout_state="COMPLETED")
    first = [member("a", "n1", "d2", started_at=100.0), member("b", "n2")]
    plan = decide(managed(new, old), first, ["n1", "n2"], 699.0, RULES)
    assert (plan.stops, plan.wake_at) == ((), 700.0)
    assert [s.task for s in decide(managed(new, old), first, ["n1", "n2"], 700.0, RULES).stops] == ["b"]
    last = [first[0], member("c", "n2", "d2", started_at=710.0)]
    plan = decide(managed(new, old), last, ["n1", "n2"], 1300.0, RULES)
    assert (plan.steady, plan.deployments[0].rollout_state, plan.wake_at) == (False, "IN_PROGRESS", 1310.0)
    assert decide(managed(new, old), last, ["n1", "n2"], 1310.0, RULES).deployments[0].rollout_state == "COMPLETED"


def test_an_alarm_brings_the_revision_before_back_and_that_is_not_watched():
    alarms = {"enable": True, "rollback": True, "alarmNames": ["errors"]}
    new, old = deployment("d2"), deployment("d1", status="ACTIVE", rollout_state="COMPLETED")
    members = [member("a", "n1", "d2", started_at=100.0), member("b", "n2")]
    daemon = managed(new, old, configuration={"alarms": alarms})
    back = decide(daemon, members, ["n1", "n2"], 101.0, RULES, ("errors",)).deployments
    assert [(d.id, d.status) for d in back] == [("d1", "PRIMARY"), ("d2", "ACTIVE")]
    then = decide(managed(*back), [*members[1:], member("c", "n1", started_at=102.0)], ["n1", "n2"], 103.0, RULES)
    assert then.deployments[0].rollout_state == "COMPLETED"


def told(last="RUNNING", health="UNKNOWN", at=1.0, **members):
    made = task(f"t{at}", created_at=at, **members)
    return made, status(made, last, health_status=health, started_at=None if last == "PENDING" else at)


BY_SCHEDULER = {"desired_status": "STOPPED", "stop_code": "ServiceSchedulerInitiated"}
NEVER_UP = told("PENDING", at=2.0, **BY_SCHEDULER)


@pytest.mark.parametrize(
    ("tasks", "checked", "impaired"),
    [
        ([], False, False),
        ([told()], False, False),
        ([told("STOPPED")], False, True),
        ([told("STOPPED"), told("PENDING", at=2.0)], False, True),
        ([told("STOPPED"), told(at=2.0)], False, False),
        ([told("STOPPED"), told(at=2.0)], True, True),
        ([told("STOPPED"), told(health="HEALTHY", at=2.0)], True, False),
        ([told(health="UNHEALTHY")], True, True),
        ([told(), told("STOPPED", at=2.0, desired_status="STOPPED", stop_code="UserInitiated")], False, True),
        ([told(), told("STOPPED", at=2.0, stopped_reason="scaled", **BY_SCHEDULER)], False, False),
        ([told(), told("STOPPED", at=2.0, stopped_reason=UNHEALTHY_REASON, **BY_SCHEDULER)], False, True),
        ([told(at=2.0, lost_at=3.0)], False, False),
        ([told("STOPPED"), NEVER_UP, told("PENDING", at=3.0)], False, True),
        ([told("STOPPED"), told("STOPPED", at=2.0, stopped_reason="scaled", **BY_SCHEDULER)], True, True),
        ([told(), NEVER_UP], False, False),
    ],
)
def test_what_the_tasks_of_a_critical_daemon_say_of_their_node(tasks, checked, impaired):
    assert impairs(tasks, checked) == impaired


def test_a_daemon_that_is_deleted_drains():
    plan = decide(daemon(status="DRAINING"), [member("a", "n1")], [], 100.0, RULES)
    assert ([stop.task for stop in plan.stops], plan.status) == (["a"], "DRAINING")


def test_a_protected_task_is_not_replaced():
    new, old = deployment("d2"), deployment("d1", status="ACTIVE")
    assert decide(daemon(new, old), [member("a", "n1", protected_until=200.0)], ["n1"], 100.0, RULES).stops == ()
