"""Cloud Map and its DNS over a real NATS, asked by boto3 and by a resolver's packets."""

import asyncio
import random
import time

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from msgspec.structs import replace

from contracts.records import agent as agents
from contracts.records import scheduler as schedulers
from contracts.records.agent import TASK_STATUS, NetworkInterface
from contracts.records.scheduler import SERVICE, TASK
from services.discovery.app import DiscoveryApp
from services.discovery.settings import DiscoverySettings
from services.identity.adapters import read_credentials
from services.identity.app import CREDENTIALS_FILE, IdentityApp
from services.identity.settings import IdentitySettings
from services.shared.runner import Host, HttpServer, start_app, stop_app
from services.shared.state import Store
from tests.builders import dns, ecs
from tests.builders.waiting import until


class Caller:
    """boto3's Cloud Map client, called from a thread; and the DNS."""

    def __init__(self, port, dns_port, credentials) -> None:
        self.dns_port = dns_port
        self._client = boto3.client(
            "servicediscovery",
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name="us-east-1",
            aws_access_key_id=credentials.access_key_id,
            aws_secret_access_key=credentials.secret,
            config=Config(retries={"total_max_attempts": 1}, inject_host_prefix=False),
        )

    async def __call__(self, operation, **members):
        answer = await asyncio.to_thread(getattr(self._client, operation), **members)
        return {k: v for k, v in answer.items() if k != "ResponseMetadata"}

    async def refused(self, operation, **members):
        with pytest.raises(ClientError) as error:
            await self(operation, **members)
        return error.value.response["Error"]["Code"]

    async def ask(self, name, kind="A", **how):
        return await asyncio.to_thread(dns.ask, self.dns_port, name, kind, **how)

    async def target(self, operation_id, kind):
        operation = (await self("get_operation", OperationId=operation_id))["Operation"]
        assert operation["Status"] == "SUCCESS"
        return operation["Targets"][kind]

    async def namespace(self, name="shop.local", kind="private_dns", **members):
        vpc = {"Vpc": "vpc-1"} if kind == "private_dns" else {}
        answer = await self(f"create_{kind}_namespace", Name=name, **vpc, **members)
        return await self.target(answer["OperationId"], "NAMESPACE")

    async def service(self, namespace, name="backend", types=("A",), **members):
        records = {"DnsConfig": {"DnsRecords": [{"Type": t, "TTL": 5} for t in types]}} if types else {}
        answer = await self("create_service", Name=name, NamespaceId=namespace, **records, **members)
        return answer["Service"]

    async def register(self, service, name, address, **attributes):
        given = {"AWS_INSTANCE_IPV4": address, **attributes}
        return await self("register_instance", ServiceId=service["Id"], InstanceId=name, Attributes=given)


class Stage:
    """Identity and discovery, which may be stopped and started again."""

    def __init__(self, nats_platform, directory) -> None:
        self._nats = nats_platform
        self._directory = directory

    async def start(self, resolvers="none") -> Caller:
        if not hasattr(self, "_identity"):
            host = Host(await self._nats.bus("identity"), self._directory, instance="t")
            self._identity = IdentityApp(host, IdentitySettings())
            await start_app(self._identity)
        host = Host(await self._nats.bus("discovery"), self._directory, instance="t")
        self.app = DiscoveryApp(host, DiscoverySettings(resolvers=resolvers, resolver_timeout_s=0.3))
        await start_app(self.app)
        self._server = HttpServer(self.app)
        port = await self._server.start()
        return Caller(port, self.app.dns_port, read_credentials(self._directory / CREDENTIALS_FILE))

    async def stop(self) -> None:
        await self._server.stop()
        await stop_app(self.app)

    async def close(self) -> None:
        await self.stop()
        await stop_app(self._identity)


@pytest.fixture
async def stage(nats_platform, tmp_path):
    stage = Stage(nats_platform, tmp_path)
    yield stage
    await stage.close()


@pytest.fixture
async def cloud_map(stage):
    return await stage.start()


