"""Pull-through caches of registries that want a login: a secret of Secrets Manager, read when it is asked for."""

from __future__ import annotations

import json
import os

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from structlog.testing import capture_logs

from contracts.records.identity import ACCESS_KEY, ROLE
from contracts.records.registry import PULL_THROUGH_RULE
from services.registry.adapters.upstream import HttpUpstream
from services.registry.decisions.names import RepositoryId
from services.registry.decisions.upstream import Login, Source
from services.registry.ports import LoginFailed
from services.shared.errors import AwsError
from services.shared.state import Store
from tests.builders.ecr import Boto
from tests.builders.registry import ACCOUNT, REGION, registry_at, small_image
from tests.builders.sessions import TOKEN as SESSION_TOKEN
from tests.builders.sessions import a_session
from tests.builders.waiting import until
from tests.fakes.image_registry import ImageRegistry
from tests.integration.test_identity_iam import door  # noqa: F401

USER, TOKEN = "robot", "a-token-nobody-may-see"
LOGIN = json.dumps({"username": USER, "accessToken": TOKEN})
CACHED = RepositoryId(ACCOUNT, REGION, "hub/library/app")


@pytest.fixture(params=[False, True], ids=["basic", "bearer"])
async def upstream(request):
    async with ImageRegistry((USER, TOKEN), tokens=request.param) as running:
        yield running


@pytest.fixture
async def secrets(door):  # noqa: F811
    return door.root("secretsmanager")


@pytest.fixture
async def secret(secrets):
    return (await secrets.create_secret(Name="ecr-pullthroughcache/hub", SecretString=LOGIN))["ARN"]


@pytest.fixture
async def registry(nats_platform, tmp_path, secret, upstream):
    async with registry_at(nats_platform, tmp_path / "registry") as running:
        await running.aws(
            "CreatePullThroughCacheRule",
            ecrRepositoryPrefix="hub",
            upstreamRegistryUrl=upstream.host,
            credentialArn=secret,
        )
        yield running


async def pull(registry, tag: str):
    return await registry.ask("GET", f"{CACHED.name}/manifests/{tag}")


async def failure(registry) -> str | None:
    """Why the rule is not valid."""
    told = await registry.aws("ValidatePullThroughCacheRule", ecrRepositoryPrefix="hub")
    assert told.is_valid == (told.failure is None)
    return told.failure


async def test_an_image_comes_through_with_the_login_of_the_secret(registry, upstream, secret):
    image = small_image((os.urandom(2_000_000), b"small"))
    upstream.push("library/app", "1", image)
    assert await failure(registry) is None
    answer = await pull(registry, "1")
    assert (answer.status, answer.body) == (200, image.manifest), answer
    for digest, data in image.blobs.items():
        assert (await registry.ask("GET", f"{CACHED.name}/blobs/{digest}")).body == data
    await until(lambda: registry.parts.images.find(CACHED, "1"), 30)
    (rule,) = (await registry.aws("DescribePullThroughCacheRules")).pull_through_cache_rules
    assert rule.credential_arn == secret
    stored = registry.app._store.table(PULL_THROUGH_RULE).record(ACCOUNT, REGION, "hub")
    assert TOKEN.encode() not in msgspec.json.encode(stored)


async def test_a_login_that_the_upstream_refuses_is_told_and_a_new_one_is_used_at_once(
    registry, upstream, secret, secrets
):
    image = small_image()
    upstream.push("library/app", "1", image)
    wrong = json.dumps({"username": USER, "accessToken": "old-" + TOKEN})
    await secrets.put_secret_value(SecretId=secret, SecretString=wrong)
    with capture_logs() as logs:
        why, answer = await failure(registry), await pull(registry, "1")
    assert f"answered 401 to the login in {secret}" in why
    assert answer.said == (403, "DENIED")
    assert f"answered 401 to the login in {secret}" in answer.body.decode()
    assert TOKEN not in f"{logs}{why}{answer.body}"
    assert registry.parts.repositories.find(CACHED) is None
    await secrets.put_secret_value(SecretId=secret, SecretString=LOGIN)
    assert await failure(registry) is None
    assert (await pull(registry, "1")).body == image.manifest


@pytest.mark.parametrize(
    "text", ["robot:token", '["robot"]', '{"username": "robot"}', '{"username": "", "accessToken": "x"}']
)
async def test_a_secret_that_holds_no_login_is_told(registry, upstream, secret, secrets, text):
    upstream.push("library/app", "1", small_image())
    await secrets.put_secret_value(SecretId=secret, SecretString=text)
    expected = f"The secret {secret} is no JSON object with a username and an accessToken"
    assert await failure(registry) == expected
    answer = await pull(registry, "1")
    assert (answer.status, expected in answer.body.decode(), text in answer.body.decode()) == (403, True, False)


