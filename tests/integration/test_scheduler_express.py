"""Express services against a real NATS: the operations, and that the scheduler goes by what the gateway says."""

import msgspec
import pytest

from contracts.records.app_runner_gateway import INGRESS
from contracts.records.scheduler import SERVICE
from services.shared.errors import AwsError
from tests.builders.ecs import container, register
from tests.builders.waiting import until
from tests.fakes.gateway import INGRESS_HERE, FakeGateway
from tests.integration.test_scheduler import Client, Stage

ROLES = {
    "executionRoleArn": "arn:aws:iam::000000000000:role/execution",
    "infrastructureRoleArn": "arn:aws:iam::000000000000:role/infrastructure",
}
ARN = "arn:aws:ecs:us-east-1:000000000000:service/default/shop"


@pytest.fixture
async def stage(nats_platform, tmp_path):
    stage = Stage(nats_platform, tmp_path)
    stage.gateway = FakeGateway(await nats_platform.bus("app_runner_gateway"))
    try:
        yield stage
    finally:
        await stage.close()
        await stage.gateway.close()


async def ready(stage, ingress=INGRESS_HERE) -> Client:
    app = await stage.scheduler(express_bake_minutes=0)
    await stage.agent()
    await stage.gateway.start(ingress)
    if ingress is not None:
        await until(lambda: app.world.ingress)
    return Client(app)


def asked(**changes):
    container = {"image": "shop:1", "containerPort": 8080}
    return {"serviceName": "shop", **ROLES, "primaryContainer": container, **changes}


async def create(client, **changes):
    return (await client("CreateExpressGatewayService", **asked(**changes)))["service"]


async def described(client, arn=ARN, **members):
    return (await client("DescribeExpressGatewayService", serviceArn=arn, **members))["service"]


async def update(client, **changes):
    return (await client("UpdateExpressGatewayService", serviceArn=ARN, **changes))["service"]


async def refusal(call) -> tuple[str, str]:
    with pytest.raises(AwsError) as error:
        await call
    return error.value.code, error.value.message


async def test_a_service_is_made_with_all_that_it_needs(stage):
    client = await ready(stage)
    made = await create(client, tags=[{"key": "team", "value": "shop"}])
    (configuration,) = made["activeConfigurations"]
    assert configuration["ingressPaths"][0]["accessType"] == "PUBLIC"
    host, port = configuration["ingressPaths"][0]["endpoint"].split(":")
    assert (host.partition("-")[0], host.split(".", 1)[1], port) == ("shop", "ecs.us-east-1.localhost", "8443")
    shown = {k: configuration[k] for k in ("executionRoleArn", "cpu", "memory", "healthCheckPath", "scalingTarget")}
    assert shown == {
        "executionRoleArn": ROLES["executionRoleArn"],
        "cpu": "256",
        "memory": "512",
        "healthCheckPath": "/ping",
        "scalingTarget": {
            "minTaskCount": 1, "maxTaskCount": 20, "autoScalingMetric": "AVERAGE_CPU", "autoScalingTargetValue": 60,
        },
    }  # fmt: skip
    assert (made["serviceArn"], made["infrastructureRoleArn"]) == (ARN, ROLES["infrastructureRoleArn"])
    assert (made["status"]["statusCode"], made["tags"]) == ("ACTIVE", [{"key": "team", "value": "shop"}])
    assert configuration["taskDefinitionArn"].endswith(":task-definition/default-shop:1")
    logs = configuration["primaryContainer"]["awsLogsConfiguration"]
    assert logs["logGroup"].startswith("/aws/ecs/default/shop-") and logs["logStreamPrefix"] == "ecs"
    assert "tags" not in {k for k, v in (await described(client)).items() if v is not None}
    assert (await described(client, include=["TAGS"]))["tags"] == made["tags"]


async def test_it_is_an_ordinary_service_that_ecs_manages(stage):
    client = await ready(stage)
    made = await create(client)
    await client("RegisterTaskDefinition", **msgspec.to_builtins(register("web")))
    await client("CreateService", serviceName="web", taskDefinition="web", desiredCount=0)
    managed = {m: (await client("ListServices", resourceManagementType=m))["serviceArns"] for m in ("ECS", "CUSTOMER")}
    assert managed == {"ECS": [ARN], "CUSTOMER": [ARN.replace("shop", "web")]}
    service = await client.service("shop")
    assert (service["resourceManagementType"], service["desiredCount"]) == ("ECS", 1)
    assert service["currentServiceDeployment"] == made["currentDeployment"]
    (revision,) = service["currentServiceRevisions"]
    assert revision["arn"] == made["activeConfigurations"][0]["serviceRevisionArn"]