async def test_a_namespace_is_made_found_changed_and_deleted(cloud_map):
    namespace = await cloud_map.namespace(Tags=[{"Key": "a", "Value": "b"}])
    told = (await cloud_map("get_namespace", Id=namespace))["Namespace"]
    assert (told["Name"], told["Type"], told["ServiceCount"]) == ("shop.local", "DNS_PRIVATE", 0)
    assert (await cloud_map("list_tags_for_resource", ResourceARN=told["Arn"]))["Tags"] == [{"Key": "a", "Value": "b"}]
    await cloud_map("tag_resource", ResourceARN=told["Arn"], Tags=[{"Key": "c", "Value": "d"}])
    await cloud_map("untag_resource", ResourceARN=told["Arn"], TagKeys=["a"])
    assert (await cloud_map("list_tags_for_resource", ResourceARN=told["Arn"]))["Tags"] == [{"Key": "c", "Value": "d"}]
    await cloud_map("update_private_dns_namespace", Id=namespace, Namespace={"Description": "new"})
    other = await cloud_map.namespace("other", "http")
    filters = [{"Name": "TYPE", "Values": ["HTTP"], "Condition": "EQ"}]
    assert [n["Id"] for n in (await cloud_map("list_namespaces", Filters=filters))["Namespaces"]] == [other]
    assert (await cloud_map("get_namespace", Id=told["Arn"]))["Namespace"]["Description"] == "new"
    operation = (await cloud_map("delete_namespace", Id=namespace))["OperationId"]
    assert await cloud_map.target(operation, "NAMESPACE") == namespace
    assert await cloud_map.refused("get_namespace", Id=namespace) == "NamespaceNotFound"


async def test_names_are_given_once_and_a_request_that_is_repeated_is_no_second_one(cloud_map):
    namespace = await cloud_map.namespace(CreatorRequestId="one")
    assert await cloud_map.namespace(CreatorRequestId="one") == namespace
    again = {"Name": "SHOP.local", "Vpc": "vpc-1"}
    assert await cloud_map.refused("create_private_dns_namespace", **again) == "NamespaceAlreadyExists"
    service = await cloud_map.service(namespace, CreatorRequestId="two")
    assert (await cloud_map.service(namespace, CreatorRequestId="two"))["Id"] == service["Id"]
    assert await cloud_map.refused("create_service", Name="Backend", NamespaceId=namespace) == "ServiceAlreadyExists"


async def test_what_cannot_be_is_refused_with_cloud_map_s_errors(cloud_map):
    public = await cloud_map.refused("create_public_dns_namespace", Name="shop.example.com")
    namespace = await cloud_map.namespace()
    service = await cloud_map.service(namespace)
    await cloud_map.register(service, "i-1", "10.0.0.1")
    where = {"ServiceId": service["Id"]}
    cname = {"RoutingPolicy": "MULTIVALUE", "DnsRecords": [{"Type": "CNAME", "TTL": 1}]}
    assert [
        public,
        await cloud_map.refused("delete_namespace", Id=namespace),
        await cloud_map.refused("delete_service", Id=service["Id"]),
        await cloud_map.refused("create_service", Name="x", NamespaceId=namespace, DnsConfig=cname),
        await cloud_map.refused("register_instance", **where, InstanceId="i", Attributes={"a": "b"}),
        await cloud_map.refused("deregister_instance", **where, InstanceId="nobody"),
        await cloud_map.refused("update_instance_custom_health_status", **where, InstanceId="i-1", Status="UNHEALTHY"),
        await cloud_map.refused("get_operation", OperationId="none"),
        await cloud_map.refused("discover_instances", NamespaceName="shop.local", ServiceName="nobody"),
    ] == [
        "InvalidInput",
        "ResourceInUse",
        "ResourceInUse",
        "InvalidInput",
        "InvalidInput",
        "InstanceNotFound",
        "CustomHealthNotFound",
        "OperationNotFound",
        "ServiceNotFound",
    ]


