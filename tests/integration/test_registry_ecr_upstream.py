"""Pull-through caches of other registries of ECR, in a role, and repositories that pushes make."""

from __future__ import annotations

import json
import os

import pytest
from msgspec.structs import replace

from contracts.records.identity import ACCESS_KEY, ROLE
from services.registry.decisions.names import RepositoryId
from services.registry.handlers.roles import PULL_THROUGH, TEMPLATES
from services.shared.errors import AwsError
from services.shared.state import Store
from tests.builders.ecr import Boto
from tests.builders.link import Link
from tests.builders.registry import ACCOUNT, REGION, registry_at, small_image
from tests.builders.sessions import TOKEN, a_role, a_session
from tests.builders.waiting import until
from tests.integration.test_registry_peers import Pair, opened

THEIRS, FAR = "999999999999", "eu-west-1"
BASE = RepositoryId(THEIRS, FAR, "base/app")
HOST = f"{THEIRS}.dkr.ecr.{FAR}.amazonaws.com"
ROLE_ARN = f"arn:aws:iam::{ACCOUNT}:role/cache"
PULLS = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]


@pytest.fixture
async def identity(nats_platform):
    store = await Store.open(await nats_platform.bus("identity"), (ROLE, ACCESS_KEY))
    yield store
    await store.close()


@pytest.fixture
async def registry(nats_platform, tmp_path):
    async with registry_at(nats_platform, tmp_path / "data") as running:
        yield running


async def upstream(registry, image, *, allow: str | None = ROLE_ARN) -> None:
    """Their repository with an image `1`, from which the role may pull."""
    where = {"account": BASE.account, "region": BASE.region, "repositoryName": BASE.name}
    await registry.aws("CreateRepository", **where)
    if allow is not None:
        statement = {"Effect": "Allow", "Principal": {"AWS": allow}, "Action": PULLS}
        await registry.aws("SetRepositoryPolicy", **where, policyText=json.dumps({"Statement": [statement]}))
    theirs = registry.parts.access.issue(THEIRS, f"arn:aws:iam::{THEIRS}:root")[0]
    path, auth = f"{THEIRS}.{FAR}/{BASE.name}", registry.auth(theirs)
    for digest, data in image.blobs.items():
        answer = await registry.ask("POST", f"{path}/blobs/uploads/?digest={digest}", data, Authorization=auth)
        assert answer.status == 201
    answer = await registry.ask(
        "PUT", f"{path}/manifests/1", image.manifest, Content_Type=image.media_type, Authorization=auth
    )
    assert answer.status == 201


async def rule(registry, **members):
    wanted = {"ecrRepositoryPrefix": "cache", "upstreamRegistryUrl": HOST, "customRoleArn": ROLE_ARN, **members}
    return await registry.aws(
        "CreatePullThroughCacheRule", **{name: value for name, value in wanted.items() if value is not None}
    )


async def valid(registry) -> tuple[bool, str]:
    told = await registry.aws("ValidatePullThroughCacheRule", ecrRepositoryPrefix="cache")
    return told.is_valid, told.failure or ""


async def test_an_image_of_another_account_comes_in_the_rule_s_role(registry, identity):
    await a_role(identity, "cache", ["ecr:*"], PULL_THROUGH)
    image = small_image((os.urandom(2_000_000), b"small"))
    await upstream(registry, image)
    made = await rule(registry)
    assert (made.custom_role_arn, made.upstream_registry) == (ROLE_ARN, "ecr")
    assert await valid(registry) == (True, "")
    answer = await registry.ask("GET", "cache/base/app/manifests/1")
    assert (answer.status, answer.body) == (200, image.manifest)
    for digest, data in image.blobs.items():
        assert (await registry.ask("GET", f"cache/base/app/blobs/{digest}")).body == data
    cached = RepositoryId(ACCOUNT, REGION, "cache/base/app")
    await until(lambda: registry.parts.images.find(cached, "1"), 30)
    (shown,) = (await registry.aws("DescribePullThroughCacheRules")).pull_through_cache_rules
    assert shown.custom_role_arn == ROLE_ARN
    answer = await registry.ask("GET", "cache/base/app/manifests/none")
    assert answer.said == (404, "MANIFEST_UNKNOWN")


