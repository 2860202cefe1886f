"""KMS, asked by boto3 as anybody would; what is stored shows no key material."""

import base64
import json

import pytest

from contracts.records.kms import KMS_KEY, KmsKey
from services.shared.state import fetch
from tests.integration.test_identity_iam import ROOT, allow, deny, door, policy, refused  # noqa: F401

ACCOUNT, REGION = "000000000000", "us-east-1"
ABOUT = {"purpose": "shop", "team": "a"}
DAY_S = 86_400


@pytest.fixture
def kms(door):  # noqa: F811
    return door.root("kms")


@pytest.fixture
def forward(door, monkeypatch):  # noqa: F811
    """Moves the clock of the keys, not that of signatures."""

    def moved(seconds):
        monkeypatch.setattr(door.app.kms, "_clock", lambda: door.app.host.clock() + seconds)

    return moved


async def made(kms, **arguments) -> str:
    return (await kms.create_key(**arguments))["KeyMetadata"]["KeyId"]


async def test_a_key_is_described_as_kms_does(kms):
    about = (await kms.create_key(Description="of the shop", Tags=[{"TagKey": "team", "TagValue": "a"}]))["KeyMetadata"]
    assert {
        "AWSAccountId": ACCOUNT,
        "Arn": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{about['KeyId']}",
        "Enabled": True,
        "Description": "of the shop",
        "KeyUsage": "ENCRYPT_DECRYPT",
        "KeyState": "Enabled",
        "Origin": "AWS_KMS",
        "KeyManager": "CUSTOMER",
        "KeySpec": "SYMMETRIC_DEFAULT",
        "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT",
        "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"],
        "MultiRegion": False,
    }.items() <= about.items()
    assert (await kms.describe_key(KeyId=about["Arn"]))["KeyMetadata"] == about
    assert (await kms.list_keys())["Keys"] == [{"KeyId": about["KeyId"], "KeyArn": about["Arn"]}]
    await kms.untag_resource(KeyId=about["KeyId"], TagKeys=["team"])
    await kms.tag_resource(KeyId=about["KeyId"], Tags=[{"TagKey": "stage", "TagValue": "test"}])
    tags = (await kms.list_resource_tags(KeyId=about["KeyId"]))["Tags"]
    assert tags == [{"TagKey": "stage", "TagValue": "test"}]


async def test_what_is_encrypted_opens_with_its_context_alone(kms):
    key = await made(kms)
    sealed = await kms.encrypt(KeyId=key, Plaintext=b"hello", EncryptionContext=ABOUT)
    opened = await kms.decrypt(CiphertextBlob=sealed["CiphertextBlob"], EncryptionContext=ABOUT)
    assert (opened["Plaintext"], opened["KeyId"]) == (b"hello", sealed["KeyId"])
    blob = sealed["CiphertextBlob"]
    for call in (
        kms.decrypt(CiphertextBlob=blob),
        kms.decrypt(CiphertextBlob=blob, EncryptionContext={**ABOUT, "team": "b"}),
        kms.decrypt(CiphertextBlob=blob[:-1] + bytes([blob[-1] ^ 1]), EncryptionContext=ABOUT),
        kms.decrypt(CiphertextBlob=b"nonsense", EncryptionContext=ABOUT),
    ):
        assert await refused(call) == "InvalidCiphertextException"
    other = await made(kms)
    call = kms.decrypt(CiphertextBlob=blob, EncryptionContext=ABOUT, KeyId=other)
    assert await refused(call) == "IncorrectKeyException"


async def test_re_encryption_changes_key_and_context(kms):
    one, two = await made(kms), await made(kms)
    blob = (await kms.encrypt(KeyId=one, Plaintext=b"hello", EncryptionContext=ABOUT))["CiphertextBlob"]
    moved = await kms.re_encrypt(
        CiphertextBlob=blob,
        SourceEncryptionContext=ABOUT,
        DestinationKeyId=two,
        DestinationEncryptionContext={"new": "yes"},
    )
    assert (moved["SourceKeyId"].endswith(one), moved["KeyId"].endswith(two)) == (True, True)
    opened = await kms.decrypt(CiphertextBlob=moved["CiphertextBlob"], EncryptionContext={"new": "yes"}, KeyId=two)
    assert opened["Plaintext"] == b"hello"


