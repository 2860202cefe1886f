"""boto3 as the judge of ECS: members given back, filters, paginators, waiters, errors."""

import uuid

import botocore.exceptions
import pytest

from tests.builders.platform import FARGATE, sleeper, until

CLUSTER = "judged"

DEFINITION = {
    "family": "everything",
    "taskRoleArn": "arn:aws:iam::000000000000:role/task",
    "executionRoleArn": "arn:aws:iam::000000000000:role/execution",
    "networkMode": "awsvpc",
    "requiresCompatibilities": ["FARGATE"],
    "cpu": "512",
    "memory": "1024",
    "runtimePlatform": {"cpuArchitecture": "X86_64", "operatingSystemFamily": "LINUX"},
    "ephemeralStorage": {"sizeInGiB": 30},
    "volumes": [{"name": "work"}],
    "containerDefinitions": [
        {
            "name": "web",
            "image": "shop:1",
            "cpu": 256,
            "memory": 512,
            "memoryReservation": 128,
            "essential": True,
            "entryPoint": ["/bin/sh", "-c"],
            "command": ["exec httpd -f"],
            "workingDirectory": "/srv",
            "user": "1000:1000",
            "environment": [{"name": "A", "value": "1"}],
            "secrets": [{"name": "S", "valueFrom": "arn:aws:ssm:us-east-1:000000000000:parameter/s"}],
            "portMappings": [{"containerPort": 8080, "hostPort": 8080, "protocol": "tcp", "name": "http"}],
            "mountPoints": [{"sourceVolume": "work", "containerPath": "/work", "readOnly": True}],
            "dependsOn": [{"containerName": "side", "condition": "HEALTHY"}],
            "startTimeout": 20,
            "stopTimeout": 10,
            "readonlyRootFilesystem": True,
            "dockerLabels": {"team": "shop"},
            "ulimits": [{"name": "nofile", "softLimit": 1024, "hardLimit": 2048}],
            "linuxParameters": {"initProcessEnabled": True, "capabilities": {"drop": ["ALL"]}},
            "logConfiguration": {
                "logDriver": "awslogs",
                "options": {"awslogs-group": "g", "awslogs-region": "us-east-1"},
            },
        },
        {
            "name": "side",
            "image": "side:1",
            "essential": False,
            "healthCheck": {
                "command": ["CMD-SHELL", "true"],
                "interval": 5,
                "timeout": 2,
                "retries": 3,
                "startPeriod": 1,
            },
        },
    ],
}


@pytest.fixture(scope="module")
def ecs(platform):
    client = platform.client("ecs")
    client.create_cluster(clusterName=CLUSTER)
    return client


@pytest.fixture(scope="module")
def task(ecs, busybox):
    """A running task with a startedBy of its own; stopped at the end."""
    ecs.register_task_definition(**sleeper(busybox) | {"family": "judged"})
    answer = ecs.run_task(cluster=CLUSTER, taskDefinition="judged", startedBy="the-judge", **FARGATE)
    arn = answer["tasks"][0]["taskArn"]
    ecs.get_waiter("tasks_running").wait(cluster=CLUSTER, tasks=[arn], WaiterConfig={"Delay": 1, "MaxAttempts": 30})
    yield arn
    ecs.stop_task(cluster=CLUSTER, task=arn)
    ecs.get_waiter("tasks_stopped").wait(cluster=CLUSTER, tasks=[arn], WaiterConfig={"Delay": 1, "MaxAttempts": 30})


def contains(answered, asked) -> bool:
    """Whether every member that was asked for was answered; more may be (defaults)."""
    if isinstance(asked, dict):
        return isinstance(answered, dict) and all(contains(answered.get(k), v) for k, v in asked.items())
    if isinstance(asked, list):
        return len(answered) == len(asked) and all(contains(a, b) for a, b in zip(answered, asked, strict=True))
    return answered == asked


