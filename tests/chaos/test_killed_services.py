"""Each service a process of its own, killed in the middle of the flow and started again: the flow completes, nothing is
lost or done twice, and what was served stays served meanwhile."""

import contextlib
import http.client
import itertools
import json
import os
import socket
import ssl
import threading
import urllib.request

import pytest

from tests.builders.flow import CLUSTER, COUNT, NAMESPACE, Flow, Patient
from tests.builders.images import File, busybox_image
from tests.builders.platform import until
from tests.builders.processes import NODES, SERVICES, process_platform
from tests.builders.webhooks import Target

NUMBERS = itertools.count()
TIMES = {
    "ROADSTEAD_SCHEDULER_NODE_SILENCE_S": "6",
    "ROADSTEAD_SCHEDULER_LEASE_TTL_S": "2",
    "ROADSTEAD_AUTOSCALER_LEASE_TTL_S": "2",
}
ONCE = ("task.placed.v1", "task.running.v1", "instance.registered.v1", "image.pushed.v1", "image.scanned.v1")


@pytest.fixture(scope="module")
def platform():
    if os.geteuid() != 0:
        pytest.skip("real containers take root")
    with process_platform(**TIMES) as running:
        running.client("ecs").create_cluster(clusterName=CLUSTER)
        cloud_map = running.client("servicediscovery", inject_host_prefix=False)
        cloud_map.create_private_dns_namespace(Name=NAMESPACE, Vpc="vpc-local")
        yield running


@pytest.fixture
def served(platform):
    """A flow that has come to its first version, and to its end when the test has."""
    flow = Flow(platform, f"served-{next(NUMBERS)}")
    flow.push("1")
    flow.create()
    flow.completed()
    yield flow
    flow.ecs.delete_service(cluster=CLUSTER, service=flow.name, force=True)


@pytest.mark.parametrize("victim", [*SERVICES, "edge", "nats", "agent-a"])
def test_one_killed_in_the_middle_of_a_start_and_of_a_rollout_does_not_stop_the_flow(platform, victim):
    flow = Flow(platform, f"killed-{victim}")
    flow.push("1")
    flow.create()
    platform[victim].kill()
    platform.restart(victim)
    flow.completed()
    flow.push("2")
    flow.update()
    platform[victim].kill()
    platform.restart(victim)
    flow.completed()
    until(lambda: flow.happened("image.scanned.v1") == {"image.scanned.v1": {1: 2}})
    images, tasks = {1: 2}, {1: 2 * COUNT}
    assert flow.happened(*ONCE) == dict(zip(ONCE, (tasks, tasks, tasks, images, images), strict=True))
    flow.ecs.delete_service(cluster=CLUSTER, service=flow.name, force=True)


def test_what_is_served_stays_served_while_all_that_decides_is_away(platform, served):
    running = served.running()
    url = app_runner_url(platform)
    away = [name for name in ("nats", *SERVICES, "edge") if name != "discovery"]
    with asked_all_the_time(lambda: (served.served(), get(platform, url))) as answers:
        for name in away:
            platform[name].kill()
        told = len(answers)
        until(lambda: len(answers) > told + 20)
        platform.restart(*away)
        until(lambda: served.is_stable() and served.is_served())
        told = len(answers)
        until(lambda: len(answers) > told + 5)
    assert set(map(repr, answers)) == {repr(([f"{served.name} 1"] * COUNT, (200, "hello")))}
    assert served.running() == running
    assert served.happened("task.placed.v1") == {"task.placed.v1": {1: COUNT}}


def test_a_webhook_is_told_of_what_happened_while_nobody_could_tell_it(platform):
    target = Target()
    key = (platform.data / "events" / "door.key").read_text()
    pattern = {"detail": {"group": ["service:told"], "lastStatus": ["RUNNING"]}}
    request = urllib.request.Request(
        f"http://127.0.0.1:{platform.ports['events']}/webhooks",
        json.dumps({"name": "told", "url": target.url, "pattern": pattern}).encode(),
        {"Authorization": f"Bearer {key}"},
    )
    urllib.request.urlopen(request).close()
    platform["events"].kill()
    flow = Flow(platform, "told")
    flow.push("1")
    flow.create()
    flow.completed()
    assert target.received == []
    platform.restart("events")
    until(lambda: len(target.taken()) >= COUNT)
    told = [event["detail"]["taskArn"] for event in target.taken()]
    assert sorted(told) == sorted(flow.ecs.list_tasks(cluster=CLUSTER, serviceName="told")["taskArns"])
    flow.ecs.delete_service(cluster=CLUSTER, service=flow.name, force=True)
    target.close()