async def test_a_service_is_listed_changed_and_deleted(cloud_map):
    namespace = await cloud_map.namespace()
    service = await cloud_map.service(namespace)
    await cloud_map.service(await cloud_map.namespace("other.local"))
    change = {"Description": "new", "DnsConfig": {"DnsRecords": [{"Type": "A", "TTL": 77}]}}
    operation = (await cloud_map("update_service", Id=service["Id"], Service=change))["OperationId"]
    assert await cloud_map.target(operation, "SERVICE") == service["Id"]
    await cloud_map.register(service, "i-1", "10.0.0.1")
    assert [r[2] for r in (await cloud_map.ask("backend.shop.local")).records] == [77]
    filters = [{"Name": "NAMESPACE_ID", "Values": [namespace], "Condition": "EQ"}]
    (listed,) = (await cloud_map("list_services", Filters=filters))["Services"]
    wanted = (service["Id"], "backend", "new", 1, "DNS_HTTP")
    assert tuple(listed[k] for k in ("Id", "Name", "Description", "InstanceCount", "Type")) == wanted
    await cloud_map("deregister_instance", ServiceId=service["Id"], InstanceId="i-1")
    await cloud_map("delete_service", Id=service["Id"])
    assert await cloud_map.refused("get_service", Id=service["Id"]) == "ServiceNotFound"


async def test_a_registered_instance_has_a_name_at_once_and_loses_it_at_once(cloud_map):
    service = await cloud_map.service(await cloud_map.namespace())
    assert (await cloud_map.ask("backend.shop.local")).code == 3
    operation = await cloud_map.register(service, "i-1", "10.0.0.1")
    assert await cloud_map.target(operation["OperationId"], "INSTANCE") == "i-1"
    assert (await cloud_map.ask("backend.shop.local")).data() == ["10.0.0.1"]
    assert (await cloud_map.ask("backend.shop.local", tcp=True)).data() == ["10.0.0.1"]
    await cloud_map.register(service, "i-1", "10.0.0.2")
    assert (await cloud_map.ask("backend.shop.local")).data() == ["10.0.0.2"]
    await cloud_map("deregister_instance", ServiceId=service["Id"], InstanceId="i-1")
    assert (await cloud_map.ask("backend.shop.local")).code == 3


async def test_unhealthy_instances_leave_the_dns_and_the_discovered_ones(cloud_map):
    service = await cloud_map.service(await cloud_map.namespace(), HealthCheckCustomConfig={"FailureThreshold": 1})
    where = {"ServiceId": service["Id"]}
    for number in (1, 2):
        await cloud_map.register(service, f"i-{number}", f"10.0.0.{number}", stage="beta")
    named = {"NamespaceName": "shop.local", "ServiceName": "backend"}
    before = (await cloud_map("discover_instances_revision", **named))["InstancesRevision"]
    await cloud_map("update_instance_custom_health_status", **where, InstanceId="i-1", Status="UNHEALTHY")
    assert (await cloud_map.ask("backend.shop.local")).data() == ["10.0.0.2"]
    assert (await cloud_map("get_instances_health_status", **where))["Status"] == {
        "i-1": "UNHEALTHY",
        "i-2": "HEALTHY",
    }
    found = await cloud_map("discover_instances", **named, QueryParameters={"stage": "beta"})
    assert found["InstancesRevision"] > before
    assert found["Instances"] == [
        {
            "InstanceId": "i-2",
            "NamespaceName": "shop.local",
            "ServiceName": "backend",
            "HealthStatus": "HEALTHY",
            "Attributes": {"AWS_INSTANCE_IPV4": "10.0.0.2", "stage": "beta"},
        }
    ]
    every = await cloud_map("discover_instances", **named, HealthStatus="ALL", MaxResults=1)
    assert len(every["Instances"]) == 1


async def test_an_http_namespace_is_discovered_and_not_in_the_dns(cloud_map):
    service = await cloud_map.service(await cloud_map.namespace("plain", "http"), types=())
    attributes = {"anything": "at all"}
    await cloud_map("register_instance", ServiceId=service["Id"], InstanceId="x", Attributes=attributes)
    found = await cloud_map("discover_instances", NamespaceName="plain", ServiceName="backend")
    assert [(i["InstanceId"], i["Attributes"], i["HealthStatus"]) for i in found["Instances"]] == [
        ("x", attributes, "UNKNOWN")
    ]
    assert (await cloud_map.ask("backend.plain")).code == 5


