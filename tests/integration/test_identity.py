"""Identity behind the edge, asked by boto3."""

import asyncio

import boto3
import botocore.exceptions
import pytest
from botocore.config import Config

from contracts.rpc.identity import ISSUE_SESSION, IssueSession
from services.edge.adapters import LocalUpstream
from services.edge.app import EdgeApp
from services.edge.settings import EdgeSettings
from services.identity.adapters import read_credentials
from services.identity.app import CREDENTIALS_FILE, IdentityApp
from services.identity.settings import IdentitySettings
from services.shared.bus import CommandRefused
from services.shared.runner import Host, HttpServer, start_app, stop_app


def client(port: int, key: str, secret: str, token: str | None = None, api: str = "sts"):
    return boto3.client(
        api,
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        aws_session_token=token,
        config=Config(retries={"total_max_attempts": 1}),
    )


@pytest.fixture
async def door(nats_platform, tmp_path):
    """Identity and edge in one process; yields (port, credentials, identity)."""
    identity = IdentityApp(Host(await nats_platform.bus("identity"), tmp_path, instance="t"), IdentitySettings())
    await start_app(identity)
    local = {"identity": LocalUpstream(identity.aws_server)}
    edge = EdgeApp(Host(await nats_platform.bus("edge"), tmp_path, instance="t"), EdgeSettings(), lambda: local)
    await start_app(edge)
    server = HttpServer(edge)
    yield await server.start(), read_credentials(tmp_path / CREDENTIALS_FILE), identity
    await server.stop()
    await stop_app(edge)
    await stop_app(identity)


async def test_the_account_s_own_key_says_who_it_is(door):
    port, credentials, _ = door
    answer = await asyncio.to_thread(client(port, credentials.access_key_id, credentials.secret).get_caller_identity)
    assert (answer["Account"], answer["Arn"]) == ("000000000000", "arn:aws:iam::000000000000:root")


async def test_a_wrong_secret_is_refused(door):
    port, credentials, _ = door
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        await asyncio.to_thread(client(port, credentials.access_key_id, "x" * 40).get_caller_identity)
    assert refused.value.response["Error"]["Code"] == "SignatureDoesNotMatch"


TASKS_MAY_ASSUME_IT = (
    '{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "sts:AssumeRole",'
    ' "Principal": {"Service": "ecs-tasks.amazonaws.com"}}}'
)


async def test_a_task_s_session_says_who_it_is_and_may_do_nothing_that_its_role_does_not_allow(door, nats_platform):
    port, root, _ = door
    iam = client(port, root.access_key_id, root.secret, api="iam")
    made = await asyncio.to_thread(iam.create_role, RoleName="shop", AssumeRolePolicyDocument=TASKS_MAY_ASSUME_IT)
    agent = await nats_platform.bus("agent")
    role = made["Role"]["Arn"]
    session = await agent.call(ISSUE_SESSION, IssueSession(role_arn=role, session_name="task-1"))
    keys = (session.access_key_id, session.secret, session.session_token)

    async with asyncio.timeout(30):
        while True:
            try:
                who = await asyncio.to_thread(client(port, *keys).get_caller_identity)
                break
            except botocore.exceptions.ClientError:
                continue
    assert who["Arn"] == "arn:aws:sts::000000000000:assumed-role/shop/task-1"
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        await asyncio.to_thread(client(port, *keys).get_access_key_info, AccessKeyId=session.access_key_id)
    assert refused.value.response["Error"]["Code"] in ("AccessDenied", "AccessDeniedException")


async def test_what_is_no_role_gets_no_session(door, nats_platform):
    agent = await nats_platform.bus("agent")
    with pytest.raises(CommandRefused) as refused:
        await agent.call(ISSUE_SESSION, IssueSession(role_arn="arn:aws:s3:::x", session_name="t"))
    assert refused.value.code == "ValidationError"


async def test_the_key_survives_a_restart_and_its_file_is_private(door, nats_platform, tmp_path):
    _, credentials, identity = door
    await stop_app(identity)
    again = IdentityApp(Host(await nats_platform.bus("identity"), tmp_path, instance="t"), IdentitySettings())
    await start_app(again)
    assert read_credentials(tmp_path / CREDENTIALS_FILE) == credentials
    assert (tmp_path / CREDENTIALS_FILE).stat().st_mode & 0o777 == 0o600
    await stop_app(again)


async def test_an_api_that_nobody_serves_yet_answers_501(door):
    port, credentials, _ = door
    eks = client(port, credentials.access_key_id, credentials.secret, api="eks")
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        await asyncio.to_thread(eks.list_clusters)
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501