async def test_a_service_without_a_name_gets_one(stage):
    client = await ready(stage)
    names = {(await create(client, serviceName=None))["serviceName"] for _ in range(2)}
    assert len(names) == 2 and all(name.startswith("express-") for name in names)


async def test_what_makes_no_sense_is_refused_and_nothing_is_made(stage):
    client = await ready(stage)
    wrong = [
        ({"executionRoleArn": None}, "InvalidParameterException", "executionRoleArn"),
        ({"infrastructureRoleArn": "me"}, "InvalidParameterException", "infrastructureRoleArn"),
        ({"primaryContainer": None}, "InvalidParameterException", "primaryContainer"),
        ({"primaryContainer": {"image": "No Image"}}, "ClientException", "Container.image"),
        ({"serviceName": "no name"}, "InvalidParameterException", "service name"),
        ({"cluster": "nowhere"}, "ClusterNotFoundException", "Cluster"),
        ({"cluster": "apprunner"}, "ClusterNotFoundException", "Cluster"),
        ({"scalingTarget": {"maxTaskCount": 33}}, "InvalidParameterException", "maxTaskCount"),
        ({"cpu": "256", "memory": "9000"}, "ClientException", "Fargate configuration"),
        ({"taskDefinitionArn": "web"}, "InvalidParameterException", "taskDefinitionArn"),
    ]
    for changes, code, named in wrong:
        given = {k: v for k, v in asked(**changes).items() if v is not None}
        told = await refusal(client("CreateExpressGatewayService", **given))
        assert told[0] == code and named in told[1], changes
    assert (await client("ListServices"))["serviceArns"] == []
    assert (await client("ListTaskDefinitions"))["taskDefinitionArns"] == []


async def test_a_name_is_given_once_and_again_when_the_service_is_gone(stage):
    client = await ready(stage)
    await create(client)
    assert await refusal(create(client)) == ("InvalidParameterException", "Creation of service was not idempotent.")
    assert len((await client("ListTaskDefinitions"))["taskDefinitionArns"]) == 1
    await client("DeleteExpressGatewayService", serviceArn=ARN)
    await until(lambda: client.api.world.services.records()[0].status == "INACTIVE")
    assert (await described(client))["status"]["statusCode"] == "INACTIVE"
    assert (await described(client))["activeConfigurations"] == []
    assert (await refusal(update(client, cpu="512", memory="1024")))[0] == "ServiceNotFoundException"
    assert (await refusal(client("DeleteExpressGatewayService", serviceArn=ARN)))[0] == "ServiceNotFoundException"
    assert (await create(client))["status"]["statusCode"] == "ACTIVE"


async def test_a_service_that_is_none_or_no_express_one_is_refused(stage):
    client = await ready(stage)
    await client("RegisterTaskDefinition", **msgspec.to_builtins(register("web")))
    await client("CreateService", serviceName="shop", taskDefinition="web", desiredCount=0)
    for operation in ("Describe", "Update", "Delete"):
        named = f"{operation}ExpressGatewayService"
        assert "not an Express service" in (await refusal(client(named, serviceArn=ARN)))[1]
        other = ARN.replace("shop", "other")
        missing = "ResourceNotFoundException" if operation == "Describe" else "ServiceNotFoundException"
        assert (await refusal(client(named, serviceArn=other)))[0] == missing
        for bad in ("shop", ARN.replace("us-east-1", "eu-west-1"), ARN.replace(":service/", ":task/")):
            assert (await refusal(client(named, serviceArn=bad)))[0] == "InvalidParameterException"


async def test_without_a_gateway_it_is_said_what_is_missing(stage):
    client = await ready(stage, None)
    assert (await refusal(create(client)))[0] == "ServerException"
    gone = msgspec.structs.replace(INGRESS_HERE, missing="haproxy is not installed")
    await stage.gateway.store.put(INGRESS, gone, "ingress.changed.v1")
    await until(lambda: client.api.world.ingress)
    assert await refusal(create(client)) == ("UnsupportedFeatureException", "haproxy is not installed")


