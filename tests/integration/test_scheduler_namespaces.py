"""Which services are found in a Cloud Map namespace, and where a definition's platform may run."""

import pytest

from contracts.records.discovery import DISCOVERY_SERVICE, KINDS, NAMESPACE, DiscoveryService, Namespace
from services.shared.errors import AwsError
from services.shared.state import Store
from tests.builders.ecs import ACCOUNT, REGION
from tests.builders.waiting import until
from tests.integration.test_scheduler import ready, stage, web_service

__all__ = ["stage"]

WHERE = {"account": ACCOUNT, "region": REGION}
CLOUD_MAP = f"arn:aws:servicediscovery:{REGION}:{ACCOUNT}"


async def named(stage, app) -> None:
    """Two namespaces, each with a service."""
    store = await Store.open(await stage.platform.bus("discovery"), KINDS)
    for name in ("shop", "empty"):
        record = Namespace(**WHERE, id=f"ns-{name}", name=f"{name}.local", type="DNS_PRIVATE", created_at=1.0)
        await store.put(NAMESPACE, record, "namespace.created.v1", expect=0)
        service = DiscoveryService(
            **WHERE, id=f"srv-{name}", name=name, namespace=f"ns-{name}", type="DNS_HTTP", created_at=1.0
        )
        await store.put(DISCOVERY_SERVICE, service, "discovery_service.created.v1", expect=0)
    await until(lambda: len(app.world.discovery_services) == 2)


async def test_services_are_listed_by_the_namespace_of_their_registry_across_clusters(stage):
    app, client = await ready(stage)
    await named(stage, app)
    await client("CreateCluster", clusterName="other")
    registries = [{"registryArn": f"{CLOUD_MAP}:service/srv-shop"}]
    await web_service(client, 0, serviceRegistries=registries)
    await client(
        "CreateService", cluster="other", serviceName="b", taskDefinition="web", desiredCount=0,
        serviceRegistries=registries,
    )  # fmt: skip
    await client("CreateService", serviceName="unnamed", taskDefinition="web", desiredCount=0)
    expected = [f"arn:aws:ecs:{REGION}:{ACCOUNT}:service/{name}" for name in ("default/web", "other/b")]
    assert await client("ListServicesByNamespace", namespace="shop.local") == {"serviceArns": expected}
    arn = f"{CLOUD_MAP}:namespace/ns-shop"
    first = await client("ListServicesByNamespace", namespace=arn, maxResults=1)
    rest = await client("ListServicesByNamespace", namespace=arn, nextToken=first["nextToken"])
    assert first["serviceArns"] + rest["serviceArns"] == expected
    assert await client("ListServicesByNamespace", namespace="empty.local") == {"serviceArns": []}


@pytest.mark.parametrize("namespace", ["none.local", f"{CLOUD_MAP}:namespace/ns-none", "ns-shop"])
async def test_a_namespace_that_is_not_there_is_not_found(stage, namespace):
    app, client = await ready(stage)
    await named(stage, app)
    with pytest.raises(AwsError) as error:
        await client("ListServicesByNamespace", namespace=namespace)
    assert error.value.code == "NamespaceNotFoundException"


@pytest.mark.parametrize(
    ("platform", "node"),
    [
        ({"cpuArchitecture": "ARM64", "operatingSystemFamily": "LINUX"}, "arm"),
        ({"cpuArchitecture": "X86_64"}, "intel"),
    ],
)
async def test_a_task_goes_where_its_platform_is(stage, platform, node):
    _, client = await ready(stage, agents=0)
    for name, architecture in (("arm", "arm64"), ("intel", "x86_64")):
        await stage.agent(name, attributes={"ecs.cpu-architecture": architecture})
    container = {"name": "main", "image": "busybox", "memory": 32}
    await client("RegisterTaskDefinition", family="built", containerDefinitions=[container], runtimePlatform=platform)
    await client("RunTask", taskDefinition="built", launchType="EC2")
    await until(lambda: len(stage.agents[node].running()) == 1)
