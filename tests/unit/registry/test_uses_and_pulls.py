"""Which images tasks need, and whose pulls count."""

import pytest

from contracts.records.agent import ContainerStatus, TaskStatus
from contracts.records.scheduler import Task, TaskDefinition
from services.registry.decisions.pulls import excluded
from services.registry.decisions.uses import Use, uses

WHERE = {"account": "1", "region": "r", "cluster": "c", "node": "n"}


def task(name: str, **fields) -> Task:
    return Task(**WHERE, id=name, task_definition="web:1", desired_status="RUNNING", created_at=0.0, **fields)


def status(name: str, last_status: str, digest: str = "sha256:a") -> TaskStatus:
    container = ContainerStatus(name="main", image="r/web:1", image_digest=digest)
    return TaskStatus(**WHERE, task=name, last_status=last_status, containers=[container])


DEFINITIONS = {
    ("1", "r", "web:1"): TaskDefinition(
        account="1",
        region="r",
        family="web",
        revision=1,
        status="ACTIVE",
        definition={"containerDefinitions": [{"name": "main", "image": "r/web:1"}]},
        registered_at=0.0,
    )
}


def test_what_runs_counts_by_its_digest_and_what_is_to_run_by_its_name():
    assert uses([task("t")], DEFINITIONS, [status("t", "RUNNING")]) == {Use("r/web:1", "sha256:a"), Use("r/web:1")}
    assert uses([task("t")], DEFINITIONS, []) == {Use("r/web:1")}


def test_what_is_over_needs_nothing():
    assert uses([task("t")], DEFINITIONS, [status("t", "STOPPED")]) == set()
    assert uses([task("t", lost_at=1.0)], DEFINITIONS, []) == set()
    assert uses([task("t")], {}, []) == set()


def test_what_is_stopping_still_runs():
    stopping = task("t", stopping_at=1.0)
    assert Use("r/web:1", "sha256:a") in uses([stopping], DEFINITIONS, [status("t", "STOPPING")])


ROLE = "arn:aws:iam::000000000001:role/deep/Scan"


@pytest.mark.parametrize(
    ("principal", "counts"),
    [
        ("arn:aws:sts::000000000001:assumed-role/Scan/s", False),
        ("arn:aws:sts::000000000002:assumed-role/Scan/s", True),
        ("arn:aws:sts::000000000001:assumed-role/Other/s", True),
        ("arn:aws:iam::000000000001:root", True),
        (ROLE, False),
    ],
)
def test_a_role_stands_for_its_sessions(principal, counts):
    assert excluded(principal, {ROLE: 0.0}) is not counts