async def test_listings_come_in_pages(cloud_map):
    service = await cloud_map.service(await cloud_map.namespace())
    for number in range(5):
        await cloud_map.register(service, f"i-{number}", f"10.0.0.{number}")
    found, token = [], {}
    while True:
        page = await cloud_map("list_instances", ServiceId=service["Id"], MaxResults=2, **token)
        found += [i["Id"] for i in page["Instances"]]
        if "NextToken" not in page:
            break
        token = {"NextToken": page["NextToken"]}
    assert found == [f"i-{n}" for n in range(5)]
    filters = [{"Name": "TYPE", "Values": ["REGISTER_INSTANCE"], "Condition": "EQ"}]
    assert len((await cloud_map("list_operations", Filters=filters))["Operations"]) == 5


async def test_after_a_restart_names_are_as_before_on_the_same_port(stage, cloud_map):
    service = await cloud_map.service(await cloud_map.namespace())
    await cloud_map.register(service, "i-1", "10.0.0.1")
    await stage.stop()
    again = await stage.start()
    assert again.dns_port == cloud_map.dns_port
    assert (await again.ask("backend.shop.local")).data() == ["10.0.0.1"]


async def test_the_dns_answers_while_nats_is_away(stage, cloud_map, nats_platform):
    service = await cloud_map.service(await cloud_map.namespace())
    await cloud_map.register(service, "i-1", "10.0.0.1")
    await nats_platform.server.stop()
    assert (await cloud_map.ask("backend.shop.local")).data() == ["10.0.0.1"]
    await nats_platform.server.start()


async def test_names_of_others_are_asked_of_others(nats_platform, tmp_path):
    class Resolver(asyncio.DatagramProtocol):
        def connection_made(self, transport):
            self.transport = transport

        def datagram_received(self, data, addr):
            answer = data[:2] + b"\x81\x80" + data[4:6] + b"\0\1\0\0\0\0" + data[12:]
            self.transport.sendto(b"xx" + answer[2:], addr)  # somebody who guesses the id
            self.transport.sendto(answer + b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\x07", addr)

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Resolver, local_addr=("127.0.0.1", 0))
    stage = Stage(nats_platform, tmp_path)
    caller = await stage.start(resolvers=f"127.0.0.1:{transport.get_extra_info('sockname')[1]}")
    answer = await caller.ask("example.org")
    assert (answer.data(), answer.code, "aa" in answer.flags) == (["192.0.2.7"], 0, False)
    transport.close()
    assert (await caller.ask("example.org")).code == 2
    await stage.close()


async def test_hostile_packets_are_survived_over_udp_and_tcp(cloud_map):
    service = await cloud_map.service(await cloud_map.namespace())
    await cloud_map.register(service, "i-1", "10.0.0.1")
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=("127.0.0.1", cloud_map.dns_port)
    )
    chance = random.Random(3)
    for _ in range(500):
        transport.sendto(chance.randbytes(chance.randrange(80)))
    transport.close()
    for _ in range(20):
        _, writer = await asyncio.open_connection("127.0.0.1", cloud_map.dns_port)
        writer.write(chance.randbytes(40))
        writer.close()
    assert (await cloud_map.ask("backend.shop.local")).data() == ["10.0.0.1"]


class Ecs:
    """A scheduler and an agent that write what a test tells them."""

    @classmethod
    async def open(cls, nats_platform, arn):
        self = cls()
        self.store = await Store.open(await nats_platform.bus("scheduler"), schedulers.KINDS)
        self.agent = await Store.open(await nats_platform.bus("agent"), agents.KINDS)
        self.service = ecs.service(2, request={"serviceRegistries": [{"registryArn": arn}]})
        await self.store.put(SERVICE, self.service, "service.created.v1")
        return self

    async def run(self, name, address, last_status="RUNNING", deployment=""):
        task = ecs.task(name, service="web", zone="us-east-1a", deployment=deployment)
        if self.store.table(TASK).record(*TASK.key_of(task)) is None:
            await self.store.put(TASK, task, "task.placed.v1")
        status = ecs.status(task, last_status, network=NetworkInterface(private_ipv4=address))
        await self.agent.put(TASK_STATUS, status, "task.changed.v1")

    async def shift(self, **weights):
        deployments = [ecs.deployment(name, weight=weight) for name, weight in weights.items()]
        await self.store.put(SERVICE, replace(self.service, deployments=deployments), "service.progressed.v1")

    async def drop_registry(self):
        await self.store.put(SERVICE, replace(self.service, request={}), "service.updated.v1")

    async def close(self):
        await self.store.close()
        await self.agent.close()


