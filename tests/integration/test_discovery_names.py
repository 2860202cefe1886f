"""Names that another service wants for its tasks: asked for over NATS, found in the DNS."""

import pytest

from contracts.grants import OPERATOR
from contracts.rpc.discovery import PROVIDE_NAME, REMOVE_NAME, ProvideName, RemoveName
from services.shared.bus import CommandRefused
from tests.builders.waiting import until
from tests.integration.test_discovery import Ecs, Stage


@pytest.fixture
async def stage(nats_platform, tmp_path):
    stage = Stage(nats_platform, tmp_path)
    yield stage
    await stage.close()


@pytest.fixture
async def cloud_map(stage):
    return await stage.start()


@pytest.fixture
async def provide(cloud_map, nats_platform):
    asker = await nats_platform.bus(OPERATOR)

    async def ask(name="frontend", namespace="apprunner.local"):
        wanted = ProvideName(account="000000000000", region="us-east-1", namespace=namespace, name=name)
        return await asker.call(PROVIDE_NAME, wanted)

    ask.remove = lambda arn: asker.call(
        REMOVE_NAME, RemoveName(account="000000000000", region="us-east-1", registry_arn=arn)
    )
    return ask


async def test_a_provided_name_is_that_of_the_tasks_whose_service_has_its_registry(provide, cloud_map, nats_platform):
    provided = await provide()
    assert provided.dns_name == "frontend.apprunner.local"
    platform = await Ecs.open(nats_platform, provided.registry_arn)
    await platform.run("t1", "10.0.0.1")

    async def found():
        return (await cloud_map.ask("frontend.apprunner.local")).data() == ["10.0.0.1"]

    await until(found)
    await platform.close()


async def test_a_name_that_is_asked_for_twice_is_one_name(provide, cloud_map):
    assert await provide() == await provide()
    other = await provide("backend")
    assert other.registry_arn != (await provide()).registry_arn
    assert len((await cloud_map("list_namespaces"))["Namespaces"]) == 1
    assert len((await cloud_map("list_services"))["Services"]) == 2


async def test_what_somebody_made_by_these_names_is_used_as_it_is(provide, cloud_map):
    service = await cloud_map.service(await cloud_map.namespace("apprunner.local"), "Frontend")
    assert (await provide()).registry_arn == service["Arn"]


async def test_a_name_goes_away_when_nothing_is_registered_in_it(provide, cloud_map):
    provided = await provide()
    service = (await cloud_map("list_services"))["Services"][0]
    await cloud_map.register(service, "by-hand", "10.0.0.7")
    assert not (await provide.remove(provided.registry_arn)).removed
    await cloud_map("deregister_instance", ServiceId=service["Id"], InstanceId="by-hand")
    assert (await provide.remove(provided.registry_arn)).removed
    assert not (await provide.remove(provided.registry_arn)).removed
    assert (await cloud_map("list_services"))["Services"] == []


@pytest.mark.parametrize("name", ["", "a..b", "x" * 64])
async def test_what_can_not_be_a_name_is_refused(provide, name):
    with pytest.raises(CommandRefused) as refused:
        await provide(name)
    assert refused.value.code == "InvalidInput"


async def test_a_namespace_without_dns_is_refused(provide, cloud_map):
    await cloud_map.namespace("apprunner.local", "http")
    with pytest.raises(CommandRefused) as refused:
        await provide()
    assert refused.value.code == "InvalidInput"