async def test_a_data_key_comes_in_clear_and_encrypted(kms):
    key = await made(kms)
    data = await kms.generate_data_key(KeyId=key, KeySpec="AES_256", EncryptionContext=ABOUT)
    opened = await kms.decrypt(CiphertextBlob=data["CiphertextBlob"], EncryptionContext=ABOUT)
    assert (len(data["Plaintext"]), opened["Plaintext"]) == (32, data["Plaintext"])
    hidden = await kms.generate_data_key_without_plaintext(KeyId=key, NumberOfBytes=64)
    assert "Plaintext" not in hidden
    assert len((await kms.decrypt(CiphertextBlob=hidden["CiphertextBlob"]))["Plaintext"]) == 64
    assert len((await kms.generate_random(NumberOfBytes=24))["Plaintext"]) == 24
    assert await refused(kms.generate_data_key(KeyId=key)) == "ValidationException"
    assert await refused(kms.encrypt(KeyId=key, Plaintext=b"x", DryRun=True)) == "DryRunOperationException"


async def test_a_rotated_key_still_decrypts_what_is_older(kms):
    key = await made(kms)
    old = (await kms.encrypt(KeyId=key, Plaintext=b"old"))["CiphertextBlob"]
    await kms.rotate_key_on_demand(KeyId=key)
    new = (await kms.encrypt(KeyId=key, Plaintext=b"new"))["CiphertextBlob"]
    answers = [await kms.decrypt(CiphertextBlob=blob) for blob in (old, new)]
    assert [a["Plaintext"] for a in answers] == [b"old", b"new"]
    first, second = (a["KeyMaterialId"] for a in answers)
    told = (await kms.list_key_rotations(KeyId=key, IncludeKeyMaterial="ALL_KEY_MATERIAL"))["Rotations"]
    assert [(r["KeyMaterialId"], r["KeyMaterialState"], r.get("RotationType")) for r in told] == [
        (first, "NON_CURRENT", None),
        (second, "CURRENT", "ON_DEMAND"),
    ]
    await kms.enable_key_rotation(KeyId=key, RotationPeriodInDays=90)
    status = await kms.get_key_rotation_status(KeyId=key)
    assert (status["KeyRotationEnabled"], status["RotationPeriodInDays"]) == (True, 90)
    await kms.disable_key_rotation(KeyId=key)
    assert (await kms.get_key_rotation_status(KeyId=key))["KeyRotationEnabled"] is False


async def test_a_disabled_key_does_nothing_until_it_is_enabled(kms):
    key = await made(kms)
    blob = (await kms.encrypt(KeyId=key, Plaintext=b"hello"))["CiphertextBlob"]
    await kms.disable_key(KeyId=key)
    assert (await kms.describe_key(KeyId=key))["KeyMetadata"]["KeyState"] == "Disabled"
    assert await refused(kms.decrypt(CiphertextBlob=blob)) == "DisabledException"
    assert await refused(kms.generate_data_key(KeyId=key, KeySpec="AES_128")) == "DisabledException"
    assert await refused(kms.enable_key_rotation(KeyId=key)) == "DisabledException"
    await kms.enable_key(KeyId=key)
    assert (await kms.decrypt(CiphertextBlob=blob))["Plaintext"] == b"hello"


async def test_a_deleted_key_is_gone_when_it_is_due_and_all_that_was_encrypted_under_it(door, kms, forward):  # noqa: F811
    key, kept = await made(kms), await made(kms)
    await kms.create_alias(AliasName="alias/shop", TargetKeyId=key)
    blob = (await kms.encrypt(KeyId=key, Plaintext=b"hello"))["CiphertextBlob"]
    assert await refused(kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=6)) == "ValidationException"
    answer = await kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
    assert (answer["KeyState"], answer["PendingWindowInDays"]) == ("PendingDeletion", 7)
    for call in (
        kms.decrypt(CiphertextBlob=blob),
        kms.enable_key(KeyId=key),
        kms.schedule_key_deletion(KeyId=key),
        kms.tag_resource(KeyId=key, Tags=[{"TagKey": "a", "TagValue": "b"}]),
        kms.cancel_key_deletion(KeyId=kept),
    ):
        assert await refused(call) == "KMSInvalidStateException"
    await kms.schedule_key_deletion(KeyId=kept, PendingWindowInDays=7)
    await kms.cancel_key_deletion(KeyId=kept)
    assert (await kms.describe_key(KeyId=kept))["KeyMetadata"]["KeyState"] == "Disabled"
    forward(7 * DAY_S + 1)
    assert await refused(kms.describe_key(KeyId=key)) == "NotFoundException"
    assert await refused(kms.decrypt(CiphertextBlob=blob)) == "InvalidCiphertextException"
    assert await refused(kms.describe_key(KeyId="alias/shop")) == "NotFoundException"
    await door.app.kms.sweep()
    assert await fetch(door.app.host.bus, KMS_KEY, (ACCOUNT, REGION, key)) is None
    await kms.create_alias(AliasName="alias/shop", TargetKeyId=kept)


