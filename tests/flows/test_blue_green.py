"""A new version beside the old one, tried by a hook, reached by its name as its traffic grows: real containers."""

from __future__ import annotations

import http.server
import json
import threading
import urllib.request
from collections import Counter

import pytest

from tests.builders import dns
from tests.builders.images import File, busybox_image
from tests.builders.platform import FARGATE, sleeper, until

CLUSTER, PORT = "colours", 8093
NAME = "shop.colours.local"


@pytest.fixture(scope="module")
def ecs(platform):
    client = platform.client("ecs")
    client.create_cluster(clusterName=CLUSTER)
    for colour in ("blue", "green"):
        image = platform.push(busybox_image({"/www/index.html": File(colour)}), "colours", colour)
        command = ("httpd", "-f", "-p", str(PORT), "-h", "/www")
        definition = sleeper(image, *command, portMappings=[{"containerPort": PORT}])
        client.register_task_definition(**{**definition, "family": colour})
    return client


@pytest.fixture(scope="module")
def registry(platform):
    """The ARN of a Cloud Map service with the name."""
    cloud_map = platform.client("servicediscovery", inject_host_prefix=False)
    operation = cloud_map.create_private_dns_namespace(Name="colours.local", Vpc="vpc-local")["OperationId"]
    namespace = cloud_map.get_operation(OperationId=operation)["Operation"]["Targets"]["NAMESPACE"]
    records = {"NamespaceId": namespace, "DnsRecords": [{"Type": "A", "TTL": 1}]}
    return cloud_map.create_service(Name="shop", DnsConfig=records)["Service"]["Arn"]