async def test_what_the_role_or_the_upstream_does_not_allow_is_told(registry, identity):
    role = await a_role(identity, "cache", ["ecr:GetAuthorizationToken"], PULL_THROUGH)
    await upstream(registry, small_image(), allow=None)
    await rule(registry)

    async def refused() -> str:
        answer = await registry.ask("GET", "cache/base/app/manifests/1")
        assert answer.said == (403, "DENIED"), answer
        return answer.json["errors"][0]["message"]

    assert "no resource-based policy allows the ecr:BatchGetImage action" in await refused()
    statement = {"Effect": "Allow", "Principal": {"AWS": ROLE_ARN}, "Action": PULLS}
    where = {"account": BASE.account, "region": BASE.region, "repositoryName": BASE.name}
    await registry.aws("SetRepositoryPolicy", **where, policyText=json.dumps({"Statement": [statement]}))
    assert "no identity-based policy allows the ecr:BatchGetImage action" in await refused()
    changed = replace(role, trust=role.trust.replace(PULL_THROUGH, "ecs-tasks.amazonaws.com"))
    await identity.put(ROLE, changed, "role.updated.v1")
    view = registry.app._keys.authorization
    await until(lambda: view.role(ROLE_ARN).trust == changed.trust, 30)
    assert PULL_THROUGH in await refused()
    is_valid, why = await valid(registry)
    assert not is_valid and PULL_THROUGH in why
    await identity.delete(ROLE, (ACCOUNT, "cache"), "role.deleted.v1")
    await until(lambda: view.role(ROLE_ARN) is None, 30)
    assert "the role does not exist" in (await valid(registry))[1]


async def test_another_region_of_the_account_is_asked_without_a_role(registry):
    far = {"region": FAR, "repositoryName": "base/app"}
    await registry.aws("CreateRepository", **far)
    image = small_image()
    await registry.push_image(f"{ACCOUNT}.{FAR}/base/app", image, "1")
    await rule(registry, upstreamRegistryUrl=f"{ACCOUNT}.dkr.ecr.{FAR}.amazonaws.com", customRoleArn=None)
    assert await valid(registry) == (True, "")
    assert (await registry.ask("GET", "cache/base/app/manifests/1")).body == image.manifest
    assert (await registry.ask("GET", "cache/none/manifests/1")).said == (404, "MANIFEST_UNKNOWN")


