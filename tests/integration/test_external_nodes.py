"""External nodes at identity and NATS: what an activation gives, what a node may, what it is refused."""

import asyncio
import json
import secrets
import time

import aiohttp
import msgspec
import nats
import nats.errors
import pytest
from botocore.exceptions import ClientError
from msgspec.structs import replace

from contracts.records.agent import NODE
from contracts.records.exec import ExecAnswer, ExecAttach, ExecOpen
from contracts.records.scheduler import CONTAINER_INSTANCE, TASK, TASK_DEFINITION, ContainerInstance, TaskDefinition
from contracts.rpc.identity import (
    ISSUE_SESSION,
    REGISTER_NODE,
    RESOLVE_SECRETS,
    STORE_SESSION_LOG,
    IssueSession,
    RegisterNode,
    ResolveSecrets,
    StoreSessionLog,
)
from contracts.rpc.registry import ISSUE_PULL_TOKEN, IssuePullToken
from contracts.subjects import exec_attach, exec_in, exec_open, exec_out
from services.agent.execs import Sessions
from services.agent.ports import ContainerSpec, Image, SandboxSpec
from services.cli.uplink import Uplink
from services.edge.app import EdgeApp
from services.edge.settings import EdgeSettings
from services.shared import data_channel
from services.shared.bus import Bus, CommandRefused
from services.shared.errors import StateUnavailable
from services.shared.managed_nodes import digest
from services.shared.runner import Host, HttpServer, start_app, stop_app
from services.shared.sealing import Asker
from services.shared.state import Store
from services.shared.views import View
from tests.builders.ecs import node as node_record
from tests.builders.ecs import task as task_record
from tests.builders.registry import registry_at
from tests.builders.waiting import until
from tests.fakes.runtime import FakeRuntime
from tests.integration.test_identity_iam import allow, door, refused, trusting  # noqa: F401

REGION = "us-east-1"
SSM_TRUST = trusting(Service="ssm.amazonaws.com")


@pytest.fixture
async def ssm(door):  # noqa: F811
    await door.role("ecsAnywhereRole", trust=SSM_TRUST)
    return door.root("ssm")


async def quiet(error: Exception) -> None:
    """What is refused is no news here."""


class Machine:
    """A machine with a secret, on the platform's NATS."""

    def __init__(self, platform) -> None:
        self.platform, self.secret, self.node = platform, secrets.token_hex(32), ""
        self.errors: list[str] = []

    async def join(self, activation: dict, **changed):
        edge = await self.platform.bus("edge")
        request = {
            "activation_id": activation["ActivationId"],
            "activation_code": activation["ActivationCode"],
            "region": REGION,
            "cluster": "main",
            "secret_digest": digest(self.secret),
            **changed,
        }
        answer = await edge.call(REGISTER_NODE, RegisterNode(**request))
        self.node = answer.node
        return answer

    async def connect(self, **changed) -> Bus:
        given = {"user": self.node, "password": self.secret, "node": self.node, **changed}
        bus = await Bus.connect(self.platform.server.url, "agent", wait_s=20, **given)
        self.platform._buses.append(bus)
        on_error = bus.client._error_cb

        async def keep(error):
            self.errors.append(str(error))
            await on_error(error)

        bus.client._error_cb = keep
        return bus

    async def refused(self, **changed) -> bool:
        """Whether NATS lets it not in."""
        given = {"user": self.node, "password": self.secret, **changed}
        try:
            client = await nats.connect(self.platform.server.url, allow_reconnect=False, error_cb=quiet, **given)
        except nats.errors.Error as error:
            return "Authorization Violation" in str(error)
        await client.close()
        return False


async def joined(ssm, platform) -> tuple[Machine, Bus]:
    machine = Machine(platform)
    await machine.join(await ssm.create_activation(IamRole="ecsAnywhereRole", RegistrationLimit=5))
    return machine, await machine.connect()


async def test_an_activation_is_made_described_filtered_and_deleted_and_its_code_is_told_once(ssm):
    expires = time.time() + 3600
    made = await ssm.create_activation(
        IamRole="ecsAnywhereRole",
        Description="lab",
        DefaultInstanceName="box",
        RegistrationLimit=3,
        ExpirationDate=expires,
    )
    assert len(made["ActivationCode"]) == 20
    (shown,) = (await ssm.describe_activations())["ActivationList"]
    told = ("ActivationId", "Description", "DefaultInstanceName", "IamRole", "RegistrationLimit", "RegistrationsCount")
    assert [shown[name] for name in told] == [made["ActivationId"], "lab", "box", "ecsAnywhereRole", 3, 0]
    assert made["ActivationCode"] not in json.dumps(shown, default=str)
    none = [{"FilterKey": "IamRole", "FilterValues": ["other"]}]
    assert (await ssm.describe_activations(Filters=none))["ActivationList"] == []
    await ssm.delete_activation(ActivationId=made["ActivationId"])
    assert await refused(ssm.delete_activation(ActivationId=made["ActivationId"])) == "InvalidActivation"


