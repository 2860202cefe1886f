"""An Express service from its first request to its last: an image and two roles in, an HTTPS URL out, real tasks."""

import contextlib
import json
import os

import pytest

from tests.builders.images import File, busybox_image
from tests.builders.platform import processes, until
from tests.builders.visitors import Visitors

SLOW = "#!/bin/sh\nsleep 1\necho Content-Type: text/plain\necho\necho slow\n"
SERVED = ("httpd", "-f", "-p", "8080", "-h", "/www")
EXPRESS = "arn:aws:iam::000000000000:role/express-"


def shop(version, ping="pong"):
    files = {"/www/index.html": File(version), "/www/cgi-bin/slow": File(SLOW, mode=0o755)}
    if ping:
        files["/www/ping"] = File(ping)
    return busybox_image(files, command=list(SERVED))


class Story:
    """One service, with what the tests ask of it."""

    def __init__(self, platform, ecs, made) -> None:
        self.platform, self.ecs = platform, ecs
        self.arn, self.cluster, self.name = made["serviceArn"], made["cluster"], made["serviceName"]
        self.url = made["activeConfigurations"][0]["ingressPaths"][0]["endpoint"]
        self.visitors = Visitors(platform.command("ca").strip(), self.url)

    def express(self):
        return self.ecs.describe_express_gateway_service(serviceArn=self.arn)["service"]

    def service(self):
        return self.ecs.describe_services(cluster=self.cluster, services=[self.name])["services"][0]

    def tasks(self):
        arns = self.ecs.list_tasks(cluster=self.cluster, serviceName=self.name)["taskArns"]
        return self.ecs.describe_tasks(cluster=self.cluster, tasks=arns)["tasks"] if arns else []

    def settled(self, running=1, seconds=90):
        """Wait until just its primary deployment runs, with so many tasks."""

        def is_so():
            seen = self.service()
            (*rest, _) = seen["deployments"]
            return not rest and seen["deployments"][0]["rolloutState"] == "COMPLETED" and (
                seen["runningCount"] == running and len(self.tasks()) == running
            )  # fmt: skip

        until(is_so, seconds, every=0.1)


def update(story, tag, **more):
    container = {"image": f"000000000000.dkr.ecr.us-east-1.amazonaws.com/express/shop:{tag}", "containerPort": 8080}
    return story.ecs.update_express_gateway_service(serviceArn=story.arn, primaryContainer=container, **more)["service"]


@pytest.fixture(scope="module")
def ecs(platform):
    return platform.client("ecs")


@pytest.fixture(scope="module")
def story(platform, ecs):
    """A service of the image `express/shop:one`, whose URL answers."""
    for version in ("one", "two"):
        platform.push(shop(version), "express/shop", tag=version)
    ecs.create_cluster(clusterName="express")
    made = ecs.create_express_gateway_service(
        cluster="express", serviceName="shop",
        executionRoleArn=f"{EXPRESS}execution", infrastructureRoleArn=f"{EXPRESS}infrastructure",
        primaryContainer={
            "image": "000000000000.dkr.ecr.us-east-1.amazonaws.com/express/shop:one", "containerPort": 8080,
            "environment": [{"name": "GREETING", "value": "hello"}],
        },
        scalingTarget={"minTaskCount": 1, "maxTaskCount": 4},
    )["service"]  # fmt: skip
    story = Story(platform, ecs, made)
    until(lambda: story.visitors.once() == (200, "one"), 90, every=0.1)
    yield story
    with contextlib.suppress(ecs.exceptions.ClientError):
        ecs.delete_express_gateway_service(serviceArn=story.arn)


def failed(answers):
    return [answer for answer in answers if answer[0] != 200]


def test_its_url_answers_over_https_with_the_local_authority(story):
    host = story.url.split(":")[0]
    assert host.startswith("shop-") and host.endswith(".ecs.us-east-1.localhost")
    assert story.visitors.once() == (200, "one")
    told = Visitors(story.platform.command("ca").strip(), story.url.replace("shop-", "nobody-", 1)).once()
    assert told[0] == 404


def test_it_is_an_ordinary_service_of_its_cluster(story):
    story.settled()
    service = story.service()
    assert service["resourceManagementType"] == "ECS"
    (configuration,) = story.express()["activeConfigurations"]
    assert configuration["taskDefinitionArn"] == service["taskDefinition"]
    assert configuration["primaryContainer"]["environment"] == [{"name": "GREETING", "value": "hello"}]
    assert (configuration["cpu"], configuration["memory"], configuration["healthCheckPath"]) == ("256", "512", "/ping")
    managed = {"cluster": "express", "resourceManagementType": "ECS"}
    assert story.ecs.list_services(**managed)["serviceArns"] == [story.arn]


