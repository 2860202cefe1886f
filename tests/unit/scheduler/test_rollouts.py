"""The story of a service's deployments."""

from msgspec.structs import replace

from contracts.records.scheduler import Service
from services.scheduler.decisions.rollback import rolled_back
from services.scheduler.decisions.rollouts import recorded
from tests.builders.ecs import deployment, service


def story(of: Service) -> list[tuple[str, str]]:
    return [(rollout.id, rollout.status) for rollout in of.rollouts]


def after(of: Service, *deployments, now: float = 9.0) -> Service:
    return recorded(replace(of, deployments=list(deployments)), now)


NEW, DONE = deployment("d1"), deployment("d1", rollout_state="COMPLETED")
FIRST = recorded(service(1, NEW), 5.0)
COMPLETE = after(FIRST, DONE)


def test_a_deployment_begins_and_succeeds():
    assert (story(FIRST), story(COMPLETE)) == ([("d1", "IN_PROGRESS")], [("d1", "SUCCESSFUL")])
    assert (FIRST.rollouts[0].finished_at, COMPLETE.rollouts[0].finished_at) == (None, 9.0)


def test_what_did_not_change_is_not_recorded_anew():
    assert recorded(COMPLETE, 20.0) is COMPLETE


def test_a_deployment_that_is_overtaken_has_stopped():
    overtaken = after(FIRST, deployment("d2"), replace(NEW, status="ACTIVE"))
    assert story(overtaken) == [("d2", "IN_PROGRESS"), ("d1", "STOPPED")]
    assert (overtaken.rollouts[0].sources, overtaken.rollouts[1].stopped_at) == ([], 9.0)


def test_a_deployment_that_is_rolled_back_says_to_what_and_why():
    second = after(COMPLETE, deployment("d2"), replace(DONE, status="ACTIVE"))
    assert second.rollouts[0].sources == ["d1"]
    failed = replace(second.deployments[0], rollout_state="FAILED", rollout_state_reason="tasks failed")
    back = after(second, *rolled_back(second, failed, second.deployments[1], "back to d1", 9.0))
    assert story(back) == [("d2", "ROLLBACK_IN_PROGRESS"), ("d1", "SUCCESSFUL")]
    assert (back.rollouts[0].rolled_back_to, back.rollouts[0].rollback_reason) == ("d1", "back to d1")
    assert story(after(back, DONE)) == [("d2", "ROLLBACK_SUCCESSFUL"), ("d1", "SUCCESSFUL")]


def test_a_deployment_that_fails_without_a_way_back_has_stopped():
    failed = after(FIRST, replace(NEW, rollout_state="FAILED", rollout_state_reason="tasks failed"))
    assert (story(failed), failed.rollouts[0].status_reason) == ([("d1", "STOPPED")], "tasks failed")


def test_the_latest_ten_are_kept():
    of = FIRST
    for number in range(2, 30):
        of = after(of, deployment(f"d{number}"))
    assert [rollout.id for rollout in of.rollouts] == [f"d{number}" for number in range(29, 19, -1)]