async def test_what_can_t_be_an_activation_is_refused(ssm, door):  # noqa: F811
    await door.role("tasks", trust=trusting(Service="ecs-tasks.amazonaws.com"))
    assert await refused(ssm.create_activation(IamRole="none")) == "ValidationException"
    assert await refused(ssm.create_activation(IamRole="tasks")) == "ValidationException"
    late = time.time() + 31 * 24 * 3600
    assert await refused(ssm.create_activation(IamRole="ecsAnywhereRole", ExpirationDate=late)) == "InvalidParameters"


async def test_of_many_machines_at_once_as_many_join_as_may(ssm, nats_platform):
    activation = await ssm.create_activation(IamRole="ecsAnywhereRole", RegistrationLimit=3)
    machines = [Machine(nats_platform) for _ in range(6)]
    results = await asyncio.gather(*(m.join(activation) for m in machines), return_exceptions=True)
    refusals = [r for r in results if isinstance(r, CommandRefused)]
    assert (len(refusals), {r.code for r in refusals}) == (3, {"InvalidActivation"})
    (first,) = [m for m, r in zip(machines, results, strict=True) if not isinstance(r, Exception)][:1]
    again = await first.join(activation)
    assert (again.node, again.account, again.cluster) == (first.node, "000000000000", "main")
    (shown,) = (await ssm.describe_activations())["ActivationList"]
    assert shown["RegistrationsCount"] == 3


async def test_a_node_speaks_for_itself_alone(ssm, nats_platform):
    machine, bus = await joined(ssm, nats_platform)
    store = Store(bus, await View.open(bus, NODE, filters=(NODE.filter(node=machine.node),)))
    tasks = await View.open(bus, TASK, filters=(TASK.filter(node=machine.node),))
    await store.put(NODE, node_record(machine.node), "node.registered.v1")
    others = ("exec.out.n1.s1", "exec.in.n1.s1", "_INBOX.scheduler.1")
    own = (NODE.subject(("n1",)), "heartbeat.agent.n1", "rpc.identity.issue_session", "logs.1.us-east-1.g.s")
    for subject in (*own, *others):
        machine.errors.clear()
        await bus.client.publish(subject, b"{}")
        await until(lambda: any("permissions violation" in error.lower() for error in machine.errors))
    for subject in ("_INBOX.agent.>", "state.>", "exec.in.*.*", "exec.attach.n1.*"):
        machine.errors.clear()
        await bus.client.subscribe(subject)
        await until(lambda: any("permissions violation" in error.lower() for error in machine.errors))
    await tasks.close()
    await store.close()


async def test_a_session_of_execute_command_goes_over_the_node_s_own_subjects(ssm, nats_platform):
    machine, bus = await joined(ssm, nats_platform)
    runtime = FakeRuntime()
    sandbox = await runtime.create_sandbox(SandboxSpec("t1"))
    await runtime.run_container(sandbox, ContainerSpec("t1-0", "main", Image("app", "sha256:0", 1)))
    sessions = Sessions(bus, runtime, machine.node, lambda wanted: "t1-0", lambda: 1000.0)
    await sessions.start()
    scheduler, edge = await nats_platform.bus("scheduler"), await nats_platform.bus("edge")
    said: asyncio.Queue = asyncio.Queue()
    await edge.subscribe(exec_out(machine.node, "s1"), said.put)
    await edge.client.flush()
    where = {"account": "000000000000", "region": REGION, "cluster": "main", "task": "t1", "container": "main"}
    wanted = ExecOpen(session="s1", token_digest=digest("secret"), **where, argv=["sh"], tty=True)
    opened = await scheduler.request(exec_open(machine.node), msgspec.json.encode(wanted))
    attach = msgspec.json.encode(ExecAttach(token="secret"))
    attached = await edge.request(exec_attach(machine.node, "s1"), attach)
    assert [msgspec.json.decode(each.data, type=ExecAnswer).refusal for each in (opened, attached)] == ["", ""]
    async with asyncio.timeout(30):
        handshake = data_channel.decode((await said.get()).data)
        assert (await edge.request(exec_in(machine.node, "s1"))).data == b""  # the node still has it, and may say so
    assert handshake.payload_type == data_channel.HANDSHAKE_REQUEST
    await sessions.stop()
    assert machine.errors == []


