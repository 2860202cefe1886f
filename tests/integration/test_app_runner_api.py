"""App Runner's API over a real NATS, asked by boto3, with the scheduler beside it and agents that have no runtime."""

import asyncio
import datetime
import time

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from cryptography import x509

from contracts.records.registry import IMAGE_TAG, ImageTag
from services.app_runner_gateway.adapters.haproxy import Haproxy
from services.app_runner_gateway.app import AppRunnerGatewayApp
from services.app_runner_gateway.decisions.proxy import CERTIFICATE
from services.app_runner_gateway.settings import AppRunnerGatewaySettings
from services.discovery.app import DiscoveryApp
from services.discovery.settings import DiscoverySettings
from services.identity.adapters import read_credentials
from services.identity.app import CREDENTIALS_FILE, IdentityApp
from services.identity.settings import IdentitySettings
from services.shared.clock import system_clock
from services.shared.runner import Host, HttpServer, start_app, stop_app
from services.shared.state import Store
from tests.builders.waiting import until
from tests.fakes.agent import crashes
from tests.integration.test_scheduler import Stage as Schedulers

IMAGE = "000000000000.dkr.ecr.us-east-1.amazonaws.com/shop:1"
SOURCE = {
    "ImageRepository": {
        "ImageIdentifier": IMAGE,
        "ImageRepositoryType": "ECR",
        "ImageConfiguration": {"Port": "8080", "RuntimeEnvironmentVariables": {"A": "b"}},
    },
    "AutoDeploymentsEnabled": True,
}
ARN = "arn:aws:apprunner:us-east-1:000000000000"

pytestmark = pytest.mark.skipif(Haproxy(".", "haproxy", lambda: None).missing, reason="haproxy is not installed")


class Answers:
    """Something that listens where the fake agent says that its tasks are reached."""

    async def start(self):
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _answer(self, reader, writer):
        writer.close()

    def stop(self):
        self._server.close()


class Stage:
    """Identity, discovery, scheduler, one node, the gateway, and boto3."""

    def __init__(self, nats_platform, directory) -> None:
        self.nats, self.directory = nats_platform, directory
        self.schedulers = Schedulers(nats_platform, directory)
        self.answers = Answers()

    async def start(self, behave=None, **settings):
        await self.answers.start()
        self.identity = IdentityApp(await self.host("identity"), IdentitySettings())
        await start_app(self.identity)
        self.discovery = DiscoveryApp(await self.host("discovery"), DiscoverySettings(resolvers="none"))
        await start_app(self.discovery)
        await self.schedulers.scheduler()
        self.agent = await self.schedulers.agent(behave=behave)
        self.agent.address = "127.0.0.1"
        self.registry = await Store.open(await self.nats.bus("registry"), (IMAGE_TAG,))
        await self.gateway(**settings)
        return self

    async def host(self, service, clock=system_clock):
        return Host(await self.nats.bus(service), self.directory, instance="t", clock=clock)

    async def gateway(self, clock=system_clock, **settings):
        host = await self.host("app_runner_gateway", clock)
        self.app = AppRunnerGatewayApp(host, AppRunnerGatewaySettings(https_port=0, **settings))
        await start_app(self.app)
        self._http = HttpServer(self.app)
        port = await self._http.start()
        keys = read_credentials(self.directory / CREDENTIALS_FILE)
        self._client = boto3.client(
            "apprunner",
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name="us-east-1",
            aws_access_key_id=keys.access_key_id,
            aws_secret_access_key=keys.secret,
            config=Config(retries={"total_max_attempts": 1}),
        )

    async def stop_gateway(self):
        await self._http.stop()
        await stop_app(self.app)

    async def close(self):
        await self.stop_gateway()
        await self.schedulers.close()
        await self.registry.close()
        await stop_app(self.discovery)
        await stop_app(self.identity)
        self.answers.stop()

    async def __call__(self, operation, **members):
        answer = await asyncio.to_thread(getattr(self._client, operation), **members)
        return {k: v for k, v in answer.items() if k != "ResponseMetadata"}

    async def refused(self, operation, **members):
        with pytest.raises(ClientError) as error:
            await self(operation, **members)
        told = error.value.response["Error"]
        return told["Code"], told["Message"]

    def source(self, **image):
        configuration = {**SOURCE["ImageRepository"]["ImageConfiguration"], "Port": str(self.answers.port)}
        repository = {**SOURCE["ImageRepository"], "ImageConfiguration": configuration, **image}
        return {**SOURCE, "ImageRepository": repository}

    async def push(self, digest, tag="1"):
        record = ImageTag(
            account="000000000000", region="us-east-1", repository="shop", tag=tag, digest=f"sha256:{digest * 64}",
            tagged_at=1.0,
        )  # fmt: skip
        await self.registry.put(IMAGE_TAG, record, "tag.moved.v1")

    async def create(self, name="shop", **members):
        service = (await self("create_service", ServiceName=name, SourceConfiguration=self.source(), **members))[
            "Service"
        ]
        return service["ServiceArn"]

    async def status(self, arn):
        return (await self("describe_service", ServiceArn=arn))["Service"]["Status"]

    async def settled(self, arn, status="RUNNING"):
        async def over():
            return await self.status(arn) != "OPERATION_IN_PROGRESS"

        await until(over)
        assert await self.status(arn) == status

    async def operations(self, arn):
        found = (await self("list_operations", ServiceArn=arn))["OperationSummaryList"]
        return [(o["Type"], o["Status"]) for o in found]


