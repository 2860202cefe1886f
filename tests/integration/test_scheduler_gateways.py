"""Gateways against a real NATS: the operations, and services of a cluster behind one."""

import asyncio

import msgspec
import pytest

from contracts.rpc.scheduler import SET_DESIRED_COUNT, SetDesiredCount
from services.shared.bus import CommandRefused
from tests.builders.ecs import ACCOUNT, REGION, container, register
from tests.builders.waiting import until
from tests.integration.test_scheduler_express import complete, ready, refusal, running, stage

__all__ = ["stage"]

ROLE = "arn:aws:iam::000000000000:role/infrastructure"
ARN = "arn:aws:ecs:us-east-1:000000000000:gateway/front"
CONNECTOR = {"portName": "http", "healthCheck": {"healthCheckPath": "/up"}}
NETWORK = {"awsvpcConfiguration": {"subnets": ["subnet-local"]}}


async def create(client, name="front", **members):
    given = {"name": name, "infrastructureRoleArn": ROLE, "configuration": {"hostSharedAlb": {}}, **members}
    return await client("CreateGateway", **given)


async def open_gateway(stage):
    """A gateway of the cluster `default`, and a definition with a port of a name."""
    client = await ready(stage)
    await client("CreateCluster", clusterName="default")
    ports = [{"containerPort": 8080, "name": "http"}]
    for image in ("shop:1", "shop:2"):
        made = register("shop", container(image=image, portMappings=ports), networkMode="awsvpc")
        await client("RegisterTaskDefinition", **msgspec.to_builtins(made))
    await create(client)
    await client("AssociateGatewayWithCluster", gateway="front", cluster="default")
    return client


async def serve(client, **changes):
    given = {"serviceName": "web", "taskDefinition": "shop:1", "desiredCount": 1, "networkConfiguration": NETWORK,
             "gatewayConnectors": [CONNECTOR], **changes}  # fmt: skip
    return (await client("CreateService", **given))["service"]


async def routes(client, **filters):
    return (await client("ListGatewayRoutes", **filters))["gatewayRoutes"]


async def associations(client, **filters):
    return (await client("ListGatewayClusterAssociations", **filters))["gatewayClusterAssociations"]


async def test_a_gateway_is_made_changed_told_of_and_deleted(stage):
    client = await ready(stage)
    made = await create(client, clientToken="t1", tags=[{"key": "team", "value": "shop"}])
    assert made == {"gatewayArn": ARN, "name": "front", "status": "ACTIVE"}
    assert await create(client, clientToken="t1") == made
    assert (await refusal(create(client, clientToken="t2")))[0] == "InvalidParameterException"
    shown = (await client("DescribeGateway", gateway=ARN))["gateway"]
    assert (shown["deletionProtection"], shown["accessType"], shown["propagateTags"]) == (True, "PUBLIC", "GATEWAY")
    assert shown["configuration"]["hostSharedAlb"]["currentAlbCount"] == 0
    await client("TagResource", resourceArn=ARN, tags=[{"key": "tier", "value": "1"}])
    assert len((await client("ListTagsForResource", resourceArn=ARN))["tags"]) == 2
    assert "deletionProtection" in (await refusal(client("DeleteGateway", gateway="front")))[1]
    changed = {"hostSharedAlb": {"maxAlbCount": 3}}
    await client("UpdateGateway", gateway="front", deletionProtection=False, configuration=changed)
    shown = (await client("DescribeGateway", gateway="front"))["gateway"]
    assert (shown["status"], shown["configuration"]["hostSharedAlb"]["maxAlbCount"]) == ("UPDATE_COMPLETE", 3)
    assert (await client("DeleteGateway", gateway=ARN))["status"] == "DELETED"
    for operation in ("DescribeGateway", "UpdateGateway", "DeleteGateway", "DescribeGatewayResources"):
        assert (await refusal(client(operation, gateway="front")))[0] == "GatewayNotFoundException"
    assert (await client("ListGateways"))["gateways"] == []


