"""Repository and registry policies, at the ECR API and at /v2/ alike; the other account has keys of its own."""

from __future__ import annotations

import json

import pytest

from contracts.records.identity import ACCESS_KEY, ROLE, AccessKey, Role
from contracts.rpc.registry import ISSUE_PULL_TOKEN, IssuePullToken
from services.shared.bus import CommandRefused
from services.shared.state import Store
from tests.builders.ecr import Boto, put
from tests.builders.registry import ACCOUNT, KEY, REGION, SECRET, registry_at, small_image
from tests.builders.waiting import until

OTHER = "999999999999"
THEIR_KEY = "AKIAOTHERACCOUNT0001"
PULL = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability"]


def policy(*actions: str, effect: str = "Allow", principal=OTHER, **members) -> str:
    statement = {"Effect": effect, "Principal": {"AWS": principal}, "Action": list(actions), **members}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@pytest.fixture
async def registry(nats_platform, tmp_path):
    async with registry_at(nats_platform, tmp_path / "data") as running:
        identity = await Store.open(await nats_platform.bus("identity"), (ACCESS_KEY, ROLE))
        key = AccessKey(
            access_key_id=THEIR_KEY,
            secret=SECRET,
            account=OTHER,
            principal_arn=f"arn:aws:iam::{OTHER}:root",
            user_id=OTHER,
            created_at=0.0,
        )
        await identity.put(ACCESS_KEY, key, "access_key.created.v1")
        running.identity = identity
        await until(lambda: running.app._keys.find(THEIR_KEY), 30)
        yield running
        await identity.close()


@pytest.fixture
def ours(registry):
    return Boto(registry.port, KEY)


@pytest.fixture
def theirs(registry):
    return Boto(registry.port, THEIR_KEY)


async def a_shop(ours):
    image = small_image()
    await ours.create_repository(repositoryName="shop")
    await put(ours, "shop", image, "1")
    return image


async def test_another_account_pulls_what_the_policy_allows_and_pushes_nothing(ours, theirs, registry):
    image = await a_shop(ours)
    asked = {"registryId": ACCOUNT, "repositoryName": "shop"}
    bearer = registry.auth(registry.parts.access.issue(OTHER, f"arn:aws:iam::{OTHER}:root")[0])
    assert await theirs.refused("batch_get_image", **asked, imageIds=[{"imageTag": "1"}]) == "AccessDeniedException"
    assert (await registry.ask("GET", "shop/manifests/1", Authorization=bearer)).said == (403, "DENIED")
    await ours.set_repository_policy(repositoryName="shop", policyText=policy(*PULL))
    (got,) = (await theirs.batch_get_image(**asked, imageIds=[{"imageTag": "1"}]))["images"]
    assert got["imageManifest"].encode() == image.manifest
    assert (await registry.ask("GET", "shop/manifests/1", Authorization=bearer)).body == image.manifest
    assert (await registry.ask("POST", "shop/blobs/uploads/", Authorization=bearer)).said == (403, "DENIED")
    refused = await registry.ask("PUT", "shop/manifests/2", image.manifest, Authorization=bearer)
    assert refused.said == (403, "DENIED")
    manifest = image.manifest.decode()
    assert await theirs.refused("put_image", **asked, imageManifest=manifest, imageTag="2") == "AccessDeniedException"
    assert await theirs.refused("delete_repository", **asked) == "AccessDeniedException"
    await ours.delete_repository_policy(repositoryName="shop")
    assert (await registry.ask("GET", "shop/manifests/1", Authorization=bearer)).said == (403, "DENIED")


async def test_a_task_of_another_account_pulls_what_the_policy_allows(ours, registry, nats_platform):
    await a_shop(ours)
    agent = await nats_platform.bus("agent")
    asked = IssuePullToken(image=f"localhost:{registry.port}/shop:1", account=OTHER, region=REGION)
    with pytest.raises(CommandRefused) as refused:
        await agent.call(ISSUE_PULL_TOKEN, asked)
    assert refused.value.code == "AccessDeniedException"
    await ours.set_repository_policy(repositoryName="shop", policyText=policy("ecr:*"))
    token = await agent.call(ISSUE_PULL_TOKEN, asked)
    assert (await registry.ask("GET", "shop/manifests/1", Authorization=registry.auth(token.password))).status == 200


async def test_an_explicit_deny_holds_for_the_owner_too_but_not_for_the_policy_itself(ours, registry):
    await a_shop(ours)
    denied = policy("ecr:BatchGetImage", effect="Deny", principal="*")
    await ours.set_repository_policy(repositoryName="shop", policyText=denied)
    assert await ours.refused("batch_get_image", repositoryName="shop", imageIds=[{"imageTag": "1"}]) == (
        "AccessDeniedException"
    )
    assert "explicit deny in a resource-based policy" in ours.message
    assert (await registry.ask("GET", "shop/manifests/1")).said == (403, "DENIED")
    assert (await ours.get_repository_policy(repositoryName="shop"))["policyText"] == denied
    all_of_it = policy("ecr:*", effect="Deny", principal="*")
    assert await ours.refused("set_repository_policy", repositoryName="shop", policyText=all_of_it) == (
        "InvalidParameterException"
    )
    await ours.set_repository_policy(repositoryName="shop", policyText=all_of_it, force=True)
    await ours.delete_repository_policy(repositoryName="shop")
    assert (await registry.ask("GET", "shop/manifests/1")).status == 200