@pytest.fixture
async def stage(nats_platform, tmp_path):
    stage = Stage(nats_platform, tmp_path)
    try:
        yield stage
    finally:
        await stage.close()


@pytest.mark.parametrize(
    ("program", "said", "ready"),
    [("", "can't be served here", True), ("no-haproxy-here", "haproxy is not installed", False)],
)
async def test_who_can_serve_nothing_says_why(stage, program, said, ready):
    await stage.start(haproxy=program)
    code, message = await stage.refused("create_service", ServiceName="shop", SourceConfiguration=stage.source())
    assert (code, said in message) == ("InternalServiceErrorException", True)
    assert (stage.app.not_ready() is None) == ready
    assert (await stage("list_services"))["ServiceSummaryList"] == []


async def test_a_service_lives_from_creation_to_deletion(stage):
    await stage.start(keep_deleted_s=0.2)
    await stage.push("a")
    arn = await stage.create(Tags=[{"Key": "team", "Value": "blue"}])
    service = (await stage("describe_service", ServiceArn=arn))["Service"]
    assert service["ServiceUrl"].endswith(f".us-east-1.apprunner.localhost:{stage.app.https_port}")
    assert service["SourceConfiguration"] == stage.source()
    assert service["InstanceConfiguration"] == {"Cpu": "1024", "Memory": "2048"}
    await stage.settled(arn)
    assert (await stage("list_tags_for_resource", ResourceArn=arn))["Tags"] == [{"Key": "team", "Value": "blue"}]
    await stage("untag_resource", ResourceArn=arn, TagKeys=["team"])
    assert (await stage("list_tags_for_resource", ResourceArn=arn))["Tags"] == []
    for operation, status in (
        ("pause_service", "PAUSED"),
        ("resume_service", "RUNNING"),
        ("delete_service", "DELETED"),
    ):
        await stage(operation, ServiceArn=arn)
        await stage.settled(arn, status)
    assert await stage.operations(arn) == [
        (kind, "SUCCEEDED") for kind in ("DELETE_SERVICE", "RESUME_SERVICE", "PAUSE_SERVICE", "CREATE_SERVICE")
    ]
    assert (await stage("list_services"))["ServiceSummaryList"] == []
    assert stage.agent.running() == []
    await until(lambda: not len(stage.app.world.services))
    assert (await stage.refused("describe_service", ServiceArn=arn))[0] == "ResourceNotFoundException"


