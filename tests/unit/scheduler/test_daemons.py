"""What the controller of a DAEMON does next."""

from services.scheduler.decisions.backoff import BackoffRules, Member
from services.scheduler.decisions.daemons import decide
from tests.builders.ecs import deployment, service

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


def test_a_daemon_that_is_deleted_drains():
    plan = decide(daemon(status="DRAINING"), [member("a", "n1")], [], 100.0, RULES)
    assert ([stop.task for stop in plan.stops], plan.status) == (["a"], "DRAINING")


def test_a_protected_task_is_not_replaced():
    new, old = deployment("d2"), deployment("d1", status="ACTIVE")
    assert decide(daemon(new, old), [member("a", "n1", protected_until=200.0)], ["n1"], 100.0, RULES).stops == ()