@pytest.mark.parametrize(
    "members",
    [
        {"customRoleArn": None},
        {"customRoleArn": f"arn:aws:iam::{THEIRS}:role/cache"},
        {"upstreamRegistryUrl": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"},
        {"upstreamRegistryUrl": "quay.io"},
        {"credentialArn": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:ecr-pullthroughcache/x"},
    ],
    ids=["no role", "role of another account", "itself", "role for no ECR", "secret for ECR"],
)
async def test_a_rule_that_can_not_be_is_refused(registry, members):
    with pytest.raises(AwsError) as refused:
        await rule(registry, **members)
    assert refused.value.code == "InvalidParameterException"


async def test_an_image_comes_from_another_installation_in_the_role(
    nats_platform, other_nats_platform, tmp_path, identity
):
    image = small_image((os.urandom(1_000_000),))
    async with (
        opened(nats_platform, tmp_path / "here") as here,
        opened(other_nats_platform, tmp_path / "there", https_port=0) as there,
    ):
        link = Link(there.https)
        await a_role(identity, "cache", ["ecr:*"], PULL_THROUGH)
        await upstream(there, image, allow=None)
        await Pair(here, there, link).meet(RepositoryId(THEIRS, FAR, "any"))
        await rule(here)
        assert await valid(here) == (True, "")
        answer = await here.ask("GET", "cache/base/app/manifests/1")
        assert answer.said == (403, "DENIED")
        statement = {"Effect": "Allow", "Principal": {"AWS": ROLE_ARN}, "Action": PULLS}
        where = {"account": BASE.account, "region": BASE.region, "repositoryName": BASE.name}
        await there.aws("SetRepositoryPolicy", **where, policyText=json.dumps({"Statement": [statement]}))
        assert (await here.ask("GET", "cache/base/app/manifests/1")).body == image.manifest
        for digest, data in image.blobs.items():
            assert (await here.ask("GET", f"cache/base/app/blobs/{digest}")).body == data
        assert (await here.ask("GET", "cache/base/app/manifests/none")).said == (404, "MANIFEST_UNKNOWN")
        link.cut()
        assert not (await valid(here))[0]
        link.close()


async def test_a_push_makes_a_repository_where_a_template_says_so_and_who_pushes_may(registry, identity):
    image = small_image()
    assert (await registry.push_blob_status("team/app", b"layer")) == (404, "NAME_UNKNOWN")
    template = {"prefix": "team", "appliedFor": ["CREATE_ON_PUSH"], "imageTagMutability": "IMMUTABLE"}
    await registry.aws("CreateRepositoryCreationTemplate", **template, resourceTags=[{"Key": "by", "Value": "push"}])
    assert (await registry.push_image("team/app", image, "1")).status == 201
    (made,) = (await registry.aws("DescribeRepositories", repositoryNames=["team/app"])).repositories
    assert made.image_tag_mutability == "IMMUTABLE"
    tags = await registry.aws("ListTagsForResource", resourceArn=made.repository_arn)
    assert [(tag.key, tag.value) for tag in tags.tags] == [("by", "push")]
    assert (await registry.push_blob_status("other/app", b"layer")) == (404, "NAME_UNKNOWN")
    upload = await registry.aws("InitiateLayerUpload", repositoryName="team/api")
    assert upload.upload_id
    key = await a_session(identity, "pusher", ["ecr:InitiateLayerUpload", "ecr:GetAuthorizationToken"])
    await until(lambda: registry.app._keys.find(key), 30)
    ecr = Boto(registry.port, key=key, token=TOKEN)
    assert await ecr.refused("initiate_layer_upload", repositoryName="team/theirs") == "AccessDeniedException"
    assert "ecr:CreateRepository" in ecr.message


async def test_a_template_s_role_makes_the_repository_or_nobody_does(registry, identity):
    arn = f"arn:aws:iam::{ACCOUNT}:role/maker"
    template = {"prefix": "team", "appliedFor": ["CREATE_ON_PUSH"], "customRoleArn": arn}
    with pytest.raises(AwsError) as refused:
        await registry.aws(
            "CreateRepositoryCreationTemplate", **{**template, "customRoleArn": f"arn:aws:iam::{THEIRS}:role/maker"}
        )
    assert refused.value.code == "InvalidParameterException"
    made = await registry.aws(
        "CreateRepositoryCreationTemplate", **template, resourceTags=[{"Key": "by", "Value": "push"}]
    )
    assert made.repository_creation_template.custom_role_arn == arn
    assert await registry.push_blob_status("team/app", b"layer") == (403, "DENIED")
    role = await a_role(identity, "maker", ["ecr:CreateRepository"], TEMPLATES)
    view = registry.app._keys.authorization
    await until(lambda: view.role(arn), 30)
    assert await registry.push_blob_status("team/app", b"layer") == (403, "DENIED")  # it may not tag
    allowed = {"Effect": "Allow", "Action": ["ecr:CreateRepository", "ecr:TagResource"], "Resource": "*"}
    changed = replace(role, inline={"own": json.dumps({"Statement": allowed})})
    await identity.put(ROLE, changed, "role.updated.v1")
    await until(lambda: view.role(arn).inline == changed.inline, 30)
    assert await registry.push_blob_status("team/app", b"layer") == (201, "")
