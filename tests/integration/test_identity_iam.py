"""Roles, policies and sessions, asked by boto3 as anybody would."""

import asyncio
import base64
import contextlib
import json

import msgspec
import pytest
from botocore.exceptions import ClientError

from contracts.records.identity import ACCESS_KEY
from contracts.rpc.identity import (
    APP_RUNNER_TASKS,
    ECS_TASKS,
    ISSUE_SESSION,
    RESOLVE_SECRETS,
    IssueSession,
    ResolveSecrets,
)
from services.identity.adapters import read_credentials
from services.identity.app import CREDENTIALS_FILE, IdentityApp
from services.identity.settings import IdentitySettings
from services.shared.bus import CommandRefused
from services.shared.runner import Host, HttpServer, start_app, stop_app
from services.shared.sealing import Asker
from services.shared.state import Store
from tests.integration.test_identity import client

ROOT = "arn:aws:iam::000000000000:root"


def policy(*statements: dict) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(action, resource="*", **more) -> dict:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(action, resource="*", **more) -> dict:
    return {**allow(action, resource, **more), "Effect": "Deny"}


def trusting(**principal) -> str:
    return policy({"Effect": "Allow", "Principal": principal, "Action": ["sts:AssumeRole", "sts:TagSession"]})


TRUST_ACCOUNT = trusting(AWS=ROOT)
TRUST_TASKS = trusting(Service="ecs-tasks.amazonaws.com")


class Door:
    """Identity's own door: clients of the account, and of its roles' sessions."""

    def __init__(self, port, keys, app):
        self._port, self._keys = port, keys
        self.app = app

    def root(self, api):
        return Asked(client(self._port, self._keys.access_key_id, self._keys.secret, api=api))

    def of(self, credentials, api):
        keys = (credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials["SessionToken"])
        return Asked(client(self._port, *keys, api=api))

    async def role(self, name, *statements, trust=TRUST_ACCOUNT):
        """A role that may do this; its ARN."""
        iam = self.root("iam")
        arn = (await iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust))["Role"]["Arn"]
        if statements:
            await iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=policy(*statements))
        return arn

    async def session(self, name, *statements, **arguments):
        """Credentials of a session of a new role."""
        arn = await self.role(name, *statements)
        answer = await self.root("sts").assume_role(RoleArn=arn, RoleSessionName="me", **arguments)
        who = self.of(answer["Credentials"], "sts")
        async with asyncio.timeout(30):  # the door hears of the session within milliseconds, and so of its role
            while await refused(who.get_caller_identity()):
                pass
        return answer["Credentials"]


class Asked:
    """A boto3 client whose calls are awaited."""

    def __init__(self, client):
        self._client = client

    def __getattr__(self, name):
        return lambda **arguments: asyncio.to_thread(getattr(self._client, name), **arguments)


async def refused(call) -> str:
    """The error's code; empty when there was none."""
    try:
        await call
    except ClientError as error:
        return error.response["Error"]["Code"]
    return ""


async def refusal(call) -> str:
    with pytest.raises(ClientError) as error:
        await call
    return error.value.response["Error"]["Message"]


@contextlib.asynccontextmanager
async def doors(nats_platform, directory, s3=None):
    """Identity, with an S3 if one is given; its door."""
    identity = IdentityApp(Host(await nats_platform.bus("identity"), directory, instance="t"), IdentitySettings(), s3)
    await start_app(identity)
    server = HttpServer(identity)
    yield Door(await server.start(), read_credentials(directory / CREDENTIALS_FILE), identity)
    await server.stop()
    await stop_app(identity)


@pytest.fixture
async def door(nats_platform, tmp_path):
    async with doors(nats_platform, tmp_path) as door:
        yield door


async def test_a_role_is_created_shown_listed_changed_tagged_and_deleted(door):
    iam = door.root("iam")
    made = await iam.create_role(
        RoleName="shop", Path="/web/", AssumeRolePolicyDocument=TRUST_TASKS, Tags=[{"Key": "team", "Value": "a"}]
    )
    assert made["Role"]["Arn"] == "arn:aws:iam::000000000000:role/web/shop"
    assert made["Role"]["AssumeRolePolicyDocument"] == json.loads(TRUST_TASKS)
    assert await refused(iam.create_role(RoleName="Shop", AssumeRolePolicyDocument=TRUST_TASKS)) == (
        "EntityAlreadyExists"
    )
    await iam.update_assume_role_policy(RoleName="shop", PolicyDocument=TRUST_ACCOUNT)
    await iam.tag_role(RoleName="shop", Tags=[{"Key": "team", "Value": "b"}, {"Key": "x", "Value": "y"}])
    await iam.untag_role(RoleName="shop", TagKeys=["x"])
    role = (await iam.get_role(RoleName="shop"))["Role"]
    assert (role["Tags"], role["AssumeRolePolicyDocument"]) == (
        [{"Key": "team", "Value": "b"}],
        json.loads(TRUST_ACCOUNT),
    )
    assert [r["RoleName"] for r in (await iam.list_roles(PathPrefix="/web/"))["Roles"]] == ["shop"]
    await iam.delete_role(RoleName="shop")
    assert await refused(iam.get_role(RoleName="shop")) == "NoSuchEntity"