def test_every_member_of_a_task_definition_is_given_back(ecs):
    registered = ecs.register_task_definition(**DEFINITION)["taskDefinition"]
    described = ecs.describe_task_definition(taskDefinition="everything")["taskDefinition"]
    assert described == registered
    assert contains(described, DEFINITION), described


def test_revisions_count_up_and_are_never_given_twice(ecs):
    family = f"counted-{uuid.uuid4().hex[:6]}"
    definition = sleeper("x:1") | {"family": family}
    first, second = (ecs.register_task_definition(**definition)["taskDefinition"] for _ in "12")
    ecs.deregister_task_definition(taskDefinition=second["taskDefinitionArn"])
    ecs.delete_task_definitions(taskDefinitions=[second["taskDefinitionArn"]])
    third = ecs.register_task_definition(**definition)["taskDefinition"]
    assert [first["revision"], second["revision"], third["revision"]] == [1, 2, 3]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"family": "judged"}, True),
        ({"family": "other"}, False),
        ({"startedBy": "the-judge"}, True),
        ({"startedBy": "nobody"}, False),
        ({"desiredStatus": "RUNNING"}, True),
        ({"desiredStatus": "STOPPED"}, False),
        ({"launchType": "FARGATE"}, True),
        ({"launchType": "EC2"}, False),
    ],
)
def test_tasks_are_listed_by_filter(ecs, task, filters, found):
    assert (task in ecs.list_tasks(cluster=CLUSTER, **filters)["taskArns"]) is found


def test_a_described_task_has_its_address_zone_and_times(ecs, task):
    (described,) = ecs.describe_tasks(cluster=CLUSTER, tasks=[task])["tasks"]
    details = {d["name"]: d["value"] for d in described["attachments"][0]["details"]}
    container = described["containers"][0]
    assert details["privateIPv4Address"] == container["networkInterfaces"][0]["privateIpv4Address"]
    assert described["createdAt"] <= described["pullStartedAt"] <= described["startedAt"]
    assert container["imageDigest"].startswith("sha256:")


def test_what_is_not_there_is_a_failure_and_not_an_error(ecs):
    arn = f"arn:aws:ecs:us-east-1:000000000000:task/{CLUSTER}/{'0' * 32}"
    assert ecs.describe_tasks(cluster=CLUSTER, tasks=[arn])["failures"] == [{"arn": arn, "reason": "MISSING"}]


def test_pages_of_task_definitions_hold_each_once(ecs):
    family = f"paged-{uuid.uuid4().hex[:6]}"
    made = [
        ecs.register_task_definition(**sleeper("x:1") | {"family": family})["taskDefinition"]["taskDefinitionArn"]
        for _ in range(7)
    ]
    pages = ecs.get_paginator("list_task_definitions").paginate(familyPrefix=family, PaginationConfig={"PageSize": 3})
    assert [arn for page in pages for arn in page["taskDefinitionArns"]] == made


def test_the_same_client_token_runs_the_task_once(ecs, task):
    token = uuid.uuid4().hex
    arns = {
        ecs.run_task(cluster=CLUSTER, taskDefinition="judged", clientToken=token, **FARGATE)["tasks"][0]["taskArn"]
        for _ in range(2)
    }
    assert len(arns) == 1
    for arn in arns:
        ecs.stop_task(cluster=CLUSTER, task=arn)


@pytest.mark.parametrize(
    ("operation", "arguments", "code"),
    [
        ("describe_services", {"cluster": "nosuch", "services": ["x"]}, "ClusterNotFoundException"),
        ("update_service", {"cluster": CLUSTER, "service": "nosuch"}, "ServiceNotFoundException"),
        ("describe_task_definition", {"taskDefinition": "nosuch"}, "ClientException"),
        ("run_task", {"cluster": CLUSTER, "taskDefinition": "judged", "count": 11}, "InvalidParameterException"),
        ("stop_task", {"cluster": CLUSTER, "task": "0" * 32}, "InvalidParameterException"),
        ("create_service", {"cluster": CLUSTER, "serviceName": "bad name!"}, "InvalidParameterException"),
    ],
)
def test_an_error_is_the_one_that_ecs_gives(ecs, task, operation, arguments, code):
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        getattr(ecs, operation)(**arguments)
    assert refused.value.response["Error"]["Code"] == code


