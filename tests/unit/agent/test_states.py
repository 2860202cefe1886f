"""Health, adoption, order: what follows from what is."""

import msgspec
import pytest

from contracts.records.agent import ContainerStatus, TaskStatus
from contracts.records.scheduler import Task
from services.agent.decisions.adoption import Verdict, verdict
from services.agent.decisions.health import Health, HealthCheck, after_check, task_health
from services.agent.decisions.order import dependents, in_dependency_order
from services.agent.decisions.status import OUT_OF_MEMORY, Run, ended, lost
from services.agent.values import Exit

CHECK = HealthCheck(["true"], retries=2, start_period_s=10)
KEY = {"account": "1", "region": "r", "cluster": "c", "node": "n"}


def task(desired="RUNNING") -> Task:
    return Task(**KEY, id="t", task_definition="f:1", desired_status=desired, created_at=1.0)


def status(state: str, started_at: float | None = None) -> TaskStatus:
    containers = [ContainerStatus(name="web", last_status=state, started_at=started_at)]
    return TaskStatus(**KEY, task="t", last_status=state, started_at=started_at, containers=containers)


def checked(*results: tuple[bool, float]) -> str:
    health = Health()
    for passed, age in results:
        health = after_check(CHECK, health, passed, age)
    return health.status


def test_one_success_is_healthy_and_failures_in_a_row_are_not():
    assert checked((True, 20)) == "HEALTHY"
    assert checked((False, 20)) == "UNKNOWN"
    assert checked((False, 20), (False, 21)) == "UNHEALTHY"
    assert checked((False, 20), (True, 21), (False, 22)) == "HEALTHY"
    assert checked((False, 20), (False, 21), (True, 22)) == "HEALTHY"


def test_failures_in_the_start_period_count_only_after_a_success():
    assert checked((False, 1), (False, 2), (False, 3)) == "UNKNOWN"
    assert checked((True, 1), (False, 2), (False, 3)) == "UNHEALTHY"
    assert checked((False, 9), (False, 11)) == "UNKNOWN"


@pytest.mark.parametrize(
    ("containers", "health"),
    [
        ([(True, True, "HEALTHY"), (True, False, "UNKNOWN")], "HEALTHY"),
        ([(True, True, "HEALTHY"), (True, True, "UNKNOWN")], "UNKNOWN"),
        ([(True, True, "HEALTHY"), (True, True, "UNHEALTHY")], "UNHEALTHY"),
        ([(False, True, "UNHEALTHY")], "UNKNOWN"),
        ([(True, False, "UNKNOWN")], "UNKNOWN"),
    ],
)
def test_a_task_is_as_healthy_as_its_essential_containers_with_checks(containers, health):
    assert task_health(containers) == health


@pytest.mark.parametrize(
    ("wanted", "known", "stands", "expected"),
    [
        (None, None, False, Verdict.NOTHING),
        (None, None, True, Verdict.REMOVE),
        (None, status("RUNNING", 1.0), False, Verdict.FORGET),
        (task(), None, False, Verdict.RUN),
        (task(), None, True, Verdict.RUN),
        (task(), status("PENDING"), False, Verdict.RUN),
        (task(), status("RUNNING", 1.0), True, Verdict.RUN),
        (task(), status("RUNNING", 1.0), False, Verdict.LOST),
        (task("STOPPED"), status("RUNNING", 1.0), False, Verdict.LOST),
        (task("STOPPED"), None, False, Verdict.RUN),
        (task(), status("STOPPED", 1.0), True, Verdict.REMOVE),
        (task(), status("STOPPED", 1.0), False, Verdict.NOTHING),
    ],
)
def test_what_is_found_is_adopted_started_reported_or_removed(wanted, known, stands, expected):
    assert verdict(wanted, known, stands) == expected


def test_a_lost_task_ended_by_itself_unless_its_end_was_asked_for():
    by_itself = lost(task(), status("RUNNING", 1.0), 9.0)
    assert (by_itself.stop_code, by_itself.stopped_at) == ("EssentialContainerExited", 9.0)
    assert [(c.last_status, c.exit_code) for c in by_itself.containers] == [("STOPPED", None)]
    assert lost(task("STOPPED"), status("RUNNING", 1.0), 9.0).stop_code is None


def test_an_end_by_memory_says_so():
    run = ended(Run("RUNNING", started_at=1.0), Exit(137, True, 5.0))
    assert run == Run("STOPPED", started_at=1.0, stopped_at=5.0, exit_code=137, reason=OUT_OF_MEMORY)
    assert ended(Run("RUNNING"), Exit(0, False, 5.0, 2.0)).started_at == 2.0


def test_order_goes_by_dependency_and_back():
    needs = {"web": ["db", "init"], "db": ["init"], "init": []}
    assert in_dependency_order(needs) == ["init", "db", "web"]
    assert dependents(needs, "init") == {"web", "db"}


def test_a_status_is_a_value():
    assert msgspec.json.decode(msgspec.json.encode(status("RUNNING", 1.0)), type=TaskStatus) == status("RUNNING", 1.0)