async def test_gateways_are_listed_by_pages_names_and_status(stage):
    client = await ready(stage)
    for name in "abc":
        await create(client, name)
    first = await client("ListGateways", maxResults=2)
    rest = await client("ListGateways", maxResults=2, nextToken=first["nextToken"])
    assert [[g["name"] for g in seen["gateways"]] for seen in (first, rest)] == [["a", "b"], ["c"]]
    await client("UpdateGateway", gateway="b", propagateTags="NONE")
    found = await client("ListGateways", names=["a", "b"], status=["UPDATE_COMPLETE"])
    assert [g["name"] for g in found["gateways"]] == ["b"]
    assert "names" in (await refusal(client("ListGateways", names=["n"] * 11)))[1]


async def test_what_makes_no_sense_is_refused(stage):
    client = await ready(stage)
    for changes, named in (
        ({"name": "no name"}, "name"),
        ({"infrastructureRoleArn": "me"}, "infrastructureRoleArn"),
        ({"configuration": {"hostSharedAlb": {"port": 80}}}, "port"),
    ):
        told = await refusal(create(client, **changes))
        assert told[0] == "InvalidParameterException" and named in told[1]
    await create(client)
    pair = {"gateway": "front", "cluster": "nowhere"}
    assert (await refusal(client("AssociateGatewayWithCluster", **pair)))[0] == "ClusterNotFoundException"
    await client("CreateCluster", clusterName="default")
    pair["cluster"] = "default"
    assert (await refusal(client("DisassociateGatewayFromCluster", **pair)))[0] == "ResourceNotFoundException"
    pair["gateway"] = "none"
    assert (await refusal(client("AssociateGatewayWithCluster", **pair)))[0] == "GatewayNotFoundException"
    route = ARN.replace(":gateway/", ":gateway-route/") + "/r"
    assert (await refusal(client("DescribeGatewayRoute", gatewayRouteArn=route)))[0] == "ResourceNotFoundException"


async def test_a_service_behind_a_gateway_has_a_route_as_long_as_it_is_there(stage):
    client = await open_gateway(stage)
    await serve(client)
    (route,) = await routes(client, gateway="front", cluster="default", service="web", serviceContainerPortName="http")
    assert (route["gatewayArn"], route["status"]) == (ARN, "ACTIVE")
    seen = (await client("DescribeGatewayRoute", gatewayRouteArn=route["gatewayRouteArn"]))["gatewayRoute"]
    assert seen["serviceUrl"].startswith("https://web-") and seen["serviceUrl"].endswith(
        ".ecs.us-east-1.localhost:8443"
    )
    resources = (await client("DescribeGatewayResources", gateway="front"))["gatewayResources"]["resources"]
    assert resources["hostSharedAlb"] == [{"gatewayRouteArns": [route["gatewayRouteArn"]]}]
    revision = (await client.service("web"))["currentServiceRevisions"][0]["arn"]
    told = (await client("DescribeServiceRevisions", serviceRevisionArns=[revision]))["serviceRevisions"][0]
    (connection,) = told["ecsManagedResources"]["gatewayConnections"]
    assert (connection["serviceUrl"], connection["portName"]) == (seen["serviceUrl"], "http")
    for other in (
        {"cluster": "other"},
        {"service": "other"},
        {"status": ["CREATE_FAILED"]},
        {"serviceContainerPortName": "x"},
    ):
        assert await routes(client, **other) == []
    await client("UpdateGateway", gateway="front", deletionProtection=False)
    await client("DisassociateGatewayFromCluster", gateway="front", cluster="default")
    assert [a["status"] for a in await associations(client, gateway="front")] == ["DISASSOCIATING"]
    assert "disassociate" in (await refusal(client("DeleteGateway", gateway="front")))[1]
    assert "no gateway" in (await refusal(serve(client, serviceName="late")))[1]
    await client("DeleteService", service="web", force=True)
    await until(lambda: client.api.world.services.records()[0].status == "INACTIVE")
    assert await routes(client) == [] and await associations(client) == []
    await client("DeleteGateway", gateway="front")


