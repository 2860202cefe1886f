"""Repositories that are encrypted with keys of KMS: made, pushed to, pulled from, mounted, replicated, and refused when
the key is disabled, revoked or deleted."""

import pytest

from services.registry.adapters.keyfile import KEY_BYTES
from tests.builders.ecr import Boto, put, upload
from tests.builders.images import digest_of
from tests.builders.registry import ACCOUNT, REGION, registry_at, small_image
from tests.builders.waiting import until
from tests.integration.test_identity import client
from tests.integration.test_identity_iam import Asked, allow, door, policy, refused, trusting  # noqa: F401

MARKER = b"nobody is to find this on the disk " * 20_000
IMAGE = small_image((MARKER,))
DIGEST = digest_of(MARKER)
BLOB = f"shop/blobs/{DIGEST}"


@pytest.fixture
def kms(door):  # noqa: F811
    return door.root("kms")


@pytest.fixture
async def key(kms) -> str:
    return (await kms.create_key())["KeyMetadata"]["Arn"]


@pytest.fixture
async def registry(nats_platform, tmp_path, door):  # noqa: F811
    async with registry_at(nats_platform, tmp_path / "registry") as running:
        yield running


def boto(registry) -> Boto:
    return Boto(registry.port)


async def encrypted(registry, name: str, key: str = "", **members):
    configuration = {"encryptionType": "KMS", **({"kmsKey": key} if key else {})}
    ecr = boto(registry)
    return await ecr.create_repository(repositoryName=name, encryptionConfiguration=configuration, **members)


def shows(directory, text: bytes) -> bool:
    return any(text in path.read_bytes() for path in directory.rglob("*") if path.is_file())


