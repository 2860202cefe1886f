"""A task, joined from what is wanted and what is; and small decisions about services, capacity, pages and names."""

from __future__ import annotations

import pytest

from contracts.records.agent import ContainerStatus
from services.scheduler.decisions import life, names, tags
from services.scheduler.decisions import services as service_rules
from services.scheduler.decisions.capacity import check_strategy, of_strategy
from services.scheduler.decisions.pages import page
from services.shared.errors import AwsError
from tests.builders.ecs import deployment, service, status, task


def test_a_task_that_its_agent_has_not_seen_is_provisioning():
    assert (life.last_status(task(), None), life.counts_as(task(), None)) == ("PROVISIONING", "pending")


def test_a_task_that_ends_on_its_own_wants_to_be_stopped():
    ended = status(task(), "STOPPED", exit_code=1, stop_code="EssentialContainerExited", stopped_at=7.0)
    assert life.desired_status(task(), ended) == "STOPPED"
    assert (life.stop_code(task(), ended), life.stopped_at(task(), ended)) == ("EssentialContainerExited", 7.0)
    assert life.failed(task(), ended)


def test_who_asked_for_the_stop_says_why():
    asked = task(desired_status="STOPPED", stop_code="UserInitiated", stopped_reason="enough")
    ended = status(asked, "STOPPED", exit_code=1, stop_code="EssentialContainerExited", stopped_reason="exited")
    assert (life.stop_code(asked, ended), life.stopped_reason(asked, ended)) == ("UserInitiated", "enough")
    assert not life.failed(asked, ended)


def test_a_lost_task_is_stopped_whatever_its_agent_said_last():
    lost = task(desired_status="STOPPED", lost_at=9.0)
    assert (life.last_status(lost, status(lost)), life.counts_as(lost, status(lost))) == ("STOPPED", "stopped")
    assert life.stopped_at(lost, status(lost)) == 9.0


@pytest.mark.parametrize(("exit_code", "reason", "failed"), [(137, None, False), (1, None, True), (0, None, True)])
def test_being_killed_from_outside_is_not_failing(exit_code, reason, failed):
    assert life.failed(task(), status(task(), "STOPPED", exit_code=exit_code)) is failed


def test_being_killed_for_its_memory_is_failing():
    killed = ContainerStatus(name="web", exit_code=137, reason="OutOfMemoryError: Container killed due to memory usage")
    assert life.failed(task(), status(task(), "STOPPED", containers=[killed]))


def test_with_a_health_check_running_is_not_yet_healthy():
    waiting = status(task(), health_status="UNKNOWN")
    assert not life.member(task(), waiting, True).healthy
    assert life.member(task(), waiting, False).healthy
    assert life.member(task(), status(task(), health_status="HEALTHY"), True).healthy
    assert life.member(task(), status(task(), health_status="UNHEALTHY"), True).unhealthy


def test_a_strategy_fills_the_base_then_goes_by_weight():
    strategy = [
        {"capacityProvider": "FARGATE", "base": 2, "weight": 1},
        {"capacityProvider": "FARGATE_SPOT", "weight": 3},
    ]
    running: dict[str, int] = {}
    for _ in range(10):
        provider = of_strategy(strategy, running).provider
        running[provider] = running.get(provider, 0) + 1
    assert running == {"FARGATE": 4, "FARGATE_SPOT": 6}


def test_a_provider_that_is_not_there_is_refused():
    with pytest.raises(AwsError, match="'mine' was not found"):
        check_strategy([{"capacityProvider": "mine"}])


def test_an_update_of_the_count_keeps_the_deployment():
    before = service(1, deployment(rollout_state="COMPLETED"), steady=True)
    after = service_rules.updated(before, {"desiredCount": 3}, None, False, "d2", 5.0)
    assert (after.desired_count, [d.id for d in after.deployments], after.steady) == (3, ["d1"], False)


@pytest.mark.parametrize(
    ("changes", "definition", "force"),
    [({}, "web:2", False), ({}, None, True), ({"networkConfiguration": {"awsvpcConfiguration": {}}}, None, False)],
)
def test_what_changes_the_tasks_begins_a_deployment(changes, definition, force):
    after = service_rules.updated(service(1), changes, definition, force, "d2", 5.0)
    assert [(d.id, d.status) for d in after.deployments] == [("d2", "PRIMARY"), ("d1", "ACTIVE")]


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"schedulingStrategy": "DAEMON", "desiredCount": 1}, "InvalidParameterException"),
        ({"loadBalancers": [{}]}, "UnsupportedFeatureException"),
        ({"deploymentController": {"type": "CODE_DEPLOY"}}, "UnsupportedFeatureException"),
        ({"deploymentConfiguration": {"maximumPercent": 100}}, "InvalidParameterException"),
        ({"desiredCount": -1}, "InvalidParameterException"),
    ],
)
def test_what_is_not_done_or_makes_no_sense_is_refused(request_, code):
    with pytest.raises(AwsError) as refusal:
        service_rules.check(request_)
    assert refusal.value.code == code


def test_a_load_balancer_is_refused_with_what_there_is_instead():
    with pytest.raises(AwsError, match=r"load balancers \(loadBalancers\).*gatewayConnectors"):
        service_rules.check({"loadBalancers": [{"targetGroupArn": "arn", "containerName": "web", "containerPort": 80}]})


def test_pages_follow_each_other_without_gaps_or_doubles():
    items = [f"i{n}" for n in range(5)]
    first, token = page(items, None, 2)
    second, token = page(["h9", *items[:1], *items[2:]], token, 2)
    third, end = page(items, token, 2)
    assert (first, second, third, end) == (["i0", "i1"], ["i2", "i3"], ["i4"], None)


@pytest.mark.parametrize(("token", "size"), [("%%%", 1), (None, 0), (None, 101)])
def test_a_page_that_cannot_be_is_refused(token, size):
    with pytest.raises(AwsError):
        page(["a"], token, size)


def test_references_are_names_or_arns():
    arn = names.task_definition_arn("1", "us-east-1", "web", 7)
    assert names.family_and_revision(arn) == names.family_and_revision("web:7") == ("web", 7)
    assert names.family_and_revision("web") == ("web", None)
    assert names.split_arn("arn:aws:ecs:r:1:task/main/abc") == ("task", ["main", "abc"])
    with pytest.raises(AwsError, match="ARN is invalid"):
        names.split_arn("arn:aws:s3:::bucket")


def test_ids_have_the_form_of_ecs():
    assert len(names.new_id()) == 32
    assert len(names.new_deployment_id()) == len("ecs-svc/") + 19


def test_reserved_tags_are_refused_and_too_many_as_well():
    with pytest.raises(AwsError, match="reserved"):
        tags.read([_tag("aws:x")])
    with pytest.raises(AwsError, match="at most 50"):
        tags.joined({str(n): "" for n in range(50)}, {"one more": ""})


def _tag(key: str):
    from contracts.aws import ecs

    return ecs.Tag(key=key, value="v")