async def test_a_moved_tag_deploys_the_image_by_its_digest(stage):
    await stage.start()
    await stage.push("a")
    arn = await stage.create()
    await stage.settled(arn)
    await stage.push("b")

    def image():
        found = {c.image for s in map(stage.agent.status, stage.agent.running()) for c in s.containers}
        return found == {f"000000000000.dkr.ecr.us-east-1.amazonaws.com/shop@sha256:{'b' * 64}"}

    await until(image)
    await stage.settled(arn)
    assert await stage.operations(arn) == [("START_DEPLOYMENT", "SUCCEEDED"), ("CREATE_SERVICE", "SUCCEEDED")]


async def test_what_never_runs_is_create_failed_and_can_be_deleted(stage):
    await stage.start(behave=crashes)
    stage.answers.stop()  # what listened for a task that crashes made it healthy, when the check was quicker
    arn = await stage.create()
    await stage.settled(arn, "CREATE_FAILED")
    assert await stage.operations(arn) == [("CREATE_SERVICE", "FAILED")]
    assert (await stage.refused("start_deployment", ServiceArn=arn))[0] == "InvalidStateException"
    await stage("delete_service", ServiceArn=arn)
    await stage.settled(arn, "DELETED")


async def test_what_does_not_become_healthy_is_rolled_back_in_time(stage):
    await stage.start(deploy_s=2.0)
    arn = await stage.create()
    await stage.settled(arn)
    wrong = stage.source(ImageConfiguration={"Port": "9"})
    await stage("update_service", ServiceArn=arn, SourceConfiguration=wrong)
    assert (await stage.refused("delete_service", ServiceArn=arn))[0] == "InvalidStateException"
    await stage.settled(arn)
    assert (await stage.operations(arn))[0] == ("UPDATE_SERVICE", "ROLLBACK_SUCCEEDED")
    assert (await stage("describe_service", ServiceArn=arn))["Service"]["SourceConfiguration"] == stage.source()
    await until(lambda: len(stage.agent.running()) == 1)


async def test_an_update_of_the_scaling_alone_changes_instances_and_deploys_nothing(stage):
    await stage.start()
    made = await stage(
        "create_auto_scaling_configuration", AutoScalingConfigurationName="two-of-them", MinSize=2, MaxSize=2
    )
    arn = await stage.create()
    await stage.settled(arn)
    scaling = made["AutoScalingConfiguration"]["AutoScalingConfigurationArn"]
    await stage("update_service", ServiceArn=arn, AutoScalingConfigurationArn=scaling)
    await stage.settled(arn)
    await until(lambda: len(stage.agent.running()) == 2)
    (record,) = stage.app.world.services.records()
    assert (record.active, record.last_revision) == (1, 1)
    used = await stage("list_services_for_auto_scaling_configuration", AutoScalingConfigurationArn=scaling)
    assert used["ServiceArnList"] == [arn]
    told = await stage.refused("delete_auto_scaling_configuration", AutoScalingConfigurationArn=scaling)
    assert told[0] == "InvalidRequestException"


async def test_scaling_configurations_have_revisions_and_one_is_the_default(stage):
    await stage.start()
    name = {"AutoScalingConfigurationName": "high-load"}
    first = (await stage("create_auto_scaling_configuration", **name, MaxConcurrency=5))["AutoScalingConfiguration"]
    second = (await stage("create_auto_scaling_configuration", **name, MinSize=2))["AutoScalingConfiguration"]
    assert (first["AutoScalingConfigurationRevision"], second["AutoScalingConfigurationRevision"]) == (1, 2)
    assert (first["MaxConcurrency"], first["MinSize"], first["MaxSize"], first["Latest"]) == (5, 1, 25, True)
    listed = await stage("list_auto_scaling_configurations")
    shown = [
        (s["AutoScalingConfigurationName"], s["AutoScalingConfigurationRevision"], s["IsDefault"])
        for s in listed["AutoScalingConfigurationSummaryList"]
    ]
    assert shown == [("DefaultConfiguration", 1, True), ("high-load", 2, False)]
    bare = f"{ARN}:autoscalingconfiguration/high-load"
    found = await stage("describe_auto_scaling_configuration", AutoScalingConfigurationArn=bare)
    assert found["AutoScalingConfiguration"]["AutoScalingConfigurationRevision"] == 2
    by_default = {"AutoScalingConfigurationArn": second["AutoScalingConfigurationArn"]}
    await stage("update_default_auto_scaling_configuration", **by_default)
    assert (await stage.refused("delete_auto_scaling_configuration", **by_default))[0] == "InvalidRequestException"
    gone = {"AutoScalingConfigurationArn": first["AutoScalingConfigurationArn"]}
    assert (await stage("delete_auto_scaling_configuration", **gone))["AutoScalingConfiguration"][
        "Status"
    ] == "INACTIVE"
    for wrong in ({"MaxSize": 26}, {"MinSize": 3, "MaxSize": 2}, {"MaxConcurrency": 201}):
        code, message = await stage.refused("create_auto_scaling_configuration", **name, **wrong)
        assert code == "InvalidRequestException"
        assert next(iter(wrong)).lower() in message.lower()


