"""Spot capacity that is taken back."""

from __future__ import annotations

import json

import pytest

from contracts.records.scheduler import ServiceEvent
from services.scheduler.decisions import life, messages, spot
from services.scheduler.decisions.placement import CAPACITY, Candidate, Demand, Ledger, Refusal
from services.scheduler.decisions.ranking import place
from services.scheduler.decisions.spot import BadInterruption, Interruption
from tests.builders.ecs import service, status, task

SPOT = {"capacity_provider": "FARGATE_SPOT"}


def asked(**members) -> bytes:
    return json.dumps(members).encode()


def test_a_request_names_a_task_or_a_node_and_has_two_minutes_of_notice():
    arn = "arn:aws:ecs:us-east-1:000000000000:task/main/abc"
    assert spot.read(asked(task=arn)) == Interruption(task="abc", notice_s=120.0)
    assert spot.read(asked(node="n1", notice_s=0)) == Interruption(node="n1", notice_s=0)


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({}, "task, node"),
        ({"task": "a", "node": "b"}, "task, node"),
        ({"node": "n", "notice_s": -1}, "notice_s"),
        ({"node": "n", "notice_s": 3601}, "notice_s"),
        ({"node": 1}, "node"),
    ],
)
def test_a_bad_request_is_told_which_member_is_wrong(members, named):
    with pytest.raises(BadInterruption, match=named):
        spot.read(asked(**members))


def test_only_spot_tasks_that_are_to_go_on_are_interrupted():
    runs, on_demand = task("a", **SPOT), task("b", capacity_provider="FARGATE")
    stops, ended = task("c", desired_status="STOPPED", **SPOT), task("d", **SPOT)
    assert [
        spot.interruptible(runs, None),
        spot.interruptible(on_demand, None),
        spot.interruptible(stops, None),
        spot.interruptible(ended, status(ended, "STOPPED")),
    ] == [True, False, False, False]


def test_a_task_is_named_by_the_beginning_of_its_id_if_that_tells_which():
    first, second, other = task("ab1", **SPOT), task("ab2", **SPOT), task("c1")
    joined = [(each, None) for each in (first, second, other)]
    assert spot.named("ab1", joined) == first
    for prefix, why in (("ab", "2 tasks"), ("x", "no tasks"), ("c", "does not run on FARGATE_SPOT")):
        with pytest.raises(BadInterruption, match=why):
            spot.named(prefix, joined)


def interrupted(task_id: str, at: float):
    stopping = task(task_id, desired_status="STOPPED", stop_code=life.SPOT_INTERRUPTION, stopping_at=at, **SPOT)
    return life.member(stopping, None, False)


def test_a_service_is_warned_once_of_each_interruption():
    members = [interrupted("t1", 50.0), life.member(task("t2", **SPOT), None, False)]
    warning = messages.interrupted("web", "t1")
    assert spot.warnings(service(1), members) == (warning,)
    told = [ServiceEvent(id="e", created_at=51.0, message=warning)]
    assert spot.warnings(service(1, events=told), members) == ()


def test_what_fell_out_of_a_full_story_is_not_told_again():
    full = [ServiceEvent(id=str(n), created_at=200.0 - n, message="x") for n in range(messages.KEPT)]
    assert spot.warnings(service(1, events=full), [interrupted("t1", 50.0)]) == ()
    assert spot.warnings(service(1, events=full), [interrupted("t1", 150.0)]) == (messages.interrupted("web", "t1"),)


def test_a_node_that_is_taken_back_takes_other_tasks_and_no_spot_ones():
    node = Candidate("n1", "z", 1024, 1024, spot=False)
    assert place(Demand(kind="FARGATE"), [node], Ledger()) == "n1"
    refusal = place(Demand(kind="FARGATE_SPOT"), [node, Candidate("n0", "z", 1024, 1024, kind="EC2")], Ledger())
    assert isinstance(refusal, Refusal)
    assert refusal.closest() == ("n1", CAPACITY)


def test_spot_nodes_are_for_spot_tasks_alone():
    node = Candidate("n1", "z", 1024, 1024, kind="FARGATE_SPOT")
    for kind in ("FARGATE", "EC2"):
        assert place(Demand(kind=kind), [node], Ledger()) == Refusal({"n1": "ATTRIBUTE"})
    assert place(Demand(kind="FARGATE_SPOT"), [node], Ledger()) == "n1"