async def associate(client, gateway):
    return await client("AssociateGatewayWithCluster", gateway=gateway, cluster="default")


async def urls(client):
    arns = [route["gatewayRouteArn"] for route in await routes(client)]
    return [(await client("DescribeGatewayRoute", gatewayRouteArn=arn))["gatewayRoute"]["serviceUrl"] for arn in arns]


async def test_a_cluster_has_several_gateways_and_its_services_a_route_at_each_once_they_are_updated(stage):
    client = await open_gateway(stage)
    await serve(client)
    for number in range(5):
        await create(client, f"back{number}")
    for number in range(4):
        await associate(client, f"back{number}")
    assert "at most 5" in (await refusal(associate(client, "back4")))[1]
    assert len(await routes(client)) == 1, "nothing changes before the service does"
    before = await urls(client)
    await client("UpdateService", service="web", gatewayConnectors=[CONNECTOR])
    assert {r["gatewayArn"].rsplit("/", 1)[1] for r in await routes(client)} == {
        "front", "back0", "back1", "back2", "back3"}  # fmt: skip
    assert {*before} < {*await urls(client)} and len({*await urls(client)}) == 5
    assert len((await client.service("web"))["deployments"]) == 1, "its tasks are as they were"
    await client("DisassociateGatewayFromCluster", gateway="front", cluster="default")
    assert len(await associations(client)) == 5
    await client("UpdateService", service="web", gatewayConnectors=[CONNECTOR])
    assert [a["gatewayArn"].endswith("/front") for a in await associations(client)] == [False] * 4
    await associate(client, "back4")
    await client("UpdateService", service="web", forceNewDeployment=True)
    assert len(await routes(client)) == 5


async def test_a_service_comes_to_a_gateway_by_an_update_and_leaves_it_by_another(stage):
    client = await open_gateway(stage)
    await serve(client, gatewayConnectors=[])
    (first,) = await until(lambda: running(stage))
    await complete(client)
    await client("UpdateService", service="web", gatewayConnectors=[CONNECTOR])
    await until(lambda: len(running(stage)) == 2)
    (second,) = {*running(stage)} - {first}
    (route,) = await routes(client, gateway="front")
    assert route["status"] == "ACTIVE"
    assert (await client.service("web"))["deployments"][0]["rolloutState"] == "IN_PROGRESS"
    assert client.api.world.joined(key_of(client, first))[0].desired_status == "RUNNING", (
        "it is well without the gateway"
    )
    await stage.gateway.says(second, "healthy")
    await until(lambda: running(stage) == [second])
    await complete(client)
    assert [client.api.world.tasks.record(*key_of(client, t)).drain_s for t in (first, second)] == [0.0, 300.0]

    await client("UpdateService", service="web", gatewayConnectors=[])
    assert [r["status"] for r in await routes(client)] == ["DELETE_IN_PROGRESS"]
    await client("DisassociateGatewayFromCluster", gateway="front", cluster="default")
    await until(lambda: client.api.world.tasks.record(*key_of(client, second)).desired_status == "STOPPED")
    await until(lambda: client.api.world.services.records()[0].connector is None)
    assert await routes(client) == [] and await associations(client) == []


def key_of(client, task):
    return client.api.world.task_key(ACCOUNT, REGION, "default", task)


async def test_a_service_that_is_made_as_its_gateway_goes_has_no_route_in_the_end(stage):
    client = await open_gateway(stage)
    world = client.api.world
    await client("UpdateGateway", gateway="front", deletionProtection=False)
    put, held, go = world.store.put, asyncio.Event(), asyncio.Event()

    async def slow(kind, record, event, **members):
        if event == "service.created.v1":
            held.set()
            await go.wait()
        return await put(kind, record, event, **members)

    world.store.put = slow
    making = asyncio.create_task(serve(client))
    await held.wait()
    world.store.put = put
    await client("DisassociateGatewayFromCluster", gateway="front", cluster="default")
    await client("DeleteGateway", gateway="front")
    go.set()
    await making
    await until(lambda: world.services.records()[0].connector is None)
    assert await routes(client) == []
    await complete(client)