async def test_a_role_with_policies_is_not_deleted_nor_a_policy_that_a_role_has(door):
    iam = door.root("iam")
    await door.role("shop", allow("logs:*"))
    arn = (await iam.create_policy(PolicyName="read", PolicyDocument=policy(allow("ecs:Describe*"))))["Policy"]["Arn"]
    await iam.attach_role_policy(RoleName="shop", PolicyArn=arn)
    assert (await iam.list_attached_role_policies(RoleName="shop"))["AttachedPolicies"] == [
        {"PolicyName": "read", "PolicyArn": arn}
    ]
    assert await refused(iam.delete_role(RoleName="shop")) == "DeleteConflict"
    assert await refused(iam.delete_policy(PolicyArn=arn)) == "DeleteConflict"
    await iam.detach_role_policy(RoleName="shop", PolicyArn=arn)
    assert await refused(iam.delete_role(RoleName="shop")) == "DeleteConflict"
    assert (await iam.list_role_policies(RoleName="shop"))["PolicyNames"] == ["own"]
    await iam.delete_role_policy(RoleName="shop", PolicyName="own")
    await iam.delete_role(RoleName="shop")
    await iam.delete_policy(PolicyArn=arn)
    assert await refused(iam.get_policy(PolicyArn=arn)) == "NoSuchEntity"


async def test_only_managed_policies_of_aws_that_are_known_can_be_attached(door):
    iam = door.root("iam")
    await door.role("task")
    known = "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
    await iam.attach_role_policy(RoleName="task", PolicyArn=known)
    document = (await iam.get_policy_version(PolicyArn=known, VersionId="v1"))["PolicyVersion"]["Document"]
    assert "ecr:BatchGetImage" in document["Statement"][0]["Action"]
    unknown = "arn:aws:iam::aws:policy/NoSuchPolicyAtAll"
    assert await refused(iam.attach_role_policy(RoleName="task", PolicyArn=unknown)) == "NoSuchEntity"


@pytest.mark.parametrize("text", ["{", '{"Statement": []}', policy(allow("nonsense")), policy(allow("ecs:*", "x"))])
async def test_what_is_no_policy_is_refused_when_it_is_written(door, text):
    await door.role("shop")
    call = door.root("iam").put_role_policy(RoleName="shop", PolicyName="p", PolicyDocument=text)
    assert await refused(call) == "MalformedPolicyDocument"


async def test_a_session_may_do_what_its_role_s_policies_allow_and_nothing_else(door):
    session = await door.session("reader", allow("iam:GetRole", "arn:aws:iam::000000000000:role/reader"))
    iam = door.of(session, "iam")
    assert (await iam.get_role(RoleName="reader"))["Role"]["RoleName"] == "reader"
    assert await refusal(iam.get_role(RoleName="other")) == (
        "User: arn:aws:sts::000000000000:assumed-role/reader/me is not authorized to perform: iam:GetRole on resource: "
        "arn:aws:iam::000000000000:role/other because no identity-based policy allows the iam:GetRole action"
    )
    assert await refused(iam.list_roles()) == "AccessDenied"


async def test_an_explicit_deny_beats_an_allow(door):
    session = await door.session("careful", allow("iam:*"), deny("iam:DeleteRole"))
    iam = door.of(session, "iam")
    assert await refused(iam.list_roles()) == ""
    assert "with an explicit deny in an identity-based policy" in await refusal(iam.delete_role(RoleName="careful"))


async def test_a_session_policy_bounds_what_the_role_allows(door):
    session = await door.session("wide", allow("iam:*"), Policy=policy(allow("iam:ListRoles")))
    iam = door.of(session, "iam")
    assert await refused(iam.list_roles()) == ""
    assert "no session policy allows" in await refusal(iam.list_policies())


async def test_a_changed_policy_holds_for_sessions_that_are_there(door):
    iam = door.root("iam")
    session = await door.session("changing")
    assert await refused(door.of(session, "iam").list_roles()) == "AccessDenied"
    await iam.put_role_policy(RoleName="changing", PolicyName="p", PolicyDocument=policy(allow("iam:ListRoles")))
    async with asyncio.timeout(30):
        while await refused(door.of(session, "iam").list_roles()):
            pass


async def test_a_session_of_a_role_that_was_made_anew_may_do_nothing(door):
    session = await door.session("again")
    await door.root("iam").delete_role(RoleName="again")
    await door.role("again", allow("iam:*"))
    assert await refused(door.of(session, "iam").list_roles()) == "AccessDenied"