async def test_who_makes_an_activation_must_be_allowed_to_pass_its_role(ssm, door):  # noqa: F811
    create = allow("ssm:CreateActivation")
    role = "arn:aws:iam::000000000000:role/ecsAnywhereRole"
    to_ssm = {"StringEquals": {"iam:PassedToService": "ssm.amazonaws.com"}}
    half = door.of(await door.session("half", create, allow("iam:PassRole", role + "2")), "ssm")
    whole = door.of(await door.session("whole", create, allow("iam:PassRole", role, Condition=to_ssm)), "ssm")
    with pytest.raises(ClientError, match=f"not authorized to perform: iam:PassRole on resource: {role}") as refusal:
        await half.create_activation(IamRole="ecsAnywhereRole")
    assert refusal.value.response["Error"]["Code"] == "AccessDeniedException"
    assert (await whole.create_activation(IamRole="ecsAnywhereRole"))["ActivationId"]


async def test_who_is_no_node_or_is_out_does_not_get_in(ssm, nats_platform):
    machine, _ = await joined(ssm, nats_platform)
    assert await machine.refused(password="x" * 64)
    assert await machine.refused(user="mi-0123456789abcdef0")
    assert not await machine.refused()
    scheduler = await Store.open(await nats_platform.bus("scheduler"), (CONTAINER_INSTANCE,))
    out = ContainerInstance(account="000000000000", region=REGION, cluster="main", node=machine.node, status="INACTIVE")
    await scheduler.put(CONTAINER_INSTANCE, out, "container_instance.deregistered.v1")
    assert await machine.refused()
    other, _ = await joined(ssm, nats_platform)
    await ssm.deregister_managed_instance(InstanceId=other.node)
    assert await other.refused()
    unknown = ssm.deregister_managed_instance(InstanceId="mi-0123456789abcdef0")
    assert await refused(unknown) == "InvalidInstanceId"


async def place(nats_platform, node: str, task_id: str, role: str) -> None:
    store = await Store.open(await nats_platform.bus("scheduler"), (TASK, TASK_DEFINITION))
    container = {"name": "web", "image": "busybox", "secrets": [{"name": "PASS", "valueFrom": "/shop/pass"}]}
    definition = TaskDefinition(
        account="000000000000",
        region=REGION,
        family="web",
        revision=1,
        status="ACTIVE",
        definition={"containerDefinitions": [container], "taskRoleArn": role, "executionRoleArn": role},
        registered_at=1.0,
    )
    await store.put(TASK_DEFINITION, definition, "task_definition.registered.v1")
    await store.put(TASK, task_record(task_id, node=node), "task.placed.v1")


async def test_a_node_gets_the_credentials_and_secrets_of_its_own_tasks_alone(ssm, nats_platform, door):  # noqa: F811
    machine, bus = await joined(ssm, nats_platform)
    trust = trusting(Service="ecs-tasks.amazonaws.com")
    role = await door.role("web", allow("ssm:GetParameters"), trust=trust)
    other = await door.role("admin", allow("*"), trust=trust)
    for name in ("/shop/pass", "/shop/other"):
        await ssm.put_parameter(Name=name, Value="open sesame", Type="SecureString")
    await place(nats_platform, machine.node, "mine", role)
    store = await Store.open(await nats_platform.bus("scheduler"), (TASK,))
    await store.put(TASK, task_record("elsewhere", node="n1"), "task.placed.v1")
    session = await bus.call(ISSUE_SESSION, IssueSession(role_arn=role, session_name="mine"))
    assert session.role_arn == role
    asker = Asker()

    async def resolve(*wanted: str, **changed):
        import base64

        about = {"role_arn": role, "task": "mine", "account": "000000000000", "region": REGION, **changed}
        key = base64.b64encode(asker.public).decode()
        return await bus.call(RESOLVE_SECRETS, ResolveSecrets(values_from=list(wanted), public_key=key, **about))

    assert (await resolve("/shop/pass")).sealed
    logged = StoreSessionLog(
        role_arn=role, task="mine", account="000000000000", region=REGION, bucket="logs", key="s1.log", content=""
    )
    with pytest.raises(CommandRefused, match="not authorized to perform: s3:GetBucketLocation"):
        await bus.call(STORE_SESSION_LOG, logged)  # as the role of its own task, which may not
    for call in (
        bus.call(ISSUE_SESSION, IssueSession(role_arn=other, session_name="mine")),
        bus.call(ISSUE_SESSION, IssueSession(role_arn=role, session_name="elsewhere")),
        bus.call(ISSUE_SESSION, IssueSession(role_arn=role, session_name="none")),
        resolve("/shop/other"),
        resolve("/shop/pass", task="elsewhere"),
        resolve("/shop/pass", role_arn=other),
        resolve("/shop/pass", region="eu-west-1"),
        resolve("/shop/pass", environment_files=["arn:aws:s3:::theirs/a.env"]),
        bus.call(STORE_SESSION_LOG, replace(logged, role_arn=other)),
        bus.call(STORE_SESSION_LOG, replace(logged, task="elsewhere")),
    ):
        with pytest.raises(CommandRefused, match=r"The (task|node)"):
            await call
    bus.node = ""  # as a service asks: not this one's to say
    with pytest.raises(StateUnavailable):
        await bus.call(ISSUE_SESSION, IssueSession(role_arn=role, session_name="mine"), timeout=0.5)