@pytest.fixture
def shop(ecs, registry):
    """A service of two blue tasks, found by its name; gone after the test."""
    ecs.create_service(
        cluster=CLUSTER,
        serviceName="shop",
        taskDefinition="blue",
        desiredCount=2,
        serviceRegistries=[{"registryArn": registry}],
        deploymentConfiguration={"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 0},
        **FARGATE,
    )
    until(lambda: status(ecs, deployment(ecs)) == "SUCCESSFUL", 60)
    yield "shop"
    ecs.delete_service(cluster=CLUSTER, service="shop", force=True)
    ecs.get_waiter("services_inactive").wait(cluster=CLUSTER, services=["shop"], WaiterConfig={"Delay": 1})


class Hook(http.server.ThreadingHTTPServer):
    """A hook's target. `tries` is called with each payload and says whether the stage succeeds."""

    def __init__(self, tries) -> None:
        self.tries, self.stages = tries, []
        super().__init__(("127.0.0.1", 0), Answering)
        self.url = f"http://127.0.0.1:{self.server_port}/"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class Answering(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.stages.append(payload["lifecycleStage"])
        good = self.server.tries(payload)
        body = json.dumps({"hookStatus": "SUCCEEDED" if good else "FAILED"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def deployment(ecs) -> str:
    return ecs.describe_services(cluster=CLUSTER, services=["shop"])["services"][0]["currentServiceDeployment"]


def described(ecs, arn: str) -> dict:
    return ecs.describe_service_deployments(serviceDeploymentArns=[arn])["serviceDeployments"][0]


def status(ecs, arn: str) -> str:
    return described(ecs, arn)["status"]


def page(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}:{PORT}/", timeout=30) as answer:
        return answer.read().decode()


def served(platform, times: int = 1) -> Counter:
    """What the first address that the DNS answers with serves, this often asked."""
    names = (dns.ask(platform.info["dns_port"], NAME).data() for _ in range(times))
    firsts = Counter(addresses[0] for addresses in names)
    found: Counter = Counter()
    for address, count in firsts.items():
        found[page(address)] += count
    return found


def green_pages(ecs) -> list[str]:
    """What the tasks of the new version serve, whom no name leads to yet."""
    arns = ecs.list_tasks(cluster=CLUSTER, serviceName="shop")["taskArns"]
    tasks = ecs.describe_tasks(cluster=CLUSTER, tasks=arns)["tasks"]
    details = [d for t in tasks if ":task-definition/green:" in t["taskDefinitionArn"]
               for a in t["attachments"] for d in a["details"]]  # fmt: skip
    return [page(d["value"]) for d in details if d["name"] == "privateIPv4Address"]


def update(ecs, **configuration) -> str:
    ecs.update_service(cluster=CLUSTER, service="shop", taskDefinition="green", deploymentConfiguration=configuration)
    return deployment(ecs)


def hooked(hook: Hook, *stages: str) -> list[dict]:
    return [{"hookTargetArn": hook.url, "lifecycleStages": list(stages)}]


def test_green_is_tried_by_a_hook_before_any_name_leads_to_it_and_then_serves_alone(platform, ecs, shop):
    wanted = {"POST_SCALE_UP": {"blue"}, "POST_PRODUCTION_TRAFFIC_SHIFT": {"green"}}

    def tries(payload) -> bool:
        until(lambda: set(served(platform, 4)) == wanted[payload["lifecycleStage"]])
        return green_pages(ecs) == ["green", "green"]

    with Hook(tries) as hook:
        arn = update(ecs, strategy="BLUE_GREEN", lifecycleHooks=hooked(hook, *wanted))
        until(lambda: status(ecs, arn) == "SUCCESSFUL", 60)
    assert hook.stages == list(wanted)
    ecs.get_waiter("services_stable").wait(cluster=CLUSTER, services=["shop"], WaiterConfig={"Delay": 1})
    assert set(served(platform, 4)) == {"green"}


def test_green_that_does_not_pass_its_trial_is_taken_down_and_blue_serves_all_along(platform, ecs, shop):
    with Hook(lambda payload: green_pages(ecs) == ["red", "red"]) as hook:
        arn = update(ecs, strategy="BLUE_GREEN", lifecycleHooks=hooked(hook, "POST_TEST_TRAFFIC_SHIFT"))
        until(lambda: status(ecs, arn) == "ROLLBACK_SUCCESSFUL", 60)
    until(lambda: set(served(platform, 4)) == {"blue"})
    until(lambda: green_pages(ecs) == [])


def test_a_canary_gets_its_share_of_the_traffic_until_it_is_told_to_go(platform, ecs, shop):
    canary = {"canaryPercent": 20.0, "canaryBakeTimeInMinutes": 60}
    arn = update(ecs, strategy="CANARY", canaryConfiguration=canary)
    until(lambda: described(ecs, arn).get("lifecycleStage") == "PRODUCTION_TRAFFIC_SHIFT", 60)
    weights = described(ecs, arn)["targetServiceRevision"]["requestedProductionTrafficWeight"]
    assert weights == 20.0
    until(lambda: set(served(platform, 20)) == {"blue", "green"})
    assert 0.1 < served(platform, 400)["green"] / 400 < 0.3
    ecs.stop_service_deployment(serviceDeploymentArn=arn, stopType="ROLLBACK")
    until(lambda: status(ecs, arn) == "ROLLBACK_SUCCESSFUL", 60)
    until(lambda: set(served(platform, 4)) == {"blue"})


def test_an_alarm_that_goes_off_in_the_bake_time_brings_blue_back(platform, ecs, shop):
    cloudwatch = platform.client("cloudwatch")
    metric = {"Namespace": "shop", "MetricName": "errors", "Statistic": "Sum", "Period": 60, "EvaluationPeriods": 1}
    cloudwatch.put_metric_alarm(
        AlarmName="errors",
        Threshold=1.0,
        ComparisonOperator="GreaterThanThreshold",
        TreatMissingData="ignore",
        **metric,
    )
    alarms = {"enable": True, "rollback": True, "alarmNames": ["errors"]}
    arn = update(ecs, strategy="BLUE_GREEN", bakeTimeInMinutes=60, alarms=alarms)
    until(lambda: described(ecs, arn).get("lifecycleStage") == "BAKE_TIME", 60)
    until(lambda: set(served(platform, 4)) == {"green"})
    cloudwatch.set_alarm_state(AlarmName="errors", StateValue="ALARM", StateReason="a test")
    until(lambda: status(ecs, arn) == "ROLLBACK_SUCCESSFUL", 60)
    assert described(ecs, arn)["alarms"]["triggeredAlarmNames"] == ["errors"]
    until(lambda: set(served(platform, 4)) == {"blue"})


def test_two_task_sets_run_side_by_side_and_are_found_by_their_external_ids(platform, ecs, registry):
    of = {"cluster": CLUSTER, "service": "sets"}
    controller = {"type": "EXTERNAL"}
    ecs.create_service(cluster=CLUSTER, serviceName="sets", desiredCount=2, deploymentController=controller)
    for colour, percent in (("blue", 100.0), ("green", 50.0)):
        scale = {"value": percent, "unit": "PERCENT"}
        found = {"serviceRegistries": [{"registryArn": registry}], "externalId": colour}
        ecs.create_task_set(**of, taskDefinition=colour, scale=scale, **found, **FARGATE)

    def sets() -> dict[str, tuple[int, str]]:
        told = ecs.describe_task_sets(**of)["taskSets"]
        return {s["externalId"]: (s["runningCount"], s["stabilityStatus"]) for s in told}

    def found(colour: str) -> int:
        cloud_map = platform.client("servicediscovery", inject_host_prefix=False)
        wanted = {"ECS_TASK_SET_EXTERNAL_ID": colour}
        where = {"NamespaceName": "colours.local", "ServiceName": "shop", "QueryParameters": wanted}
        return len(cloud_map.discover_instances(**where)["Instances"])

    until(lambda: sets() == {"blue": (2, "STEADY_STATE"), "green": (1, "STEADY_STATE")}, 60)
    until(lambda: (found("blue"), found("green")) == (2, 1))
    green = next(s for s in ecs.describe_task_sets(**of)["taskSets"] if s["externalId"] == "green")
    ecs.update_service_primary_task_set(**of, primaryTaskSet=green["taskSetArn"])
    blue = next(s for s in ecs.describe_task_sets(**of)["taskSets"] if s["externalId"] == "blue")
    assert ecs.delete_task_set(**of, taskSet=blue["id"], force=True)["taskSet"]["status"] == "DRAINING"
    until(lambda: sets() == {"green": (1, "STEADY_STATE")}, 60)
    until(lambda: (found("blue"), found("green")) == (0, 1))
    ecs.delete_service(**of, force=True)
    ecs.get_waiter("services_inactive").wait(cluster=CLUSTER, services=["sets"], WaiterConfig={"Delay": 1})