async def test_a_definition_of_ones_own_may_be_given(stage):
    client = await ready(stage)
    ports = [{"containerPort": 9000, "name": "web"}]
    own = register("own", container("Main", portMappings=ports, memory=None), container("sidecar", memory=None),
                   networkMode="awsvpc", requiresCompatibilities=["FARGATE"], cpu="256", memory="512")  # fmt: skip
    arn = (await client("RegisterTaskDefinition", **msgspec.to_builtins(own)))["taskDefinition"]["taskDefinitionArn"]
    given = {"serviceName": "shop", "infrastructureRoleArn": ROLES["infrastructureRoleArn"], "taskDefinitionArn": arn}
    made = (await client("CreateExpressGatewayService", **given))["service"]
    (configuration,) = made["activeConfigurations"]
    assert configuration["taskDefinitionArn"] == arn
    assert configuration["primaryContainer"]["containerPort"] == 9000
    await client("RegisterTaskDefinition", **msgspec.to_builtins(register("web")))
    assert "named Main" in (await refusal(update(client, taskDefinitionArn="web")))[1]


async def complete(client):
    """Wait until the service has one deployment, at its end."""
    (service,) = client.api.world.services.records()
    key = SERVICE.key_of(service)

    def over():
        found = client.api.world.services.record(*key).deployments
        return len(found) == 1 and found[0].rollout_state == "COMPLETED"

    await until(over)


def running(stage):
    return sorted(stage.agents["n1"].running())


async def test_an_old_task_stays_until_the_gateway_gives_requests_to_the_new_one(stage):
    client = await ready(stage)
    await create(client)
    (old,) = await until(lambda: running(stage))
    await stage.gateway.says(old, "healthy")
    await complete(client)
    target = (await update(client, primaryContainer={"image": "shop:2", "containerPort": 9000}))["targetConfiguration"]
    assert target["primaryContainer"]["image"] == "shop:2"
    (new,) = await until(lambda: [task for task in running(stage) if task != old])
    both = (await described(client))["activeConfigurations"]
    assert [c["primaryContainer"]["containerPort"] for c in both] == [9000, 8080]
    assert running(stage) == sorted([old, new]), "it runs, and gets no requests yet"
    await stage.gateway.says(new, "healthy")
    await until(lambda: running(stage) == [new])
    await complete(client)
    (configuration,) = (await described(client))["activeConfigurations"]
    assert configuration["taskDefinitionArn"].endswith("default-shop:2")
    task = next(task for task in client.api.world.tasks.records() if task.id == new)
    assert task.drain_s == 30.0


async def test_a_task_that_the_gateway_finds_ill_is_replaced(stage):
    client = await ready(stage)
    await create(client)
    (first,) = await until(lambda: running(stage))
    await stage.gateway.says(first, "healthy")
    await complete(client)
    await stage.gateway.says(first, "unhealthy")
    await until(lambda: running(stage) and running(stage) != [first])
    (task,) = (await client("DescribeTasks", tasks=[first]))["tasks"]
    assert task["stoppedReason"] == "Task failed the gateway's health checks"


async def test_other_bounds_of_scaling_are_no_new_deployment_and_another_check_is(stage):
    client = await ready(stage)
    before = (await create(client))["activeConfigurations"][0]
    target = (await update(client, scalingTarget={"minTaskCount": 2}))["targetConfiguration"]
    assert target["serviceRevisionArn"] == before["serviceRevisionArn"]
    assert target["scalingTarget"]["minTaskCount"] == 2
    assert (await update(client))["targetConfiguration"] == target, "nothing is asked for"
    target = (await update(client, healthCheckPath="/healthz"))["targetConfiguration"]
    assert target["serviceRevisionArn"] != before["serviceRevisionArn"]
    assert (target["healthCheckPath"], target["taskDefinitionArn"]) == ("/healthz", before["taskDefinitionArn"])
    (revision,) = (await client("DescribeServiceRevisions", serviceRevisionArns=[target["serviceRevisionArn"]]))[
        "serviceRevisions"
    ]
    managed = revision["ecsManagedResources"]
    assert managed["ingressPaths"][0]["endpoint"] == target["ingressPaths"][0]["endpoint"]


async def test_the_ordinary_operations_know_it_too(stage):
    client = await ready(stage)
    await create(client)
    await client("UpdateService", service="shop", forceNewDeployment=True)
    first = (await described(client))["activeConfigurations"][0]
    assert (first["healthCheckPath"], first["primaryContainer"]["containerPort"]) == ("/ping", 8080)
    await client("DeleteService", service="shop", force=True)
    assert (await described(client))["status"]["statusCode"] in ("DRAINING", "INACTIVE")