async def test_the_tags_of_a_gateway_are_those_of_its_routes_unless_it_keeps_them(stage):
    client = await open_gateway(stage)
    await serve(client)
    await client("TagResource", resourceArn=ARN, tags=[{"key": "team", "value": "shop"}])
    (route,) = await routes(client)
    told = lambda: client("ListTagsForResource", resourceArn=route["gatewayRouteArn"])  # noqa: E731
    assert (await told())["tags"] == [{"key": "team", "value": "shop"}]
    await client("UpdateGateway", gateway="front", propagateTags="NONE")
    assert (await told())["tags"] == []
    gone = route["gatewayRouteArn"][:-4]
    assert (await refusal(client("ListTagsForResource", resourceArn=gone)))[0] == "ResourceNotFoundException"


async def test_a_blue_green_deployment_behind_a_gateway_goes_by_its_word(stage):
    client = await open_gateway(stage)
    await serve(client, deploymentConfiguration={"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 0})
    (blue,) = await until(lambda: running(stage))
    await stage.gateway.says(blue, "healthy")
    await complete(client)
    await client("UpdateService", service="web", taskDefinition="shop:2")
    await until(lambda: len(running(stage)) == 2)
    (green,) = {*running(stage)} - {blue}
    stage_of = lambda: client.api.world.services.records()[0].deployments[0].stage  # noqa: E731
    await until(lambda: stage_of().name == "SCALE_UP")
    await stage.gateway.says(green, "healthy")
    await until(lambda: stage_of().name == "TEST_TRAFFIC_SHIFT")
    primary = client.api.world.services.records()[0].deployments[0]
    assert (primary.test_weight, primary.weight) == (100.0, 0.0)
    await until(lambda: client.api.world.tasks.record(*key_of(client, blue)).desired_status == "STOPPED")
    await stage.gateway.says(blue, "drained")
    await complete(client)
    assert running(stage) == [green]


async def test_an_old_task_stays_until_the_gateway_gives_requests_to_the_new_one(stage):
    client = await open_gateway(stage)
    await serve(client)
    (first,) = await until(lambda: running(stage))
    await stage.gateway.says(first, "healthy")
    await complete(client)
    await client("UpdateService", service="web", taskDefinition="shop:2")
    await until(lambda: len(running(stage)) == 2)
    (second,) = {*running(stage)} - {first}
    assert client.api.world.services.records()[0].deployments[0].rollout_state == "IN_PROGRESS"
    await stage.gateway.says(second, "healthy")
    key = client.api.world.task_key(ACCOUNT, REGION, "default", first)
    await until(lambda: client.api.world.tasks.record(*key).desired_status == "STOPPED")
    task = client.api.world.tasks.record(*key)
    assert task.drain_s == 300.0
    await stage.gateway.says(first, "drained")
    await until(lambda: running(stage) == [second])
    await complete(client)


async def test_no_more_tasks_than_the_proxy_has_place_for(stage):
    client = await open_gateway(stage)
    assert "at most 32" in (await refusal(serve(client, desiredCount=33)))[1]
    await serve(client, desiredCount=0)
    assert "at most 32" in (await refusal(client("UpdateService", service="web", desiredCount=33)))[1]
    bus = await stage.platform.bus("autoscaler")
    wanted = SetDesiredCount(account=ACCOUNT, region=REGION, cluster="default", service="web", desired_count=33)
    with pytest.raises(CommandRefused) as refused:
        await bus.call(SET_DESIRED_COUNT, wanted)
    assert "at most 32" in refused.value.message
