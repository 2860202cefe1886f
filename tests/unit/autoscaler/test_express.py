"""What an Express service makes of its scalable target and its policy."""

import pytest
from msgspec.structs import replace

from contracts.records.scheduler import Express, ExpressScaling
from services.autoscaler.decisions import express, policies
from tests.builders import ecs

SCALING = ExpressScaling(min_tasks=2, max_tasks=5, metric="AVERAGE_CPU", target=60.0, wanted_at=7.0)


def service(scaling=SCALING, **members):
    own = Express(host="h", infrastructure_role="r", scaling=scaling, revisions=[], updated_at=1.0)
    return replace(ecs.service(2, **members), express=own)


def target(old=None, scaling=SCALING):
    return express.target(service(scaling), scaling, old, "id", 9.0)


def test_only_an_active_express_service_is_scaled():
    assert express.scaling_of(service()) is SCALING
    gone = (None, ecs.service(2), service(status="DRAINING"), service(status="INACTIVE"))
    assert [express.scaling_of(each) for each in gone] == [None] * 4


def test_a_wish_is_carried_out_once():
    made = target()
    assert (made.resource, made.min_capacity, made.max_capacity, made.settled) == ("service/main/web", 2, 5, False)
    by_hand = replace(made, min_capacity=1, settled=True)
    assert target(by_hand) is by_hand, "who sets other bounds may, until the service's scaling is changed"
    changed = target(by_hand, replace(SCALING, max_tasks=9, wanted_at=8.0))
    assert changed == replace(by_hand, min_capacity=2, max_capacity=9, settled=False, express_at=8.0)


@pytest.mark.parametrize(
    ("metric", "followed"),
    [
        ("AVERAGE_CPU", [("AWS/ECS", "CPUUtilization", "Average", 5), ("AWS/ECS", "CPUUtilization", "Average", 60)]),
        ("AVERAGE_MEMORY",
         [("AWS/ECS", "MemoryUtilization", "Average", 5), ("AWS/ECS", "MemoryUtilization", "Average", 60)]),
        ("REQUEST_COUNT_PER_TARGET", [("AWS/ApplicationELB", "RequestCountPerTarget", "Sum", 60)]),
    ],
)  # fmt: skip
def test_the_policy_follows_the_metric_of_the_service(metric, followed):
    scaling = replace(SCALING, metric=metric)
    made = express.policy(service(scaling), scaling, None, "id", 9.0)
    found = policies.series(made)
    assert [(m.namespace, m.name, m.statistic, m.period_s) for m in found] == followed
    assert {m.dimensions for m in found} == {(("ClusterName", "main"), ("ServiceName", "web"))}
    assert policies.tracking(made).target == 60.0


def test_a_policy_that_says_the_same_stays_and_another_metric_replaces_it():
    made = express.policy(service(), SCALING, None, "id", 9.0)
    assert express.policy(service(), SCALING, made, "other", 10.0) is made
    scaling = replace(SCALING, metric="AVERAGE_MEMORY")
    assert express.policy(service(scaling), scaling, made, "other", 10.0).id == "id"