def test_an_image_that_is_pushed_while_the_scanner_is_away_is_scanned_once_it_is_back(platform):
    flow = Flow(platform, "unscanned")
    platform["scanner"].kill()
    digest = flow.push("1")
    assert flow.happened("scan.requested.v1") == {"scan.requested.v1": {}}
    platform.restart("scanner")
    ecr = Patient(platform.client("ecr"))
    image = {"repositoryName": flow.name, "imageId": {"imageDigest": digest}}
    until(lambda: ecr.describe_image_scan_findings(**image)["imageScanStatus"]["status"] == "COMPLETE", every=0.05)
    wanted = {"image.pushed.v1": {1: 1}, "scan.requested.v1": {1: 1}, "image.scanned.v1": {1: 1}}
    assert flow.happened(*wanted) == wanted


def test_the_autoscaler_killed_between_its_decision_and_the_count_scales_once(platform, served):
    scaling = Patient(platform.client("application-autoscaling"))
    target = {
        "ServiceNamespace": "ecs",
        "ResourceId": f"service/{CLUSTER}/{served.name}",
        "ScalableDimension": "ecs:service:DesiredCount",
    }
    activities = lambda: scaling.describe_scaling_activities(**target)["ScalingActivities"]  # noqa: E731
    platform["scheduler"].kill()
    scaling.register_scalable_target(**target, MinCapacity=COUNT + 1, MaxCapacity=COUNT + 2)
    until(lambda: [a["StatusCode"] for a in activities()] in (["Pending"], ["InProgress"]), every=0.05)
    platform["autoscaler"].kill()
    platform.restart("scheduler", "autoscaler")
    served.completed(COUNT + 1)
    until(lambda: [a["StatusCode"] for a in activities()] == ["Successful"], every=0.05)
    assert served.happened("task.placed.v1") == {"task.placed.v1": {1: COUNT + 1}}


def test_a_scheduler_that_stalls_while_another_takes_over_does_nothing_twice(platform, served):
    second = platform.copy("scheduler", "scheduler-2")
    second.start()
    platform.ready("scheduler-2")
    served.push("2")
    served.update()
    platform["scheduler"].stall()
    try:
        served.ask(platform.at("scheduler-2"))
        until(lambda: "leader.began" in second.log.read_text(), 60, every=0.02)
        platform["scheduler"].go_on()
        served.completed()
        assert served.happened("task.placed.v1") == {"task.placed.v1": {1: 2 * COUNT}}
    finally:
        platform["scheduler"].go_on()
        served.ask(platform)
        second.kill()


def test_a_scheduler_killed_as_a_service_comes_to_a_gateway_and_leaves_it_is_followed_by_one_that_goes_on(
    platform, served
):
    ecs, scheduler = served.ecs, platform["scheduler"]
    role = "arn:aws:iam::000000000000:role/gateways"
    ecs.create_gateway(
        name="front", infrastructureRoleArn=role, deletionProtection=False, configuration={"hostSharedAlb": {}}
    )
    ecs.associate_gateway_with_cluster(gateway="front", cluster=CLUSTER)
    connector = {"portName": "http", "deregistrationDelay": {"timeoutSeconds": 5}}
    routes = lambda: ecs.list_gateway_routes(gateway="front")["gatewayRoutes"]  # noqa: E731

    def update(connectors):
        ecs.update_service(cluster=CLUSTER, service=served.name, gatewayConnectors=connectors)
        scheduler.kill()
        platform.restart("scheduler")

    def answer():
        with contextlib.suppress(OSError, http.client.HTTPException):
            return get(platform, host)

    update([connector])
    (route,) = routes()
    shown = ecs.describe_gateway_route(gatewayRouteArn=route["gatewayRouteArn"])["gatewayRoute"]
    host = shown["serviceUrl"].removeprefix("https://").partition(":")[0]
    until(lambda: answer() == (200, f"{served.name} 1"), 90, every=0.05)
    scheduler.kill()
    platform.restart("scheduler")
    served.completed()
    update([])
    until(lambda: routes() == [], 90, every=0.05)
    served.completed()
    until(lambda: answer()[0] == 404)
    assert served.happened("task.placed.v1") == {"task.placed.v1": {1: 3 * COUNT}}
    ecs.disassociate_gateway_from_cluster(gateway="front", cluster=CLUSTER)
    ecs.delete_gateway(gateway="front")


