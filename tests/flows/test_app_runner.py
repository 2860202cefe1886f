"""An App Runner service from its first request to its last, over HTTPS and with real instances."""

import contextlib
import datetime
import os
import time

import pytest

from tests.builders import dns
from tests.builders.images import File, busybox_image
from tests.builders.platform import processes, until
from tests.builders.visitors import Visitors

SLOW = "#!/bin/sh\nsleep 1\necho Content-Type: text/plain\necho\necho slow\n"


def shop(version):
    files = {"/www/index.html": File(version), "/www/cgi-bin/slow": File(SLOW, mode=0o755)}
    return busybox_image(files, command=["httpd", "-f", "-p", "8080", "-h", "/www"])


def source(tag="live", auto=True):
    return {
        "ImageRepository": {
            "ImageIdentifier": f"000000000000.dkr.ecr.us-east-1.amazonaws.com/apprunner/shop:{tag}",
            "ImageRepositoryType": "ECR",
            "ImageConfiguration": {"Port": "8080"},
        },
        "AutoDeploymentsEnabled": auto,
    }


SMALL = {"Cpu": "0.25 vCPU", "Memory": "0.5 GB"}
PROMPT = {"Protocol": "HTTP", "Path": "/", "Interval": 1, "Timeout": 2}


class Story:
    """One service, with what the tests ask of it."""

    def __init__(self, platform, client, arn, url) -> None:
        self.platform, self.client, self.arn = platform, client, arn
        self.visitors = Visitors(platform.command("ca").strip(), url)

    def described(self):
        return self.client.describe_service(ServiceArn=self.arn)["Service"]

    def settled(self, status="RUNNING", seconds=60):
        until(lambda: self.described()["Status"] != "OPERATION_IN_PROGRESS", seconds, every=0.05)
        assert self.described()["Status"] == status

    def operations(self):
        found = self.client.list_operations(ServiceArn=self.arn)["OperationSummaryList"]
        return [(o["Type"], o["Status"]) for o in found]

    def instances(self):
        ecs = self.platform.client("ecs")
        cluster = {"cluster": "apprunner"}
        arns = ecs.list_tasks(**cluster)["taskArns"]
        tasks = ecs.describe_tasks(**cluster, tasks=arns)["tasks"] if arns else []
        mine = f"service:{self.described()['ServiceName']}-"
        return [t for t in tasks if t["group"].startswith(mine) and t["lastStatus"] == "RUNNING"]


@pytest.fixture(scope="module")
def app_runner(platform):
    return platform.client("apprunner")


@pytest.fixture(scope="module")
def story(platform, app_runner):
    """A service of the image `apprunner/shop:live`, running."""
    platform.push(shop("one"), "apprunner/shop", tag="live")
    scaling = app_runner.create_auto_scaling_configuration(
        AutoScalingConfigurationName="small-steps", MaxConcurrency=2, MinSize=1, MaxSize=3
    )["AutoScalingConfiguration"]["AutoScalingConfigurationArn"]
    service = app_runner.create_service(
        ServiceName="shop", SourceConfiguration=source(), InstanceConfiguration=SMALL,
        HealthCheckConfiguration=PROMPT, AutoScalingConfigurationArn=scaling,
    )["Service"]  # fmt: skip
    assert service["Status"] == "OPERATION_IN_PROGRESS"
    story = Story(platform, app_runner, service["ServiceArn"], service["ServiceUrl"])
    story.settled()
    yield story
    with contextlib.suppress(app_runner.exceptions.InvalidStateException):
        app_runner.delete_service(ServiceArn=story.arn)


def address(task):
    details = (d for a in task["attachments"] for d in a["details"])
    return next(d["value"] for d in details if d["name"] == "privateIPv4Address")


def failed(answers):
    return [answer for answer in answers if answer[0] != 200]


def test_a_service_answers_over_https_with_the_local_authority(story):
    assert story.visitors.once() == (200, "one")
    assert story.operations()[-1] == ("CREATE_SERVICE", "SUCCEEDED")


def test_its_instances_are_found_by_name(story):
    def found():
        answer = dns.ask(story.platform.info["dns_port"], "shop.apprunner.local")
        return set(answer.data()) == {address(t) for t in story.instances()} != set()

    until(found, 30)


def test_a_push_is_deployed_by_itself_without_a_failed_request(story):
    with story.visitors.keep_coming() as answers:
        until(lambda: len(answers) > 20)
        story.platform.push(shop("two"), "apprunner/shop", tag="live")
        until(lambda: answers[-1] == (200, "two"), 60)
        story.settled()
        until(lambda: len(story.instances()) == 1, 60, every=0.1)
    assert failed(answers) == []
    assert story.operations()[0] == ("START_DEPLOYMENT", "SUCCEEDED")