async def test_nobody_assumes_a_role_whose_trust_policy_does_not_name_them(door):
    sts = door.root("sts")
    tasks_only = await door.role("tasks-only", trust=TRUST_TASKS)
    for arn in (tasks_only, "arn:aws:iam::000000000000:role/nobody"):
        assert "is not authorized to perform: sts:AssumeRole" in await refusal(
            sts.assume_role(RoleArn=arn, RoleSessionName="me")
        )


async def test_a_session_assumes_a_role_only_if_both_sides_allow_it(door):
    target = await door.role("target")
    without = await door.session("without")
    allowed = await door.session("allowed", allow("sts:AssumeRole", target))
    arguments = {"RoleArn": target, "RoleSessionName": "it"}
    assert await refused(door.of(without, "sts").assume_role(**arguments)) == "AccessDenied"
    assert await refused(door.of(allowed, "sts").assume_role(**arguments)) == ""


async def test_a_condition_of_the_trust_policy_is_evaluated(door):
    condition = {"StringEquals": {"sts:ExternalId": "s3cret"}}
    statement = {"Effect": "Allow", "Principal": {"AWS": ROOT}, "Action": "sts:AssumeRole", "Condition": condition}
    arn = await door.role("partner", trust=policy(statement))
    sts = door.root("sts")
    assert await refused(sts.assume_role(RoleArn=arn, RoleSessionName="it")) == "AccessDenied"
    assert await refused(sts.assume_role(RoleArn=arn, RoleSessionName="it", ExternalId="s3cret")) == ""


async def test_a_session_is_no_longer_than_the_role_allows(door):
    arn = await door.role("short")
    call = door.root("sts").assume_role(RoleArn=arn, RoleSessionName="it", DurationSeconds=7200)
    assert await refused(call) == "ValidationError"


@pytest.mark.parametrize(("name", "words"), [("absent", "does not exist"), ("account-only", "trust relationship")])
async def test_a_task_gets_no_session_of_a_role_that_is_not_there_or_does_not_trust_tasks(
    door, nats_platform, name, words
):
    await door.role("account-only")
    agent = await nats_platform.bus("agent")
    arn = f"arn:aws:iam::000000000000:role/{name}"
    with pytest.raises(CommandRefused, match=words):
        await agent.call(ISSUE_SESSION, IssueSession(role_arn=arn, session_name="t"))


@pytest.mark.parametrize("trusted", [ECS_TASKS, APP_RUNNER_TASKS])
async def test_a_task_gets_a_session_of_a_role_that_trusts_its_own_service_alone(door, nats_platform, trusted):
    arn = await door.role("shop", trust=trusting(Service=trusted))
    agent = await nats_platform.bus("agent")
    asked = IssueSession(role_arn=arn, session_name="t", service=trusted)
    assert (await agent.call(ISSUE_SESSION, asked)).role_arn == arn
    (other,) = {ECS_TASKS, APP_RUNNER_TASKS} - {trusted}
    with pytest.raises(CommandRefused, match=f"it does not let {other} assume it"):
        await agent.call(ISSUE_SESSION, msgspec.structs.replace(asked, service=other))
    secrets = ResolveSecrets(
        role_arn=arn, task="t", account="000000000000", region="us-east-1", values_from=[],
        public_key=base64.b64encode(Asker().public).decode(), service=trusted,
    )  # fmt: skip
    assert (await agent.call(RESOLVE_SECRETS, secrets)).sealed
    with pytest.raises(CommandRefused, match=f"it does not let {other} assume it"):
        await agent.call(RESOLVE_SECRETS, msgspec.structs.replace(secrets, service=other))


async def test_no_other_service_gets_a_session_even_of_a_role_that_trusts_it(door, nats_platform):
    arn = await door.role("shop", trust=trusting(Service="ec2.amazonaws.com"))
    agent = await nats_platform.bus("agent")
    with pytest.raises(CommandRefused, match=r"'ec2.amazonaws.com' has no tasks"):
        await agent.call(ISSUE_SESSION, IssueSession(role_arn=arn, session_name="t", service="ec2.amazonaws.com"))


async def test_a_session_that_is_over_is_refused_at_once(door, nats_platform):
    session = await door.session("late", allow("*"))
    store = await Store.open(await nats_platform.bus("identity"), (ACCESS_KEY,))
    key = store.table(ACCESS_KEY).record(session["AccessKeyId"])
    await store.put(ACCESS_KEY, msgspec.structs.replace(key, expires_at=1.0), "session.issued.v1")
    async with asyncio.timeout(30):
        while not (code := await refused(door.of(session, "sts").get_caller_identity())):
            pass
    assert code == "ExpiredToken"
    await store.close()