def test_a_service_goes_from_active_through_draining_to_inactive(ecs, task):
    ecs.create_service(cluster=CLUSTER, serviceName="brief", taskDefinition="judged", desiredCount=1, **FARGATE)
    quick = {"Delay": 1, "MaxAttempts": 30}
    ecs.get_waiter("services_stable").wait(cluster=CLUSTER, services=["brief"], WaiterConfig=quick)
    assert ecs.list_services(cluster=CLUSTER, launchType="FARGATE")["serviceArns"]
    deleted = ecs.delete_service(cluster=CLUSTER, service="brief", force=True)["service"]
    assert deleted["status"] == "DRAINING"
    ecs.get_waiter("services_inactive").wait(cluster=CLUSTER, services=["brief"], WaiterConfig=quick)
    until(lambda: not ecs.list_tasks(cluster=CLUSTER, serviceName="brief")["taskArns"])


def test_a_provider_an_attribute_a_drained_node_and_a_deployment_s_story(platform, busybox):
    ecs = platform.client("ecs")
    name = f"story{uuid.uuid4().hex[:8]}"
    ecs.create_cluster(clusterName=name)
    group = "arn:aws:autoscaling:us-east-1:000000000000:autoScalingGroup:1:autoScalingGroupName/g"
    ecs.create_capacity_provider(name=name, autoScalingGroupProvider={"autoScalingGroupArn": group})
    described = ecs.describe_capacity_providers(capacityProviders=[name, "FARGATE_SPOT"])["capacityProviders"]
    assert {p["name"]: p["status"] for p in described} == {name: "ACTIVE", "FARGATE_SPOT": "ACTIVE"}
    ecs.delete_capacity_provider(capacityProvider=name)
    nodes = ecs.get_paginator("list_container_instances").paginate(cluster=name).build_full_result()
    chosen, *others = nodes["containerInstanceArns"]
    ecs.put_attributes(cluster=name, attributes=[{"name": "stack", "value": "blue", "targetId": chosen}])
    found = ecs.get_paginator("list_attributes").paginate(
        cluster=name, targetType="container-instance", attributeName="stack"
    )
    assert [a["targetId"] for a in found.build_full_result()["attributes"]] == [chosen]
    ecs.update_container_instances_state(cluster=name, containerInstances=others, status="DRAINING")
    definition = ecs.register_task_definition(**sleeper(busybox) | {"family": name})["taskDefinition"]
    ecs.create_service(
        cluster=name, serviceName="s", taskDefinition=definition["taskDefinitionArn"], desiredCount=2, **FARGATE
    )
    ecs.get_waiter("services_stable").wait(cluster=name, services=["s"], WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    tasks = ecs.list_tasks(cluster=name, serviceName="s")["taskArns"]
    zones = {t["availabilityZone"] for t in ecs.describe_tasks(cluster=name, tasks=tasks)["tasks"]}
    assert len(zones) == 1
    protected = ecs.update_task_protection(cluster=name, tasks=tasks, protectionEnabled=True)["protectedTasks"]
    assert [t["protectionEnabled"] for t in protected] == [True, True]
    arn = until(lambda: _deployments(ecs, name, ["SUCCESSFUL"]))[0]
    (story,) = ecs.describe_service_deployments(serviceDeploymentArns=[arn])["serviceDeployments"]
    revision = story["targetServiceRevision"]["arn"]
    (shown,) = ecs.describe_service_revisions(serviceRevisionArns=[revision])["serviceRevisions"]
    assert shown["taskDefinition"] == definition["taskDefinitionArn"]
    ecs.delete_service(cluster=name, service="s", force=True)


def _deployments(ecs, cluster: str, status: list[str]) -> list[str]:
    answer = ecs.list_service_deployments(cluster=cluster, service="s", status=status)
    return [deployment["serviceDeploymentArn"] for deployment in answer["serviceDeployments"]]