async def test_rotation_that_is_due_happens_once(door, kms, forward):  # noqa: F811
    key = await made(kms)
    await kms.enable_key_rotation(KeyId=key, RotationPeriodInDays=90)
    old = (await kms.encrypt(KeyId=key, Plaintext=b"old"))["CiphertextBlob"]
    forward(90 * DAY_S + 1)
    await door.app.kms.sweep()
    await door.app.kms.sweep()
    rotations = (await kms.list_key_rotations(KeyId=key))["Rotations"]
    assert [r["RotationType"] for r in rotations] == ["AUTOMATIC"]
    assert (await kms.decrypt(CiphertextBlob=old))["Plaintext"] == b"old"


async def test_aliases_name_keys_and_can_be_moved(kms):
    one, two = await made(kms), await made(kms)
    await kms.create_alias(AliasName="alias/shop", TargetKeyId=one)
    assert await refused(kms.create_alias(AliasName="alias/shop", TargetKeyId=two)) == "AlreadyExistsException"
    blob = (await kms.encrypt(KeyId="alias/shop", Plaintext=b"one"))["CiphertextBlob"]
    await kms.update_alias(AliasName="alias/shop", TargetKeyId=two)
    arn = f"arn:aws:kms:{REGION}:{ACCOUNT}:alias/shop"
    assert (await kms.describe_key(KeyId=arn))["KeyMetadata"]["KeyId"] == two
    assert (await kms.decrypt(CiphertextBlob=blob))["KeyId"].endswith(one)
    listed = (await kms.list_aliases(KeyId=two))["Aliases"]
    assert [(a["AliasName"], a["AliasArn"], a["TargetKeyId"]) for a in listed] == [("alias/shop", arn, two)]
    assert await refused(kms.create_alias(AliasName="alias/aws/own", TargetKeyId=one)) == "InvalidAliasNameException"
    assert await refused(kms.disable_key(KeyId="alias/shop")) == "NotFoundException"
    await kms.delete_alias(AliasName="alias/shop")
    assert await refused(kms.delete_alias(AliasName="alias/shop")) == "NotFoundException"


async def test_the_key_of_ecr_is_made_when_it_is_first_asked_for(door, kms):  # noqa: F811
    nobody = door.of(await door.session("nobody"), "kms")
    assert await refused(nobody.describe_key(KeyId="alias/aws/ecr")) == "AccessDeniedException"
    assert (await kms.list_aliases())["Aliases"] == []
    key = (await kms.describe_key(KeyId="alias/aws/ecr"))["KeyMetadata"]
    assert (key["KeyManager"], (await kms.describe_key(KeyId="alias/aws/ecr"))["KeyMetadata"]) == ("AWS", key)
    assert [a["AliasName"] for a in (await kms.list_aliases())["Aliases"]] == ["alias/aws/ecr"]
    assert await refused(kms.encrypt(KeyId="alias/aws/ecr", Plaintext=b"x")) == "AccessDeniedException"
    assert await refused(kms.disable_key(KeyId=key["KeyId"])) == "AccessDeniedException"