def test_an_update_is_deployed_without_a_failed_request(story):
    story.settled()
    with story.visitors.keep_coming() as answers, story.visitors.keep_coming(2, "/cgi-bin/slow") as slow:
        until(lambda: len(answers) > 20)
        target = update(story, "two")["targetConfiguration"]
        assert target["primaryContainer"]["image"].endswith(":two")
        until(lambda: answers[-1] == (200, "two"), 90)
        story.settled()
        seen = len(slow)
        until(lambda: len(slow) > seen + 2)
    assert failed(answers) == [] and failed(slow) == []
    assert {body for _, body in answers} == {"one", "two"}
    assert target["taskDefinitionArn"] == story.express()["activeConfigurations"][0]["taskDefinitionArn"]


def test_its_scaling_target_is_the_autoscalers_to_carry_out(story):
    resource = {"ServiceNamespace": "ecs", "ResourceIds": ["service/express/shop"]}
    scaling = story.platform.client("application-autoscaling")
    bounds = {"minTaskCount": 3, "maxTaskCount": 5, "autoScalingMetric": "REQUEST_COUNT_PER_TARGET",
              "autoScalingTargetValue": 100_000}  # fmt: skip
    story.settled()
    with story.visitors.keep_coming(2, pause=0.02) as answers:
        story.ecs.update_express_gateway_service(serviceArn=story.arn, scalingTarget=bounds)
        story.settled(running=3)
        (target,) = scaling.describe_scalable_targets(**resource)["ScalableTargets"]
        assert (target["MinCapacity"], target["MaxCapacity"]) == (3, 5)
        (policy,) = scaling.describe_scaling_policies(ServiceNamespace="ecs", ResourceId="service/express/shop")[
            "ScalingPolicies"
        ]
        assert policy["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] == 100_000
    assert failed(answers) == []


def test_a_killed_task_is_replaced_and_no_request_fails(story):
    story.settled(running=3)
    before = {task["taskArn"] for task in story.tasks()}
    own = until(lambda: len(found := processes(story.platform.data, *SERVED)) == 3 and found, 60, every=0.1)
    with story.visitors.keep_coming(3) as answers, story.visitors.keep_coming(2, "/cgi-bin/slow") as slow:
        until(lambda: len(answers) > 20 and len(slow) > 4)
        os.kill(own[0], 9)
        until(lambda: {task["taskArn"] for task in story.tasks()} - before, 60, every=0.05)
        story.settled(running=3)
        victim = next(task["taskArn"] for task in story.tasks() if task["taskArn"] in before)
        story.ecs.stop_task(cluster="express", task=victim, reason="a test")
        until(lambda: len({task["taskArn"] for task in story.tasks()} - before) == 2, 60, every=0.05)
        story.settled(running=3)
    assert failed(answers) == [] and failed(slow) == []


def test_a_version_that_never_answers_its_check_is_taken_back(story):
    story.settled(running=3)
    story.platform.push(busybox_image({}, command=["false"]), "express/shop", tag="broken")
    with story.visitors.keep_coming(2, pause=0.02) as answers:
        update(story, "broken")
        rollouts = lambda: story.ecs.list_service_deployments(cluster="express", service="shop")["serviceDeployments"]  # noqa: E731
        until(lambda: rollouts()[0]["status"] == "ROLLBACK_SUCCESSFUL", 120, every=0.2)
        story.settled(running=3)
    assert failed(answers) == []
    (configuration,) = story.express()["activeConfigurations"]
    assert configuration["primaryContainer"]["image"].endswith(":two")


def test_a_part_of_the_requests_goes_to_a_new_version_first(story):
    story.settled(running=3)
    pauses = [{"targetType": "PAUSE", "lifecycleStages": ["PRE_PRODUCTION_TRAFFIC_SHIFT"]}]
    quarter = {"canaryPercent": 25.0, "canaryBakeTimeInMinutes": 0}
    story.ecs.update_service(cluster="express", service="shop", deploymentConfiguration={
        "strategy": "CANARY", "canaryConfiguration": quarter, "lifecycleHooks": pauses})  # fmt: skip
    with story.visitors.keep_coming(2, pause=0.01) as answers:
        update(story, "one")

        def shares(ones):
            """Whether of the next answers so many of a hundred are of version one, as nearly as whole weights get."""
            seen = len(answers)
            until(lambda: len(answers) >= seen + 200, 60)
            return abs(100 * answers[seen : seen + 200].count((200, "one")) / 200 - ones) <= 4

        for ones in (0, 25):
            hook = until(lambda: paused(story), 60, every=0.1)
            until(lambda ones=ones: shares(ones), 60)
            story.ecs.continue_service_deployment(
                serviceDeploymentArn=story.express()["currentDeployment"], hookId=hook
            )
            until(lambda hook=hook: paused(story) != hook, 60, every=0.1)
        until(lambda: shares(100), 60)
        story.settled(running=3)
    assert failed(answers) == []


def test_a_version_whose_requests_fail_is_taken_back_when_the_alarm_on_them_goes_off(story):
    story.settled(running=3)
    cloudwatch = story.platform.client("cloudwatch")
    (alarm,) = cloudwatch.describe_alarms(AlarmNamePrefix="ecs-express-shop-")["MetricAlarms"]
    assert (alarm["Threshold"], alarm["DatapointsToAlarm"], alarm["EvaluationPeriods"]) == (1.0, 2, 3)
    story.platform.push(busybox_image({"/www/ping": File("pong")}, command=list(SERVED)), "express/shop", tag="empty")
    half = {"canaryPercent": 50.0, "canaryBakeTimeInMinutes": 30}
    story.ecs.update_service(cluster="express", service="shop", deploymentConfiguration={
        "strategy": "CANARY", "canaryConfiguration": half, "lifecycleHooks": []})  # fmt: skip
    with story.visitors.keep_coming(2, pause=0.01) as answers:
        update(story, "empty")
        until(lambda: 404 in [status for status, _ in answers[-20:]], 60)
        # The monitor's own judgement takes two minutes of such answers: tests/integration/test_monitor_express.py.
        cloudwatch.set_alarm_state(AlarmName=alarm["AlarmName"], StateValue="ALARM", StateReason="404 Not Found")
        rollouts = lambda: story.ecs.list_service_deployments(cluster="express", service="shop")["serviceDeployments"]  # noqa: E731
        until(lambda: rollouts()[0]["status"] == "ROLLBACK_SUCCESSFUL", 90, every=0.2)
        story.settled(running=3)
        seen = len(answers)
        until(lambda: len(answers) > seen + 40)
    assert failed(answers[seen:]) == []
    arn = rollouts()[0]["serviceDeploymentArn"]
    (told,) = story.ecs.describe_service_deployments(serviceDeploymentArns=[arn])["serviceDeployments"]
    assert told["alarms"]["triggeredAlarmNames"] == [alarm["AlarmName"]]
    revision = told["rollback"]["serviceRevisionArn"]
    (shown,) = story.ecs.describe_service_revisions(serviceRevisionArns=[revision])["serviceRevisions"]
    (managed,) = shown["ecsManagedResources"]["metricAlarms"]
    assert (managed["arn"], managed["status"]) == (alarm["AlarmArn"], "ACTIVE")


def paused(story):
    """The id of the hook that its deployment waits for."""
    arn = story.express()["currentDeployment"]
    (told,) = story.ecs.describe_service_deployments(serviceDeploymentArns=[arn])["serviceDeployments"]
    waiting = [h["hookId"] for h in told.get("lifecycleHookDetails", ()) if h["status"] == "AWAITING_ACTION"]
    return waiting[0] if waiting else None


def test_what_was_served_is_counted_and_its_log_is_there(story):
    cloudwatch = story.platform.client("cloudwatch")
    metrics = lambda: {  # noqa: E731
        metric["MetricName"]
        for metric in cloudwatch.list_metrics(Namespace="AWS/ApplicationELB")["Metrics"]
        if {"Name": "ServiceName", "Value": "shop"} in metric["Dimensions"]
    }
    until(lambda: {"RequestCount", "RequestCountPerTarget", "HealthyHostCount"} <= metrics(), 60, every=0.5)
    group = story.express()["activeConfigurations"][0]["primaryContainer"]["awsLogsConfiguration"]["logGroup"]
    assert group.startswith("/aws/ecs/express/shop-")
    shown = json.loads(_get(story.platform, "app_runner_gateway", "/services"))["express"]
    assert [(each["name"], len(each["tasks"])) for each in shown] == [("shop", 3)]
    assert story.url in story.platform.command("top", "--once")


def test_a_deleted_service_is_gone(story):
    told = story.ecs.delete_express_gateway_service(serviceArn=story.arn)["service"]
    assert told["status"]["statusCode"] == "DRAINING"
    until(lambda: story.visitors.once()[0] == 404, 30)
    until(lambda: story.express()["status"]["statusCode"] == "INACTIVE", 90)
    assert story.tasks() == []
    resource = {"ServiceNamespace": "ecs", "ResourceIds": ["service/express/shop"]}
    scaling = story.platform.client("application-autoscaling")
    until(lambda: scaling.describe_scalable_targets(**resource)["ScalableTargets"] == [], 30)
    until(lambda: json.loads(_get(story.platform, "app_runner_gateway", "/services"))["express"] == [], 30)


def _get(platform, service, path):
    import urllib.request

    port = next(each["port"] for each in platform.info["services"] if each["name"] == service)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
        return answer.read()
