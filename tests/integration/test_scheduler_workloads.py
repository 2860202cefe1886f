"""Workloads: hidden services that another service has the scheduler run for it, asked over a real NATS."""

import msgspec
import pytest

from contracts.records.scheduler import SERVICE, TASK_DEFINITION
from contracts.rpc.scheduler import WORKLOADS_CLUSTER, DeleteWorkload, PutWorkload, WorkloadPut
from services.scheduler.handlers.workloads import Workloads
from services.shared.errors import AwsError
from tests.builders.waiting import until
from tests.integration.test_scheduler import Client, Stage

WHERE = {"account": "000000000000", "region": "us-east-1"}


def definition(image="shop:1"):
    return {
        "networkMode": "awsvpc",
        "requiresCompatibilities": ["FARGATE"],
        "cpu": "256",
        "memory": "512",
        "containerDefinitions": [{"name": "instance", "image": image, "essential": True}],
    }


def put(image="shop:1", count=2, **changes):
    return PutWorkload(**WHERE, name="shop-1", definition=definition(image), desired_count=count, **changes)


@pytest.fixture
async def stage(nats_platform, tmp_path):
    stage = Stage(nats_platform, tmp_path)
    try:
        yield stage
    finally:
        await stage.close()


@pytest.fixture
async def running(stage):
    app = await stage.scheduler()
    for number, zone in enumerate("ab", 1):
        await stage.agent(f"n{number}", f"us-east-1{zone}")
    return app, Workloads(app.world)


def counts(stage):
    return sorted(len(agent.running()) for agent in stage.agents.values())


async def test_a_workload_runs_over_the_zones_and_is_made_once(stage, running):
    app, workloads = running
    expected = WorkloadPut(cluster=WORKLOADS_CLUSTER, service="shop-1", task_definition="shop-1:1")
    assert await workloads.put(put()) == expected
    assert await workloads.put(put()) == expected
    await until(lambda: counts(stage) == [1, 1])
    assert len(app.world.definitions) == 1
    assert await workloads.put(put(count=4)) == expected
    await until(lambda: counts(stage) == [2, 2])


async def test_a_changed_definition_is_rolled_out(stage, running):
    _, workloads = running
    await workloads.put(put())
    await until(lambda: counts(stage) == [1, 1])
    assert (await workloads.put(put("shop:2"))).task_definition == "shop-1:2"
    images = lambda: {c.image for a in stage.agents.values() for s in map(a.status, a.running()) for c in s.containers}  # noqa: E731
    await until(lambda: images() == {"shop:2"} and counts(stage) == [1, 1])


async def test_a_workload_is_not_listed_and_is_described_by_name(stage, running):
    app, workloads = running
    await workloads.put(put())
    client = Client(app)
    assert (await client("ListClusters"))["clusterArns"] == []
    assert (await client("ListTaskDefinitions"))["taskDefinitionArns"] == []
    assert (await client("ListTaskDefinitionFamilies"))["families"] == []
    (cluster,) = (await client("DescribeClusters", clusters=[WORKLOADS_CLUSTER]))["clusters"]
    assert (cluster["clusterName"], cluster["activeServicesCount"]) == (WORKLOADS_CLUSTER, 1)
    (service,) = (await client("DescribeServices", cluster=WORKLOADS_CLUSTER, services=["shop-1"]))["services"]
    assert service["desiredCount"] == 2


async def test_a_deleted_workload_stops_and_its_definition_goes(stage, running):
    app, workloads = running
    await workloads.put(put())
    await until(lambda: counts(stage) == [1, 1])
    gone = DeleteWorkload(**WHERE, name="shop-1")
    assert (await workloads.delete(gone)).found
    await until(lambda: counts(stage) == [0, 0])
    key = (WHERE["account"], WHERE["region"], WORKLOADS_CLUSTER, "shop-1")
    await until(lambda: app.world.store.table(SERVICE).record(*key).status == "INACTIVE")
    (record,) = app.world.store.table(TASK_DEFINITION).records()
    assert record.status == "DELETE_IN_PROGRESS"
    assert not (await workloads.delete(DeleteWorkload(**WHERE, name="never"))).found


async def test_what_can_not_run_is_refused(stage, running):
    app, workloads = running
    wrong = put()
    for request in (
        msgspec.structs.replace(wrong, name="no good"),
        msgspec.structs.replace(wrong, desired_count=-1),
        msgspec.structs.replace(wrong, definition={**definition(), "cpu": "3"}),
        msgspec.structs.replace(wrong, definition={"containerDefinitions": "none"}),
    ):
        with pytest.raises(AwsError):
            await workloads.put(request)
    assert len(app.world.services) == 0


async def test_nothing_else_is_made_or_run_in_the_cluster_of_the_workloads(stage, running):
    app, workloads = running
    client = Client(app)
    with pytest.raises(AwsError, match="reserved for App Runner"):
        await client("CreateCluster", clusterName=WORKLOADS_CLUSTER)
    await workloads.put(put())
    await client("RegisterTaskDefinition", family="own", **definition())
    own = {"cluster": WORKLOADS_CLUSTER, "taskDefinition": "own"}
    arn = "arn:aws:ecs:us-east-1:000000000000:cluster/" + WORKLOADS_CLUSTER
    for operation, members in (
        ("RunTask", own),
        ("RunTask", {**own, "cluster": arn}),
        ("StartTask", {**own, "containerInstances": ["n1"]}),
        ("CreateService", {**own, "serviceName": "own", "desiredCount": 1}),
        ("UpdateService", {**own, "service": "shop-1"}),
        ("DeleteService", {"cluster": WORKLOADS_CLUSTER, "service": "shop-1", "force": True}),
        ("DeleteCluster", {"cluster": WORKLOADS_CLUSTER}),
        ("UpdateClusterSettings", {"cluster": WORKLOADS_CLUSTER, "settings": []}),
    ):
        with pytest.raises(AwsError) as refused:
            await client(operation, **members)
        assert (operation, refused.value.code) == (operation, "ClusterNotFoundException")
    await until(lambda: counts(stage) == [1, 1])
    assert {s.name for s in app.world.services.records()} == {"shop-1"}