async def test_a_repository_shows_its_key_by_its_arn_whatever_it_was_called(registry, kms, key):
    await kms.create_alias(AliasName="alias/shop", TargetKeyId=key)
    made = await encrypted(registry, "shop", "alias/shop")
    expected = {"encryptionType": "KMS", "kmsKey": key}
    assert made["repository"]["encryptionConfiguration"] == expected
    await encrypted(registry, "own")
    shown = {r["repositoryName"]: r for r in (await boto(registry).describe_repositories())["repositories"]}
    managed = (await kms.describe_key(KeyId="alias/aws/ecr"))["KeyMetadata"]
    assert shown["shop"]["encryptionConfiguration"] == expected
    assert shown["own"]["encryptionConfiguration"] == {"encryptionType": "KMS", "kmsKey": managed["Arn"]}
    (grant,) = (await kms.list_grants(KeyId=key))["Grants"]
    about = {"EncryptionContextSubset": {"aws:ecr:arn": f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/shop"}}
    assert (grant["GranteePrincipal"], grant["Constraints"]) == ("ecr.amazonaws.com", about)
    await boto(registry).delete_repository(repositoryName="shop")
    assert (await kms.list_grants(KeyId=key))["Grants"] == []


async def test_an_image_goes_in_and_out_and_is_nowhere_on_the_disk(registry, key, tmp_path):
    await encrypted(registry, "shop", key)
    assert (await registry.push_image("shop", IMAGE, "1")).status == 201
    assert (await registry.ask("GET", BLOB)).body == MARKER
    for asked, status, body in (
        ("bytes=70000-140000", 206, MARKER[70000:140001]),
        ("bytes=-5", 206, MARKER[-5:]),
        (f"bytes={len(MARKER) - 1}-", 206, MARKER[-1:]),
        (f"bytes={len(MARKER)}-", 416, b""),
    ):
        answer = await registry.ask("GET", BLOB, Range=asked)
        assert (answer.status, answer.body) == (status, body)
    assert (await registry.ask("GET", BLOB, Range="bytes=10-19")).headers[
        "Content-Range"
    ] == f"bytes 10-19/{len(MARKER)}"
    head = await registry.ask("HEAD", BLOB)
    assert (head.status, head.headers["Content-Length"]) == (200, str(len(MARKER)))
    assert (await registry.ask("GET", "shop/manifests/1")).body == IMAGE.manifest
    assert not shows(tmp_path / "registry", MARKER[:35])
    assert not shows(tmp_path / "registry", IMAGE.manifest)


async def test_aes256_is_sealed_too_with_the_registry_s_own_key(registry, tmp_path):
    await boto(registry).create_repository(repositoryName="shop")
    await put(boto(registry), "shop", IMAGE, "1")
    assert (await registry.ask("GET", BLOB)).body == MARKER
    assert not shows(tmp_path / "registry", MARKER[:35])
    assert len((tmp_path / "registry" / "registry" / "content.key").read_bytes()) == KEY_BYTES


async def test_a_blob_is_mounted_between_keys_and_shared_within_one(registry, key, tmp_path):
    ecr = boto(registry)
    for name in ("plain", "twin"):
        await ecr.create_repository(repositoryName=name)
    await encrypted(registry, "shop", key)
    await upload(ecr, "plain", MARKER, parts=3)
    for name in ("twin", "shop"):
        answer = await registry.ask("POST", f"{name}/blobs/uploads/?mount={DIGEST}&from=plain")
        assert (answer.status, (await registry.ask("GET", f"{name}/blobs/{DIGEST}")).body) == (201, MARKER)
    stored = [path.stat() for path in (tmp_path / "registry" / "registry" / "blobs").rglob("*") if path.is_file()]
    assert sorted(each.st_nlink for each in stored) == [2, 3]  # content, and one link a repository


async def test_an_encrypted_image_is_replicated_into_what_the_template_says(registry, kms):
    away = "eu-central-1"
    rule = {"destinations": [{"region": away, "registryId": ACCOUNT}]}
    await boto(registry).put_replication_configuration(replicationConfiguration={"rules": [rule]})
    await registry.aws(
        "CreateRepositoryCreationTemplate",
        region=away,
        prefix="ROOT",
        appliedFor=["REPLICATION"],
        encryptionConfiguration={"encryptionType": "KMS"},
    )
    await encrypted(registry, "shop")
    await registry.push_image("shop", IMAGE, "1")
    path = f"{ACCOUNT}.{away}/shop/manifests/1"

    async def there():
        return (await registry.ask("GET", path)).status == 200

    await until(there)
    assert (await registry.ask("GET", f"{ACCOUNT}.{away}/shop/blobs/{DIGEST}")).body == MARKER
    described = await registry.aws("DescribeRepositories", region=away, repositoryNames=["shop"])
    assert f"arn:aws:kms:{away}:" in described.repositories[0].encryption_configuration.kms_key


async def test_a_caller_needs_leave_to_grant_the_key(registry, door, key):  # noqa: F811
    credentials = await door.session("maker", allow("ecr:*"))
    keys = [credentials[name] for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")]
    ecr = Asked(client(registry.port, *keys, api="ecr"))
    configuration = {"encryptionType": "KMS", "kmsKey": key}
    template = {"prefix": "ROOT", "appliedFor": ["REPLICATION"], "encryptionConfiguration": configuration}
    members = {"repositoryName": "shop", "encryptionConfiguration": configuration}
    assert await refused(ecr.create_repository(**members)) == "KmsException"
    assert await refused(ecr.create_repository_creation_template(**template)) == "KmsException"
    await ecr.create_repository(repositoryName="managed", encryptionConfiguration={"encryptionType": "KMS"})
    own = policy(allow("ecr:*"), allow(["kms:DescribeKey", "kms:CreateGrant"], key))
    await door.root("iam").put_role_policy(RoleName="maker", PolicyName="own", PolicyDocument=own)
    made = await ecr.create_repository(**members)
    assert made["repository"]["encryptionConfiguration"] == configuration
    await ecr.create_repository_creation_template(**template)


async def test_a_template_s_role_grants_the_key_at_the_template_and_at_each_repository(registry, door, kms, key):  # noqa: F811
    iam, ecr = door.root("iam"), boto(registry)
    arn = await door.role("maker", allow("ecr:*"), trust=trusting(Service="ecr.amazonaws.com"))
    template = {
        "prefix": "made",
        "appliedFor": ["CREATE_ON_PUSH"],
        "customRoleArn": arn,
        "encryptionConfiguration": {"encryptionType": "KMS", "kmsKey": key},
    }

    async def known():  # the registry hears of the role a moment later
        return "assume" not in str(await said(ecr, template))

    await until(known)
    assert await ecr.refused("create_repository_creation_template", **template) == "KmsException"
    assert "kms:DescribeKey" in ecr.message
    own = policy(allow("ecr:*"), allow(["kms:DescribeKey", "kms:CreateGrant"], key))
    await iam.put_role_policy(RoleName="maker", PolicyName="own", PolicyDocument=own)
    await ecr.create_repository_creation_template(**template)
    assert (await registry.push_image("made/shop", IMAGE, "1")).status == 201
    (made,) = (await ecr.describe_repositories())["repositories"]
    assert made["encryptionConfiguration"]["kmsKey"] == key
    await iam.put_role_policy(RoleName="maker", PolicyName="own", PolicyDocument=policy(allow("ecr:*")))

    async def refused_now():
        return (await registry.ask("POST", "made/other/blobs/uploads/")).status == 403

    await until(refused_now)


async def said(ecr: Boto, template: dict) -> str:
    await ecr.refused("create_repository_creation_template", **template)
    return ecr.message


@pytest.mark.parametrize(
    ("configuration", "code"),
    [
        ({"encryptionType": "KMS", "kmsKey": "alias/nosuch"}, "KmsException"),
        ({"encryptionType": "KMS", "kmsKey": f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/{'0' * 8}"}, "KmsException"),
        ({"encryptionType": "AES256", "kmsKey": "alias/aws/ecr"}, "InvalidParameterException"),
        ({"encryptionType": "KMS_DSSE"}, "NotImplemented"),
    ],
)
async def test_what_can_not_be_is_refused_and_makes_nothing(registry, configuration, code):
    ecr = boto(registry)
    members = {"repositoryName": "shop", "encryptionConfiguration": configuration}
    assert await ecr.refused("create_repository", **members) == code
    assert (await ecr.describe_repositories())["repositories"] == []


async def disable(kms, key):
    await kms.disable_key(KeyId=key)


async def schedule(kms, key):
    await kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)


async def revoke(kms, key):
    (grant,) = (await kms.list_grants(KeyId=key))["Grants"]
    await kms.revoke_grant(KeyId=key, GrantId=grant["GrantId"])


@pytest.mark.parametrize(
    ("take", "why"), [(disable, "is disabled"), (schedule, "is pending deletion"), (revoke, "was revoked")]
)
async def test_without_its_key_a_repository_is_neither_pulled_from_nor_pushed_to(registry, kms, key, take, why):
    ecr = boto(registry)
    await encrypted(registry, "shop", key)
    await ecr.create_repository(repositoryName="plain")
    await registry.push_image("shop", IMAGE, "1")
    begun = (await registry.ask("POST", "shop/blobs/uploads/")).headers["Location"].removeprefix("/v2/")
    await take(kms, key)

    async def shut():
        return (await registry.ask("GET", "shop/manifests/1")).status == 403

    await until(shut)
    for method, path, body in (
        ("GET", "shop/manifests/1", None),
        ("GET", BLOB, None),
        ("POST", "shop/blobs/uploads/", None),
        ("PATCH", begun, b"more"),
        ("PUT", f"{begun}?digest={DIGEST}", MARKER),
        ("POST", f"plain/blobs/uploads/?mount={DIGEST}&from=shop", None),
    ):
        answer = await registry.ask(method, path, body)
        assert (answer.said, why in answer.body.decode()) == ((403, "DENIED"), True)
    assert await ecr.refused("initiate_layer_upload", repositoryName="shop") == "KmsException"
    other = IMAGE.manifest.decode().replace("{", "{ ", 1)
    assert await ecr.refused("put_image", repositoryName="shop", imageManifest=other) == "KmsException"
    code = await ecr.refused("get_download_url_for_layer", repositoryName="shop", layerDigest=DIGEST)
    assert (code, why in ecr.message) == ("LayerInaccessibleException", True)
    (failure,) = (await ecr.batch_get_image(repositoryName="shop", imageIds=[{"imageTag": "1"}]))["failures"]
    assert (failure["failureCode"], why in failure["failureReason"]) == ("KmsError", True)
    assert (await ecr.describe_images(repositoryName="shop"))["imageDetails"][0]["imageDigest"] == IMAGE.digest
    await ecr.delete_repository(repositoryName="shop", force=True)


async def test_an_enabled_key_gives_everything_back_after_a_restart_too(nats_platform, tmp_path, kms, key):
    async with registry_at(nats_platform, tmp_path / "registry") as registry:
        await encrypted(registry, "shop", key)
        await registry.push_image("shop", IMAGE, "1")
        begun = (await registry.ask("POST", "shop/blobs/uploads/")).headers["Location"].removeprefix("/v2/")
        await registry.ask("PATCH", begun, b"the first part, ")
    await kms.disable_key(KeyId=key)
    async with registry_at(nats_platform, tmp_path / "registry") as registry:
        assert (await registry.ask("GET", BLOB)).said == (403, "DENIED")
        await kms.enable_key(KeyId=key)

        async def back():
            return (await registry.ask("GET", BLOB)).status == 200

        await until(back)
        await kms.rotate_key_on_demand(KeyId=key)
    async with registry_at(nats_platform, tmp_path / "registry") as registry:
        assert (await registry.ask("GET", BLOB)).body == MARKER
        whole = digest_of(b"the first part, the second")
        assert (await registry.ask("PUT", f"{begun}?digest={whole}", b"the second")).status == 201
        assert (await registry.ask("GET", f"shop/blobs/{whole}")).body == b"the first part, the second"


async def test_a_key_that_is_deleted_takes_the_content_with_it(registry, door, kms, key, tmp_path, monkeypatch):  # noqa: F811
    """Crypto-shredding: all files are there, and nothing that is left opens them."""
    await encrypted(registry, "shop", key)
    await registry.push_image("shop", IMAGE, "1")
    await schedule(kms, key)
    monkeypatch.setattr(door.app.kms, "_clock", lambda: door.app.host.clock() + 8 * 86_400)
    await door.app.kms.sweep()

    async def lost():
        return b"was deleted" in (await registry.ask("GET", BLOB)).body

    await until(lost)
    assert await refused(kms.describe_key(KeyId=key)) == "NotFoundException"
    assert sum(path.stat().st_size > len(MARKER) for path in (tmp_path / "registry").rglob("*") if path.is_file()) >= 1
    assert (await registry.ask("POST", "shop/blobs/uploads/")).said == (403, "DENIED")