def test_an_update_to_what_never_runs_is_taken_back_without_a_failed_request(story):
    broken = busybox_image({}, command=["false"])
    story.platform.push(broken, "apprunner/shop", tag="broken")
    with story.visitors.keep_coming(2) as answers:
        story.client.update_service(ServiceArn=story.arn, SourceConfiguration=source("broken"))
        with pytest.raises(story.client.exceptions.InvalidStateException):
            story.client.pause_service(ServiceArn=story.arn)
        story.settled()
    assert failed(answers) == []
    assert story.operations()[0] == ("UPDATE_SERVICE", "ROLLBACK_SUCCEEDED")
    assert story.described()["SourceConfiguration"] == source()
    logs = story.platform.client("logs")
    group = f"/aws/apprunner/shop/{story.arn.rsplit('/', 1)[1]}/service"
    told = logs.get_log_events(logGroupName=group, logStreamName="events")["events"]
    assert "UPDATE_SERVICE failed" in told[-1]["message"]


def test_load_brings_instances_and_its_end_takes_them_away(story):
    with story.visitors.keep_coming(8, "/cgi-bin/slow") as answers:
        until(lambda: len(story.instances()) == 3, 60, every=0.1)
        until(lambda: len(answers) > 30, 60)
    assert failed(answers) == []
    with story.visitors.keep_coming(1, pause=0.05) as calm:
        until(lambda: len(story.instances()) == 1, 60, every=0.1)
    assert failed(calm) == []


def test_what_was_served_is_measured(story):
    cloudwatch = story.platform.client("cloudwatch")
    dimensions = [{"Name": "ServiceName", "Value": "shop"}, {"Name": "ServiceID", "Value": story.arn.rsplit("/", 1)[1]}]

    def requests():
        now = datetime.datetime.now(datetime.UTC)
        told = cloudwatch.get_metric_statistics(
            Namespace="AWS/AppRunner", MetricName="Requests", Dimensions=dimensions, Statistics=["Sum"], Period=60,
            StartTime=now - datetime.timedelta(minutes=15), EndTime=now + datetime.timedelta(minutes=1),
        )  # fmt: skip
        return sum(point["Sum"] for point in told["Datapoints"]) > 100

    until(requests, 60, every=0.5)
    names = {m["MetricName"] for m in cloudwatch.list_metrics(Namespace="AWS/AppRunner")["Metrics"]}
    assert {"ActiveInstances", "Concurrency", "Requests", "2xxStatusResponses", "5xxStatusResponses"} <= names


def test_a_killed_instance_is_replaced_and_its_requests_are_held(story):
    own = ("httpd", "-f", "-p", "8080", "-h", "/www")
    (victim,) = until(lambda: len(found := processes(story.platform.data, *own)) == 1 and found, 60)
    before = {t["taskArn"] for t in story.instances()}
    with story.visitors.keep_coming(2, pause=0.05) as answers:
        until(lambda: len(answers) > 5)
        os.kill(victim, 9)
        until(lambda: {t["taskArn"] for t in story.instances()} - before, 60, every=0.05)
        seen = len(answers)
        until(lambda: len(answers) > seen + 10, 60)
    assert answers[-1] == (200, "two")
    assert len(failed(answers)) <= 2, "what was on the killed instance may fail, nothing else"


def test_a_paused_service_has_no_instance_and_a_resumed_one_answers_again(story):
    story.client.pause_service(ServiceArn=story.arn)
    story.settled("PAUSED")
    until(lambda: story.instances() == [])
    until(lambda: story.visitors.once()[0] == 404)
    story.client.resume_service(ServiceArn=story.arn)
    story.settled()
    until(lambda: story.visitors.once() == (200, "two"), 30)


def test_a_killed_proxy_comes_back_with_everything(story):
    port = next(s["port"] for s in story.platform.info["services"] if s["name"] == "app_runner_gateway")
    state = lambda: _get(port)  # noqa: E731
    before = state()["haproxy"]
    os.kill(before, 9)
    began = time.monotonic()
    until(lambda: story.visitors.once() == (200, "two"), 30)
    assert state()["haproxy"] != before
    print(f"answered again after {time.monotonic() - began:.2f} s")


def test_a_request_goes_on_its_way_in_its_own_trace_and_the_first_one_ends_the_deployments(story):
    trace = os.urandom(16).hex()

    def traced(request, **kwargs):
        request.headers["traceparent"] = f"00-{trace}-{os.urandom(8).hex()}-01"

    story.client.meta.events.register("before-send.apprunner.StartDeployment", traced)
    try:
        story.client.start_deployment(ServiceArn=story.arn)
    finally:
        story.client.meta.events.unregister("before-send.apprunner.StartDeployment", traced)
    story.settled()

    def told():
        story.visitors.once()
        return "first request" in (shown := story.platform.command("trace", trace, check=False)) and shown

    shown = until(told, 30, every=0.2)
    assert "put_workload" in shown


def test_a_deleted_service_is_gone(story):
    story.client.delete_service(ServiceArn=story.arn)
    story.settled("DELETED")
    until(lambda: story.instances() == [])
    until(lambda: story.visitors.once()[0] == 404)
    until(lambda: dns.ask(story.platform.info["dns_port"], "shop.apprunner.local").data() == [], 30)
    assert story.arn not in [s["ServiceArn"] for s in story.client.list_services()["ServiceSummaryList"]]


def _get(port):
    import json
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/services") as answer:
        return json.load(answer)