async def test_the_key_policy_decides_and_hands_over_to_iam_where_it_names_the_account(door, kms):  # noqa: F811
    key = (await kms.create_key())["KeyMetadata"]["Arn"]
    may = door.of(await door.session("may", allow(["kms:Encrypt", "kms:DescribeKey"], key)), "kms")
    blob = (await may.encrypt(KeyId=key, Plaintext=b"x"))["CiphertextBlob"]
    assert await refused(may.decrypt(CiphertextBlob=blob)) == "AccessDeniedException"
    assert await refused(may.list_keys()) == "AccessDeniedException"
    owner = {"Sid": "owner of it", "Effect": "Allow", "Principal": {"AWS": ROOT}, "Action": "kms:*", "Resource": "*"}
    reader = {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:role/may"},
        "Action": "kms:Decrypt",
        "Resource": "*",
        "Condition": {"StringEquals": {"kms:EncryptionContext:team": "a"}},
    }
    never = {**owner, "Sid": "never", "Effect": "Deny", "Principal": {"AWS": "*"}, "Action": "kms:Encrypt"}
    await kms.put_key_policy(KeyId=key, Policy=policy(owner, reader, never))
    assert await refused(may.encrypt(KeyId=key, Plaintext=b"x")) == "AccessDeniedException"
    assert await refused(may.decrypt(CiphertextBlob=blob)) == "AccessDeniedException"
    await kms.put_key_policy(KeyId=key, Policy=policy(owner, reader))
    blob = (await kms.encrypt(KeyId=key, Plaintext=b"y", EncryptionContext={"team": "a"}))["CiphertextBlob"]
    assert (await may.decrypt(CiphertextBlob=blob, EncryptionContext={"team": "a"}))["Plaintext"] == b"y"
    told = json.loads((await kms.get_key_policy(KeyId=key))["Policy"])
    assert (len(told["Statement"]), (await kms.list_key_policies(KeyId=key))["PolicyNames"]) == (2, ["default"])


async def test_a_policy_that_locks_its_setter_out_is_refused_and_silence_is_a_denial(kms):
    other = {"AWS": f"arn:aws:iam::{ACCOUNT}:role/other"}
    alone = policy({"Effect": "Allow", "Principal": other, "Action": "kms:*", "Resource": "*"})
    assert await refused(kms.create_key(Policy=alone)) == "MalformedPolicyDocumentException"
    key = (await kms.create_key(Policy=alone, BypassPolicyLockoutSafetyCheck=True))["KeyMetadata"]["KeyId"]
    assert await refused(kms.encrypt(KeyId=key, Plaintext=b"x")) == "AccessDeniedException"
    mine = await made(kms)
    assert await refused(kms.put_key_policy(KeyId=mine, Policy="{}")) == "MalformedPolicyDocumentException"


async def test_a_grant_lets_a_role_use_a_key_within_its_context(door, kms):  # noqa: F811
    key = await made(kms)
    role = f"arn:aws:iam::{ACCOUNT}:role/worker"
    worker = door.of(await door.session("worker"), "kms")
    blob = (await kms.encrypt(KeyId=key, Plaintext=b"x", EncryptionContext=ABOUT))["CiphertextBlob"]
    assert await refused(worker.decrypt(CiphertextBlob=blob, EncryptionContext=ABOUT)) == "AccessDeniedException"
    grant = await kms.create_grant(
        KeyId=key,
        GranteePrincipal=role,
        Operations=["Decrypt", "RetireGrant"],
        Constraints={"EncryptionContextSubset": {"team": "a"}},
        Name="work",
    )
    assert (await worker.decrypt(CiphertextBlob=blob, EncryptionContext=ABOUT))["Plaintext"] == b"x"
    bare = (await kms.encrypt(KeyId=key, Plaintext=b"x"))["CiphertextBlob"]
    assert await refused(worker.decrypt(CiphertextBlob=bare)) == "AccessDeniedException"
    (listed,) = (await kms.list_grants(KeyId=key))["Grants"]
    assert (listed["GrantId"], listed["GranteePrincipal"], listed["Name"]) == (grant["GrantId"], role, "work")
    await worker.retire_grant(GrantToken=grant["GrantToken"])
    assert await refused(worker.decrypt(CiphertextBlob=blob, EncryptionContext=ABOUT)) == "AccessDeniedException"
    assert await refused(kms.revoke_grant(KeyId=key, GrantId=grant["GrantId"])) == "NotFoundException"


@pytest.mark.parametrize(
    "arguments",
    [
        {"KeySpec": "RSA_2048", "KeyUsage": "SIGN_VERIFY"},
        {"KeyUsage": "SIGN_VERIFY"},
        {"Origin": "EXTERNAL"},
        {"MultiRegion": True},
    ],
)
async def test_other_sorts_of_keys_are_refused(kms, arguments):
    assert await refused(kms.create_key(**arguments)) == "UnsupportedOperationException"


async def test_no_material_is_stored_in_clear(door, kms):  # noqa: F811
    key = await made(kms)
    record = await fetch(door.app.host.bus, KMS_KEY, (ACCOUNT, REGION, key))
    assert isinstance(record, KmsKey)
    assert len(base64.b64decode(record.materials[0].sealed)) == 12 + 32 + 16
