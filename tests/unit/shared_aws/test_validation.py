"""What is wrong with an input is told in the words of the API, and the operation is not called."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from contracts.aws import cloudwatch
from services.shared.aws.plans import plan_of
from services.shared.aws.server import AwsServer
from services.shared.aws.service import AwsService
from services.shared.aws.validation import explain
from tests.unit.shared_aws.raw import answer, json_answer, query_request

REPOSITORY = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*"


def failed(code: str, message: str, name: str = "message") -> tuple[int, dict[str, str]]:
    return 400, {"__type": code, name: message}


async def test_ecs_names_a_missing_member(server: AwsServer) -> None:
    assert await json_answer(server, "ecs", "RegisterTaskDefinition", {"family": None}) == failed(
        "InvalidParameterException",
        "2 validation errors detected: Value null at 'family' failed to satisfy constraint: Member must not be null; "
        "Value null at 'containerDefinitions' failed to satisfy constraint: Member must not be null",
    )


async def test_ecs_names_an_unknown_enum_value_deep_inside(server: AwsServer) -> None:
    body = {"family": "f", "containerDefinitions": [{"name": "a"}, {"logConfiguration": {"logDriver": "x"}}]}
    status, error = await json_answer(server, "ecs", "RegisterTaskDefinition", body)
    assert (status, error["__type"]) == (400, "InvalidParameterException")
    assert error["message"].startswith(
        "1 validation error detected: Value 'x' at 'containerDefinitions.2.member.logConfiguration.logDriver' failed "
        "to satisfy constraint: Member must satisfy enum value set: ["
    )
    assert "awslogs" in error["message"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"clusterName": 3}, "NUMBER_VALUE can not be converted to a String at 'clusterName'"),
        ({"tags": {"a": "b"}}, "Start of structure or map found where not expected at 'tags'"),
        ({"tags": ["x"]}, "STRING_VALUE can not be converted to a Structure at 'tags.1.member'"),
        ([], "Start of list found where not expected"),
    ],
)
async def test_a_wrong_type_is_a_serialization_exception(server: AwsServer, body: Any, message: str) -> None:
    assert await json_answer(server, "ecs", "CreateCluster", body) == failed("SerializationException", message)


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"{'a': 1}", b'{"clusterName": "\xff"}'])
async def test_what_is_not_json_is_a_serialization_exception(server: AwsServer, body: bytes) -> None:
    status, error = await json_answer(server, "ecs", "CreateCluster", body)
    assert (status, error["__type"]) == (400, "SerializationException")


async def test_an_empty_body_and_unknown_members_are_taken(server: AwsServer) -> None:
    expected = (200, {"cluster": {"clusterName": "default"}})
    assert await json_answer(server, "ecs", "CreateCluster", b"") == expected
    assert await json_answer(server, "ecs", "CreateCluster", {"newMember": [1], "tags": None}) == expected


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            {"repositoryName": "Upper"},
            f"Invalid parameter at 'repositoryName' failed to satisfy constraint: "
            f"'must satisfy regular expression '{REPOSITORY}''",
        ),
        (
            {"repositoryName": "a"},
            "Invalid parameter at 'repositoryName' failed to satisfy constraint: "
            "'Member must have length greater than or equal to 2'",
        ),
    ],
)
async def test_ecr_has_words_of_its_own(server: AwsServer, body: Any, message: str) -> None:
    assert await json_answer(server, "ecr", "CreateRepository", body) == failed("InvalidParameterException", message)


async def test_a_pattern_must_match_all_of_the_value(server: AwsServer) -> None:
    for name in ("good/Bad", "bad\n", "ok-"):
        status, _ = await json_answer(server, "ecr", "CreateRepository", {"repositoryName": name})
        assert status == 400, name


async def test_blobs_must_be_base64(server: AwsServer) -> None:
    body = {"repositoryName": "ab", "uploadId": "2f70dcc6-9c1c-4ab4-b5d0-5c4d1b1ab0b1", "partFirstByte": 0}
    body |= {"partLastByte": 1, "layerPartBlob": "*"}
    expected = failed("SerializationException", "The value at 'layerPartBlob' is not valid base64")
    assert await json_answer(server, "ecr", "UploadLayerPart", body) == expected


async def test_other_apis_have_other_codes(server: AwsServer) -> None:
    status, error = await json_answer(server, "ssm", "PutParameter", {"Name": "", "Value": "v"})
    assert (status, error["__type"]) == (400, "ValidationException")
    assert "Value '' at 'name' failed to satisfy constraint: Member must have length" in error["Message"]
    status, error = await json_answer(server, "servicediscovery", "RegisterInstance", {"ServiceId": "s"})
    assert error["__type"] == "InvalidInput"


async def test_logs_does_not_repeat_values(server: AwsServer) -> None:
    expected = failed(
        "InvalidParameterException",
        "1 validation error detected: Value at 'logGroupName' failed to satisfy constraint: Member must satisfy "
        r"regular expression pattern: [\.\-_/#A-Za-z0-9]+",
    )
    assert await json_answer(server, "logs", "CreateLogGroup", {"logGroupName": "a b"}) == expected


async def test_query_names_members_as_json_does(server: AwsServer) -> None:
    form = "Action=CreateRole&Version=2010-05-08&RoleName=a&AssumeRolePolicyDocument=p&MaxSessionDuration=1"
    response = await answer(server, query_request("iam", form))
    assert response.status == 400
    assert response.body.decode().startswith(
        '<ErrorResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><Error><Type>Sender</Type>'
        "<Code>ValidationError</Code><Message>1 validation error detected: Value '1' at 'maxSessionDuration' failed "
        "to satisfy constraint: Member must have value greater than or equal to 3600</Message></Error><RequestId>"
    )


@pytest.mark.parametrize("member", ["MaxSessionDuration=x", "MaxSessionDuration=3_600", "Tags.member.x.Key=a"])
async def test_a_form_that_cannot_be_read_is_malformed_input(server: AwsServer, member: str) -> None:
    form = f"Action=CreateRole&Version=2010-05-08&RoleName=a&AssumeRolePolicyDocument=p&{member}"
    response = await answer(server, query_request("iam", form))
    assert (response.status, b"<Code>MalformedInput</Code>" in response.body) == (400, True)


async def test_an_operation_is_not_called_with_a_bad_input(server: AwsServer, services: list[AwsService]) -> None:
    await json_answer(server, "ecs", "CreateCluster", {"clusterName": 3})
    assert services[0].calls == []


@pytest.mark.parametrize("window", [{}, {"Slide": {"Period": 1}, "Wall": {"Period": 1}}])
def test_a_union_has_exactly_one_member(window: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(window, cloudwatch.EvaluationWindow)
    error = explain(plan_of(cloudwatch.EvaluationWindow), window, str(caught.value))
    assert (error.code, error.message[:38]) == ("SerializationException", "Union must have exactly one member set")