async def test_what_makes_no_sense_is_refused_by_its_member(stage):
    await stage.start()
    arn = await stage.create()
    again = await stage.refused("create_service", ServiceName="shop", SourceConfiguration=stage.source())
    assert again[0] == "InvalidRequestException" and "already exists" in again[1]
    code = {"CodeRepository": {"RepositoryUrl": "u", "SourceCodeVersion": {"Type": "BRANCH", "Value": "main"}}}
    assert "CodeRepository" in (await stage.refused("create_service", ServiceName="code", SourceConfiguration=code))[1]
    sizes = {"Cpu": "256", "Memory": "12288"}
    told = await stage.refused(
        "create_service", ServiceName="big-one", SourceConfiguration=stage.source(), InstanceConfiguration=sizes
    )
    assert told[0] == "InvalidRequestException" and "Memory" in told[1]
    missing = f"{ARN}:service/none/{'0' * 32}"
    assert (await stage.refused("pause_service", ServiceArn=missing))[0] == "ResourceNotFoundException"
    await stage.settled(arn)


async def test_the_next_gateway_goes_on_where_the_last_one_stopped(stage):
    await stage.start()
    arn = await stage.create()
    await stage.settled(arn)
    await stage("pause_service", ServiceArn=arn)
    await stage.stop_gateway()
    await stage.gateway()
    await stage.settled(arn, "PAUSED")
    await until(lambda: stage.agent.running() == [])


async def test_a_service_is_made_without_discovery_and_named_when_that_is_back_with_the_same_instances(stage):
    await stage.start()
    await stop_app(stage.discovery)
    await stage.discovery.host.bus.close()  # as when its process is gone: nobody answers
    await stage.push("a")
    arn = await stage.create()
    await stage.settled(arn)
    running = stage.agent.running()
    (service,) = stage.app.world.services.records()
    assert (len(running), service.registry_arn) == (1, None)
    stage.discovery = DiscoveryApp(await stage.host("discovery"), DiscoverySettings(resolvers="none"))
    await start_app(stage.discovery)

    def named():
        (service,) = stage.app.world.services.records()
        ((_, workload),) = stage.app.world.workloads_of(service)
        found = [r["registryArn"] for r in workload.request["serviceRegistries"]]
        return found == [service.registry_arn] and len(workload.deployments) == 1

    await until(named)
    assert stage.agent.running() == running
    assert await stage.operations(arn) == [("CREATE_SERVICE", "SUCCEEDED")]


async def test_a_certificate_is_made_anew_before_it_ends_while_the_gateway_runs(stage):
    passed = datetime.timedelta()
    await stage.start(clock=lambda: time.time() + passed.total_seconds(), certificate_look_s=0.05)
    first = certificate(stage)
    passed = datetime.timedelta(days=380)
    await until(lambda: certificate(stage).not_valid_after_utc > first.not_valid_after_utc)
    assert certificate(stage).not_valid_after_utc - first.not_valid_after_utc >= datetime.timedelta(days=379)


def certificate(stage):
    return x509.load_pem_x509_certificate((stage.directory / "app_runner_gateway" / CERTIFICATE).read_bytes())