async def test_a_secret_that_is_gone_is_told_and_what_is_cached_is_served(registry, upstream, secret, secrets):
    image = small_image()
    upstream.push("library/app", "1", image)
    assert (await pull(registry, "1")).status == 200
    await until(lambda: registry.parts.images.find(CACHED, "1"), 30)
    await secrets.delete_secret(SecretId=secret, ForceDeleteWithoutRecovery=True)
    expected = f"The secret {secret} can't be read: Secrets Manager can't find the specified secret."
    assert await failure(registry) == expected
    registry.app._http._tokens.clear()  # as a token that has ended
    upstream.push("library/other", "1", image)
    answer = await registry.ask("GET", "hub/library/other/manifests/1")
    assert (answer.status, expected in answer.body.decode()) == (403, True)
    assert (await pull(registry, "1")).body == image.manifest


async def test_a_rule_takes_only_a_secret_that_is_there_and_of_its_place(registry, upstream, secret, secrets):
    async def refused(arn: str, **members) -> tuple[str, str]:
        with pytest.raises(AwsError) as caught:
            await registry.aws("UpdatePullThroughCacheRule", ecrRepositoryPrefix="hub", credentialArn=arn, **members)
        return caught.value.code, caught.value.message

    assert (await refused(secret[:-6] + "aaaaaa"))[0] == "SecretNotFoundException"
    elsewhere = secret.replace(REGION, "eu-west-1")
    assert (await refused(elsewhere))[0] == "InvalidParameterException"
    others = (await secrets.create_secret(Name="shop/db", SecretString=LOGIN))["ARN"]
    with pytest.raises(LoginFailed) as failed:  # nor does identity hand it over, whatever a rule says
        await registry.app._upstream.login(Source("", others))
    assert failed.value.code == "UnableToAccessSecretException"
    code, message = await refused(secret, customRoleArn=f"arn:aws:iam::{ACCOUNT}:role/pull")
    assert (code, "customRoleArn" in message) == ("InvalidParameterException", True)
    again = (await secrets.create_secret(Name="ecr-pullthroughcache/new", SecretString=LOGIN))["ARN"]
    changed = await registry.aws("UpdatePullThroughCacheRule", ecrRepositoryPrefix="hub", credentialArn=again)
    assert changed.credential_arn == again
    assert (await registry.aws("UpdatePullThroughCacheRule", ecrRepositoryPrefix="hub")).credential_arn == again


async def test_who_may_not_read_a_secret_makes_no_rule_that_sends_it_somewhere(
    registry, upstream, secret, nats_platform
):
    store = await Store.open(await nats_platform.bus("identity"), (ACCESS_KEY, ROLE))
    key = await a_session(store, "deployer", ["ecr:*"])
    await until(lambda: registry.app._keys.find(key), 30)
    boto = Boto(registry.port, key, SESSION_TOKEN)
    rule = {"ecrRepositoryPrefix": "mine", "upstreamRegistryUrl": upstream.host}
    code = await boto.refused("create_pull_through_cache_rule", **rule, credentialArn=secret)
    assert code == "UnableToAccessSecretException"
    assert f"not authorized to perform: secretsmanager:GetSecretValue on resource: {secret}" in boto.message
    await boto.create_pull_through_cache_rule(**rule)
    await store.close()


async def test_a_login_does_not_follow_a_redirect_to_another_place():
    """Registries send who wants a blob to where it lies."""
    seen: list[str | None] = []

    async def place(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        return web.Response(body=b"data")

    async def front(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != Login(USER, TOKEN).basic:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="r"'})
        return web.Response(status=307, headers={"Location": f"http://localhost:{there.port}/data"})

    class Known:
        async def of(self, credential_arn: str) -> Login:
            return Login(USER, TOKEN)

    there, here = TestServer(application(place)), TestServer(application(front))
    await there.start_server()
    await here.start_server()
    upstream = HttpUpstream(Known())
    try:
        async with upstream.blob(Source(f"127.0.0.1:{here.port}", "arn"), "app", "sha256:x") as (_, chunks):
            assert b"".join([chunk async for chunk in chunks]) == b"data"
    finally:
        await upstream.close()
        await there.close()
        await here.close()
    assert seen == [None]


def application(handler) -> web.Application:
    made = web.Application()
    made.router.add_get("/{path:.*}", handler)
    return made