async def test_tasks_of_a_service_are_in_the_dns_from_running_to_stopped(cloud_map, nats_platform):
    service = await cloud_map.service(await cloud_map.namespace())
    platform = await Ecs.open(nats_platform, service["Arn"])
    names = lambda: cloud_map.ask("backend.shop.local")  # noqa: E731

    async def addresses(*wanted):
        return sorted((await names()).data()) == sorted(wanted)

    await platform.run("t1", "10.0.0.1")
    await platform.run("t2", "10.0.0.2", "PENDING")
    await until(lambda: addresses("10.0.0.1"))
    await platform.run("t2", "10.0.0.2")
    await until(lambda: addresses("10.0.0.1", "10.0.0.2"))
    await platform.run("t1", "10.0.0.1", "STOPPED")
    stopped = time.monotonic()
    await until(lambda: addresses("10.0.0.2"))
    assert time.monotonic() - stopped < 5
    owned = await cloud_map.refused(
        "register_instance",
        ServiceId=service["Id"],
        InstanceId="t2",
        Attributes={"AWS_INSTANCE_IPV4": "10.0.0.9"},
    )
    assert owned == "ResourceInUse"
    await platform.drop_registry()
    await until(lambda: addresses())
    await platform.close()


async def test_traffic_that_shifts_shifts_in_the_dns_and_in_what_is_discovered(cloud_map, nats_platform):
    service = await cloud_map.service(await cloud_map.namespace())
    platform = await Ecs.open(nats_platform, service["Arn"])
    await platform.shift(blue=100.0, green=0.0)
    await platform.run("b1", "10.0.0.1", deployment="blue")
    await platform.run("g1", "10.0.0.2", deployment="green")

    async def answers():
        return [tuple((await cloud_map.ask("backend.shop.local")).data()) for _ in range(20)]

    async def discovered():
        found = await cloud_map("discover_instances", NamespaceName="shop.local", ServiceName="backend")
        return sorted(i["InstanceId"] for i in found["Instances"])

    await until(lambda: answers_are(answers, {("10.0.0.1",)}))
    assert await discovered() == ["b1"]
    await platform.shift(blue=50.0, green=50.0)
    await until(lambda: answers_are(answers, {("10.0.0.1",), ("10.0.0.2",)}))
    assert await discovered() == ["b1", "g1"]
    await platform.shift(blue=0.0, green=100.0)
    await until(lambda: answers_are(answers, {("10.0.0.2",)}))
    assert await discovered() == ["g1"]
    await platform.close()


async def answers_are(answers, wanted):
    return set(await answers()) == wanted


async def test_what_happened_to_tasks_while_discovery_was_away_is_made_up_for(stage, cloud_map, nats_platform):
    service = await cloud_map.service(await cloud_map.namespace())
    platform = await Ecs.open(nats_platform, service["Arn"])
    await platform.run("t1", "10.0.0.1")
    await until(lambda: stage.app.world.instances.record("000000000000", "us-east-1", service["Id"], "t1"))
    await stage.stop()
    await platform.run("t1", "10.0.0.1", "STOPPED")
    await platform.run("t2", "10.0.0.2")
    again = await stage.start()

    async def only_the_new_one():
        return (await again.ask("backend.shop.local")).data() == ["10.0.0.2"]

    await until(only_the_new_one)
    await platform.close()


async def test_a_registry_that_is_made_after_its_ecs_service_gets_the_tasks(stage, cloud_map, nats_platform):
    arn = "arn:aws:servicediscovery:us-east-1:000000000000:service/srv-later"
    platform = await Ecs.open(nats_platform, arn)
    await platform.run("t1", "10.0.0.1")
    service = await cloud_map.service(await cloud_map.namespace())
    moved = replace(platform.service, request={"serviceRegistries": [{"registryArn": service["Arn"]}]})
    await platform.store.put(SERVICE, moved, "service.updated.v1")

    async def found():
        return (await cloud_map.ask("backend.shop.local")).data() == ["10.0.0.1"]

    await until(found)
    await platform.close()
