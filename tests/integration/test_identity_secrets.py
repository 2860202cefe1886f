"""Secrets Manager and Parameter Store, asked by boto3; what is stored shows no value."""

import pytest

from contracts.records.identity import PARAMETER, SECRET
from services.shared.views import View
from tests.integration.test_identity_iam import allow, door, refused  # noqa: F401

VALUE = "correct horse battery staple"


@pytest.fixture
def sm(door):  # noqa: F811
    return door.root("secretsmanager")


@pytest.fixture
def ssm(door):  # noqa: F811
    return door.root("ssm")


async def test_a_new_value_is_current_and_the_one_before_stays_as_previous(sm):
    made = await sm.create_secret(Name="shop/db", SecretString="one", Tags=[{"Key": "team", "Value": "a"}])
    put = await sm.put_secret_value(SecretId="shop/db", SecretString="two")
    current, previous = (
        await sm.get_secret_value(SecretId=made["ARN"]),
        await sm.get_secret_value(SecretId=made["ARN"][:-7], VersionStage="AWSPREVIOUS"),
    )
    assert (current["SecretString"], current["VersionStages"]) == ("two", ["AWSCURRENT"])
    assert (previous["SecretString"], previous["VersionId"]) == ("one", made["VersionId"])
    await sm.update_secret(SecretId="shop/db", SecretBinary=b"\x00\xff", Description="of the shop")
    described = await sm.describe_secret(SecretId="shop/db")
    assert described["VersionIdsToStages"][put["VersionId"]] == ["AWSPREVIOUS"]
    assert (described["Description"], described["Tags"]) == ("of the shop", [{"Key": "team", "Value": "a"}])
    assert (await sm.get_secret_value(SecretId="shop/db"))["SecretBinary"] == b"\x00\xff"
    assert [s["Name"] for s in (await sm.list_secrets())["SecretList"]] == ["shop/db"]


async def test_a_token_is_answered_again_for_the_same_value_and_refused_for_another(sm):
    token = "t" * 32
    first = await sm.create_secret(Name="db", SecretString="one", ClientRequestToken=token)
    assert (await sm.create_secret(Name="db", SecretString="one", ClientRequestToken=token))["ARN"] == first["ARN"]
    assert await refused(sm.create_secret(Name="db", SecretString="two")) == "ResourceExistsException"
    call = sm.put_secret_value(SecretId="db", SecretString="other", ClientRequestToken=token)
    assert await refused(call) == "ResourceExistsException"


async def test_a_deleted_secret_can_be_restored_and_a_forced_one_is_gone(sm):
    await sm.create_secret(Name="db", SecretString="one")
    await sm.delete_secret(SecretId="db", RecoveryWindowInDays=7)
    assert await refused(sm.get_secret_value(SecretId="db")) == "InvalidRequestException"
    assert (await sm.list_secrets())["SecretList"] == []
    await sm.restore_secret(SecretId="db")
    assert (await sm.get_secret_value(SecretId="db"))["SecretString"] == "one"
    await sm.delete_secret(SecretId="db", ForceDeleteWithoutRecovery=True)
    assert await refused(sm.get_secret_value(SecretId="db")) == "ResourceNotFoundException"


async def test_parameters_have_versions_and_only_overwrite_makes_a_new_one(ssm):
    await ssm.put_parameter(Name="/shop/url", Value="a", Type="String")
    assert await refused(ssm.put_parameter(Name="/shop/url", Value="b", Type="String")) == "ParameterAlreadyExists"
    assert (await ssm.put_parameter(Name="/shop/url", Value="b", Overwrite=True))["Version"] == 2
    found = await ssm.get_parameters(Names=["/shop/url", "/shop/url:1", "/shop/none"])
    assert [p["Value"] for p in found["Parameters"]] == ["b", "a"]
    assert found["InvalidParameters"] == ["/shop/none"]
    arn = (await ssm.get_parameter(Name="/shop/url"))["Parameter"]["ARN"]
    assert arn == "arn:aws:ssm:us-east-1:000000000000:parameter/shop/url"
    assert (await ssm.get_parameter(Name=arn))["Parameter"]["Value"] == "b"
    await ssm.delete_parameter(Name="/shop/url")
    assert await refused(ssm.get_parameter(Name="/shop/url")) == "ParameterNotFound"


async def test_a_path_is_read_in_pages_and_secure_values_only_when_asked_for(ssm):
    for name in ("/shop/a", "/shop/b", "/shop/deep/c", "/other"):
        await ssm.put_parameter(Name=name, Value=VALUE, Type="SecureString")
    first = await ssm.get_parameters_by_path(Path="/shop", MaxResults=1, WithDecryption=True)
    rest = await ssm.get_parameters_by_path(Path="/shop", MaxResults=1, NextToken=first["NextToken"])
    assert [(p["Name"], p["Value"]) for p in first["Parameters"]] == [("/shop/a", VALUE)]
    assert [(p["Name"], VALUE in p["Value"]) for p in rest["Parameters"]] == [("/shop/b", False)]
    assert "NextToken" not in rest
    assert len((await ssm.get_parameters_by_path(Path="/shop", Recursive=True))["Parameters"]) == 3
    described = (await ssm.describe_parameters())["Parameters"]
    assert [p["Name"] for p in described] == ["/other", "/shop/a", "/shop/b", "/shop/deep/c"]


@pytest.mark.parametrize("name", ["no/slash", "/aws/x", "/a//b", "spa ce"])
async def test_a_wrong_parameter_name_is_refused(ssm, name):
    assert await refused(ssm.put_parameter(Name=name, Value="x", Type="String")) == "ValidationException"


async def test_no_value_is_stored_or_logged_in_clear_text_and_the_key_is_private(
    sm, ssm, nats_platform, tmp_path, capsys
):
    await sm.create_secret(Name="db", SecretString=VALUE)
    await ssm.put_parameter(Name="/plain", Value=VALUE, Type="String")
    await sm.get_secret_value(SecretId="db")
    view = await View.open(await nats_platform.bus("identity"), SECRET, PARAMETER)
    records = [*view.table(SECRET).records(), *view.table(PARAMETER).records()]
    assert len(records) == 2
    assert VALUE not in repr(records)
    assert VALUE not in capsys.readouterr().out
    await view.close()
    on_disk = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert VALUE.encode() not in on_disk
    assert (tmp_path / "identity" / "values.key").stat().st_mode & 0o777 == 0o600


async def test_a_session_reads_the_secrets_that_its_role_may_read(door, sm):  # noqa: F811
    arn = (await sm.create_secret(Name="mine", SecretString="x"))["ARN"]
    await sm.create_secret(Name="other", SecretString="y")
    session = door.of(await door.session("reader", allow("secretsmanager:GetSecretValue", arn)), "secretsmanager")
    assert (await session.get_secret_value(SecretId="mine"))["SecretString"] == "x"
    assert await refused(session.get_secret_value(SecretId="other")) == "AccessDeniedException"
    assert await refused(session.get_secret_value(SecretId="nothing")) == "AccessDeniedException"