@pytest.fixture
async def edge(nats_platform, tmp_path):
    app = EdgeApp(Host(await nats_platform.bus("edge"), tmp_path, instance="e"), EdgeSettings())
    await start_app(app)
    server = HttpServer(app)
    port = await server.start()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
        yield http
    await server.stop()
    await stop_app(app)


def _setter(event: asyncio.Event):
    async def call() -> None:
        event.set()

    return call


async def test_the_edge_names_what_is_wrong_and_carries_those_that_are_in_until_they_are_out(ssm, edge, nats_platform):
    activation = await ssm.create_activation(IamRole="ecsAnywhereRole")
    machine = Machine(nats_platform)
    good = {
        "activation_id": activation["ActivationId"],
        "activation_code": activation["ActivationCode"],
        "region": REGION,
        "cluster": "main",
        "secret_digest": digest(machine.secret),
    }

    async def post(body: dict) -> tuple[int, dict]:
        async with edge.post("/v1/nodes", json=body) as answer:
            return answer.status, await answer.json()

    for changed, status, said in (
        ({"cluster": "a b"}, 400, "cluster"),
        ({"cluster": 1}, 400, "cluster"),
        ({"hostname": "x" * 20_000}, 413, "more than"),
        ({"activation_code": "x" * 20}, 403, "not valid"),
        ({"region": "eu-west-1"}, 403, "not valid"),
    ):
        answered, why = await post({**good, **changed})
        assert (answered, said in why["message"]) == (status, True)
    _, joined_as = await post(good)
    shown = {"Authorization": f"Bearer {joined_as['node']}:{machine.secret}"}
    for headers in ({}, {"Authorization": f"Bearer {joined_as['node']}:x"}, {"Authorization": "Bearer"}):
        async with edge.get("/v1/nodes/connection", headers=headers) as answer:
            assert answer.status == 403
    async with edge.get("/v1/nodes/connection", headers=shown) as answer:
        assert answer.status == 400  # it is in, and asks for no WebSocket
    async with edge.get("/v1/nodes/else") as answer:
        assert answer.status == 404
    uplink = Uplink(f"http://127.0.0.1:{edge._base_url.port}", joined_as["node"], machine.secret)
    await uplink.start()
    given = {"user": joined_as["node"], "password": machine.secret, "node": joined_as["node"]}
    bus = await Bus.connect(uplink.url, "agent", wait_s=30, **given)
    lost = asyncio.Event()
    bus.client._disconnected_cb = _setter(lost)
    await bus.api("STREAM.INFO.STATE_AGENT")
    assert not uplink.refused.is_set()
    await ssm.deregister_managed_instance(InstanceId=joined_as["node"])
    async with asyncio.timeout(30):
        await lost.wait()
        await uplink.refused.wait()
    assert "deregistered" in uplink.refusal
    await bus.close()
    await uplink.stop()
    async with edge.get("/v1/nodes/connection", headers=shown) as answer:
        assert (answer.status, "deregistered" in await answer.text()) == (403, True)


async def test_a_node_may_pull_what_its_own_tasks_name_and_nothing_else(ssm, nats_platform, tmp_path):
    machine, bus = await joined(ssm, nats_platform)
    await place(nats_platform, machine.node, "mine", "")
    here = {"account": "000000000000", "region": REGION, "task": "mine"}
    async with registry_at(nats_platform, tmp_path / "registry"):
        token = await bus.call(ISSUE_PULL_TOKEN, IssuePullToken(image="busybox", **here))
        assert (token.local, token.image) == (False, "busybox")
        for wrong in (
            {"image": "localhost:5000/secret"},
            {"task": "none"},
            {"account": "111111111111"},
            {"region": "eu-west-1"},
            {"to_run": False},
        ):
            with pytest.raises(CommandRefused, match=r"The (task|node)"):
                await bus.call(ISSUE_PULL_TOKEN, IssuePullToken(**{"image": "busybox", **here, **wrong}))