@pytest.mark.parametrize("ends", ["CONTINUE", "ROLLBACK"])
def test_a_scheduler_killed_at_each_stage_of_a_shift_is_followed_by_one_that_goes_on(platform, ends):
    stages = ["PRE_SCALE_UP", "POST_SCALE_UP", "PRE_PRODUCTION_TRAFFIC_SHIFT", "POST_PRODUCTION_TRAFFIC_SHIFT"]
    flow = Flow(platform, f"shifted-{ends.lower()}")
    flow.push("1")
    linear = {"strategy": "LINEAR", "linearConfiguration": {"stepPercent": 50.0, "stepBakeTimeInMinutes": 0}}
    flow.create(deploymentConfiguration=linear)
    flow.completed()
    until(lambda: flow.deployment()["status"] == "SUCCESSFUL", 60)
    with asked_all_the_time(flow.served) as answers:
        flow.push("2")
        pauses = [{"targetType": "PAUSE", "lifecycleStages": stages}]
        flow.update(deploymentConfiguration={**linear, "lifecycleHooks": pauses})
        passed, paused = (
            [],
            lambda: [
                h["hookId"] for h in flow.deployment()["lifecycleHookDetails"] if h["status"] == "AWAITING_ACTION"
            ],
        )
        while len(passed) < 5:
            (hook,) = until(lambda: [h for h in paused() if h not in passed], 60, every=0.05)
            passed.append(hook)
            platform["scheduler"].kill()
            platform.restart("scheduler")
            action = ends if len(passed) == 5 else "CONTINUE"
            arn = flow.deployment()["serviceDeploymentArn"]
            flow.ecs.continue_service_deployment(serviceDeploymentArn=arn, hookId=hook, action=action)
            if len(passed) % 2:
                platform["scheduler"].kill()
                platform.restart("scheduler")
        flow.version = "2" if ends == "CONTINUE" else "1"
        flow.completed()
    told = [answer if isinstance(answer, list) else [repr(answer)] for answer in answers]
    pages = {page for answer in told for page in answer or ["nobody"]}
    assert pages <= {f"{flow.name} 1", f"{flow.name} 2"}
    assert flow.happened("task.placed.v1") == {"task.placed.v1": {1: 2 * COUNT}}
    flow.ecs.delete_service(cluster=CLUSTER, service=flow.name, force=True)


def test_the_tasks_of_a_node_that_stalls_move_and_its_agent_ends_them_when_it_goes_on(platform, served):
    lost = {t["taskArn"].rpartition("/")[2] for t in served.tasks() if t["availabilityZone"] == NODES["agent-b"]}
    platform["agent-b"].stall()
    try:
        until(lambda: not served.running() & lost, 60, every=0.05)
        served.completed(containers=COUNT + len(lost))  # nobody could stop what runs there
        assert {t["availabilityZone"] for t in served.tasks()} == {NODES["agent-a"]}
    finally:
        platform["agent-b"].go_on()
    until(lambda: served.containers() == COUNT)
    assert served.happened("task.placed.v1") == {"task.placed.v1": {1: COUNT + len(lost)}}
    assert all(t["stoppedReason"] for t in served.tasks("STOPPED"))


def test_a_gateway_whose_authority_is_damaged_does_not_start_and_names_the_file(platform):
    gateway, certificate = platform["app_runner_gateway"], platform.data / "app_runner_gateway" / "ca.pem"
    whole = certificate.read_bytes()
    gateway.kill()
    try:
        certificate.write_bytes(b"no certificate")
        gateway.start()
        until(lambda: not gateway.pid, 60)
        assert f"{certificate}" in gateway.last_words()
    finally:
        certificate.write_bytes(whole)
        gateway.kill()
        platform.restart("app_runner_gateway")


class asked_all_the_time:
    """Asks again and again in a thread; gives the list of all answers, what went wrong among them."""

    def __init__(self, ask):
        self._ask, self._over, self._answers = ask, threading.Event(), []

    def __enter__(self):
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self._answers

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def _run(self):
        while not self._over.wait(0.02):
            try:
                self._answers.append(self._ask())
            except OSError as error:
                self._answers.append(error)


def app_runner_url(platform) -> str:
    """The host of an App Runner service that says hello."""
    files = {"/www/index.html": File("hello")}
    image = busybox_image(files, command=["httpd", "-f", "-p", "8080", "-h", "/www"])
    uri = platform.push(image, "hello").replace(platform.registry, "000000000000.dkr.ecr.us-east-1.amazonaws.com")
    client = platform.client("apprunner")
    service = client.create_service(
        ServiceName="hello",
        SourceConfiguration={
            "ImageRepository": {
                "ImageIdentifier": uri,
                "ImageRepositoryType": "ECR",
                "ImageConfiguration": {"Port": "8080"},
            }
        },
        InstanceConfiguration={"Cpu": "0.25 vCPU", "Memory": "0.5 GB"},
    )["Service"]
    arn = service["ServiceArn"]
    until(lambda: client.describe_service(ServiceArn=arn)["Service"]["Status"] == "RUNNING", 60, every=0.05)
    return service["ServiceUrl"].partition(":")[0]


def get(platform, host) -> tuple[int, str]:
    """The answer over HTTPS, the platform's own authority being trusted; .localhost is this machine."""
    context = ssl.create_default_context(cafile=platform.data / "app_runner_gateway" / "ca.pem")
    connection = http.client.HTTPSConnection(host, timeout=30)
    plain = socket.create_connection(("127.0.0.1", platform.ports["https"]), timeout=30)
    connection.sock = context.wrap_socket(plain, server_hostname=host)
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()