async def test_a_condition_decides(ours, theirs):
    await a_shop(ours)
    asked = {"registryId": ACCOUNT, "repositoryName": "shop", "imageIds": [{"imageTag": "1"}]}
    for address, allowed in (("10.0.0.0/8", False), ("127.0.0.0/8", True)):
        condition = {"Condition": {"IpAddress": {"aws:SourceIp": address}}}
        await ours.set_repository_policy(repositoryName="shop", policyText=policy("ecr:BatchGetImage", **condition))
        if allowed:
            assert (await theirs.batch_get_image(**asked))["images"]
        else:
            assert await theirs.refused("batch_get_image", **asked) == "AccessDeniedException"


async def test_a_role_that_the_policy_names_needs_no_policy_of_its_own_in_its_account(ours, registry):
    await a_shop(ours)
    role = Role(
        account=ACCOUNT,
        role_name="puller",
        arn=f"arn:aws:iam::{ACCOUNT}:role/puller",
        role_id="AROAPULLER",
        path="/",
        trust="{}",
        created_at=0.0,
    )
    session = AccessKey(
        access_key_id="ASIAPULLER",
        secret=SECRET,
        account=ACCOUNT,
        principal_arn=f"arn:aws:sts::{ACCOUNT}:assumed-role/puller/s",
        user_id="AROAPULLER:s",
        created_at=0.0,
        role="puller",
        session_token="token",
    )
    await registry.identity.put(ROLE, role, "role.created.v1")
    await registry.identity.put(ACCESS_KEY, session, "session.issued.v1")
    await until(lambda: registry.app._keys.find("ASIAPULLER"), 30)
    token, _ = registry.parts.access.issue(ACCOUNT, session.principal_arn, "ASIAPULLER")
    bearer = registry.auth(token)
    assert (await registry.ask("GET", "shop/manifests/1", Authorization=bearer)).said == (403, "DENIED")
    await ours.set_repository_policy(repositoryName="shop", policyText=policy(*PULL, principal=role.arn))

    async def status() -> int:
        return (await registry.ask("GET", "shop/manifests/1", Authorization=bearer)).status

    assert await status() == 200
    refused = await registry.ask("POST", "shop/blobs/uploads/", Authorization=bearer)
    assert refused.said == (403, "DENIED")


async def test_the_registry_policy_is_about_the_repositories_that_it_names(ours, theirs):
    await a_shop(ours)
    assert await ours.refused("get_registry_policy") == "RegistryPolicyNotFoundException"
    assert await ours.refused("put_registry_policy", policyText=policy("ecr:*")) == "InvalidParameterException"
    text = policy("ecr:DescribeImages", Resource=f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/sh*")
    await ours.put_registry_policy(policyText=text)
    assert (await ours.get_registry_policy())["policyText"] == text
    found = await theirs.describe_images(registryId=ACCOUNT, repositoryName="shop")
    assert len(found["imageDetails"]) == 1
    await ours.create_repository(repositoryName="bank")
    assert await theirs.refused("describe_images", registryId=ACCOUNT, repositoryName="bank") == (
        "AccessDeniedException"
    )
    assert (await ours.delete_registry_policy())["policyText"] == text
    assert await ours.refused("delete_registry_policy") == "RegistryPolicyNotFoundException"


async def test_a_registry_policy_of_scope_v1_says_nothing_of_pulls(ours, theirs):
    await a_shop(ours)
    await ours.put_registry_policy(policyText=policy("ecr:*", Resource=f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/*"))
    asked = {"registryId": ACCOUNT, "repositoryName": "shop"}
    assert (await theirs.describe_images(**asked))["imageDetails"]
    scope = {"name": "REGISTRY_POLICY_SCOPE"}
    assert (await ours.put_account_setting(**scope, value="V1"))["value"] == "V1"
    assert (await ours.get_account_setting(**scope))["value"] == "V1"
    assert await theirs.refused("describe_images", **asked) == "AccessDeniedException"
    assert (await theirs.get_account_setting(**scope))["value"] == "V2"
    await ours.put_account_setting(**scope, value="V2")
    assert (await theirs.describe_images(**asked))["imageDetails"]
    assert await ours.refused("put_account_setting", **scope, value="V9") == "InvalidParameterException"
    assert "V2, V1" in ours.message
    assert await ours.refused("get_account_setting", name="NONE") == "InvalidParameterException"


async def test_what_is_no_policy_is_refused(ours):
    await ours.create_repository(repositoryName="shop")
    assert await ours.refused("get_repository_policy", repositoryName="shop") == "RepositoryPolicyNotFoundException"
    for text in ("no", "{}", policy("ecr:*", Resource="*"), policy("s3:GetObject")):
        assert await ours.refused("set_repository_policy", repositoryName="shop", policyText=text) == (
            "InvalidParameterException"
        )
        assert "'PolicyText'" in ours.message and "Invalid repository policy provided" in ours.message
