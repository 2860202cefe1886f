"""`backend.local` from inside `frontend`: names of real containers, asked by real containers and by the host."""

import os
import signal

import pytest

from tests.builders import dns
from tests.builders.images import File, busybox_image
from tests.builders.platform import FARGATE, processes, sleeper, until

CLUSTER = "names"
LOGS = {
    "logConfiguration": {
        "logDriver": "awslogs",
        "options": {
            "awslogs-group": "/names",
            "awslogs-region": "us-east-1",
            "awslogs-stream-prefix": "t",
            "awslogs-create-group": "true",
        },
    }
}


@pytest.fixture(scope="module")
def ecs(platform):
    client = platform.client("ecs")
    client.create_cluster(clusterName=CLUSTER)
    return client


@pytest.fixture(scope="module")
def backend(platform, ecs):
    """A service of two tasks that is found as backend.shop.local; the Cloud Map service's id."""
    cloud_map = platform.client("servicediscovery", inject_host_prefix=False)
    operation = cloud_map.create_private_dns_namespace(Name="shop.local", Vpc="vpc-local")["OperationId"]
    namespace = cloud_map.get_operation(OperationId=operation)["Operation"]["Targets"]["NAMESPACE"]
    service = cloud_map.create_service(
        Name="backend",
        DnsConfig={"NamespaceId": namespace, "DnsRecords": [{"Type": "A", "TTL": 5}]},
        HealthCheckCustomConfig={"FailureThreshold": 1},
    )["Service"]
    image = platform.push(busybox_image({"/www/index.html": File("hello from the backend")}), "backend")
    definition = sleeper(image, "httpd", "-f", "-p", "8087", "-h", "/www", portMappings=[{"containerPort": 8087}])
    ecs.register_task_definition(**{**definition, "family": "backend"})
    ecs.create_service(
        cluster=CLUSTER,
        serviceName="backend",
        taskDefinition="backend",
        desiredCount=2,
        serviceRegistries=[{"registryArn": service["Arn"]}],
        **FARGATE,
    )
    yield service["Id"]
    ecs.delete_service(cluster=CLUSTER, service="backend", force=True)


def addresses(platform) -> set[str]:
    return set(dns.ask(platform.info["dns_port"], "backend.shop.local").data())


def running_addresses(ecs) -> set[str]:
    arns = ecs.list_tasks(cluster=CLUSTER, serviceName="backend")["taskArns"]
    tasks = ecs.describe_tasks(cluster=CLUSTER, tasks=arns)["tasks"] if arns else []
    return {
        d["value"]
        for t in tasks
        if t["lastStatus"] == "RUNNING"
        for a in t["attachments"]
        for d in a["details"]
        if d["name"] == "privateIPv4Address"
    }


def test_the_host_finds_the_running_tasks_of_a_service_by_name(platform, ecs, backend):
    until(lambda: len(addresses(platform)) == 2)
    assert addresses(platform) == running_addresses(ecs)
    found = platform.client("servicediscovery", inject_host_prefix=False).discover_instances(
        NamespaceName="shop.local", ServiceName="backend"
    )["Instances"]
    told = [{k: v for k, v in i["Attributes"].items() if k != "AVAILABILITY_ZONE"} for i in found]
    assert sorted(told, key=lambda a: a["AWS_INSTANCE_IPV4"]) == [
        {
            "AWS_INSTANCE_IPV4": address,
            "AWS_INSTANCE_PORT": "8087",
            "ECS_CLUSTER_NAME": CLUSTER,
            "ECS_SERVICE_NAME": "backend",
            "ECS_TASK_DEFINITION_FAMILY": "backend",
            "REGION": "us-east-1",
        }
        for address in sorted(addresses(platform))
    ]


def test_a_frontend_reaches_its_backend_by_name(platform, ecs, backend, busybox):
    until(lambda: len(addresses(platform)) == 2)
    arn = ecs.register_task_definition(
        **sleeper(busybox, "wget", "-q", "-O", "-", "http://backend.shop.local:8087/", **LOGS)
    )["taskDefinition"]["taskDefinitionArn"]
    task = ecs.run_task(cluster=CLUSTER, taskDefinition=arn, **FARGATE)["tasks"][0]["taskArn"]
    logs = platform.client("logs")

    def said():
        try:
            answer = logs.get_log_events(logGroupName="/names", logStreamName=f"t/main/{task.rsplit('/', 1)[1]}")
        except logs.exceptions.ResourceNotFoundException:
            return None
        return [event["message"] for event in answer["events"]] or None

    assert until(said) == ["hello from the backend"]


def test_a_dead_task_leaves_the_dns_and_its_successor_enters_it(platform, ecs, backend):
    until(lambda: len(addresses(platform)) == 2)
    before = addresses(platform)
    victim = next(pid for pid in processes(platform.data, "httpd", "-f", "-p", "8087", "-h", "/www"))
    os.kill(victim, signal.SIGKILL)
    until(lambda: addresses(platform) != before, every=0.005)
    until(lambda: len(addresses(platform)) == 2 and addresses(platform) == running_addresses(ecs))
    assert len(before - addresses(platform)) == 1


def test_a_task_is_registered_in_the_trace_of_the_call_that_wanted_it(platform, ecs, backend):
    trace = os.urandom(16).hex()

    def traced(request, **kwargs):
        request.headers["traceparent"] = f"00-{trace}-{os.urandom(8).hex()}-01"

    ecs.meta.events.register("before-send.ecs.UpdateService", traced)
    try:
        ecs.update_service(cluster=CLUSTER, service="backend", desiredCount=3)
    finally:
        ecs.meta.events.unregister("before-send.ecs.UpdateService", traced)
    until(lambda: len(addresses(platform)) == 3)
    until(lambda: "discovery.register" in platform.command("trace", trace, check=False), every=0.2)
    ecs.update_service(cluster=CLUSTER, service="backend", desiredCount=2)
    until(lambda: len(addresses(platform)) == 2)
