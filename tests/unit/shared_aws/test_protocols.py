"""What boto3 sends arrives as Structs, and what services answer arrives in boto3, in every protocol."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from contracts.aws import cloudwatch
from services.shared.aws.service import AwsService
from tests.unit.shared_aws.door import ROLE, SESSION_KEY, Door
from tests.unit.shared_aws.small_services import NOON, Clusters, Metrics

NOON_UTC = datetime.fromtimestamp(NOON, UTC)


async def refusal(door: Door, api: str, method: str, **parameters: Any) -> dict[str, Any]:
    """The error an operation ends in, with its HTTP status."""
    with pytest.raises(ClientError) as caught:
        await door.ask(api, method, **parameters)
    response = caught.value.response
    return {**response["Error"], "status": response["ResponseMetadata"]["HTTPStatusCode"]}


async def test_json_carries_nested_members_both_ways(door: Door) -> None:
    containers = [{"name": "web", "image": "nginx", "environment": [{"name": "A", "value": "ü"}], "essential": True}]
    answer = await door.ask("ecs", "register_task_definition", family="web", containerDefinitions=containers)
    expected = {"family": "web", "containerDefinitions": containers}
    assert expected == {key: answer["taskDefinition"][key] for key in expected}
    assert answer["taskDefinition"]["registeredAt"] == NOON_UTC


async def test_the_context_says_who_asked_for_what(door: Door, services: list[AwsService]) -> None:
    await door.ask("ecs", "create_cluster", SESSION_KEY, clusterName="c", tags=[{"key": "a", "value": "b"}])
    [clusters] = [service for service in services if isinstance(service, Clusters)]
    [(context, request)] = clusters.calls
    assert (request.cluster_name, request.tags[0].value, request.settings) == ("c", "b", None)
    assert (context.account, context.region, context.principal_arn) == ("123456789012", "eu-west-1", ROLE)
    assert (context.api, context.operation, context.session) == ("ecs", "CreateCluster", True)
    assert context.user_agent.startswith("Boto3/")
    assert context.source_ip == "127.0.0.1"


async def test_json_blobs_are_base64(door: Door) -> None:
    part = {"repositoryName": "ab", "uploadId": "2f70dcc6-9c1c-4ab4-b5d0-5c4d1b1ab0b1"}
    part |= {"partFirstByte": 0, "partLastByte": 6}
    answer = await door.ask("ecr", "upload_layer_part", **part, layerPartBlob=b"\x00layer\xff")
    assert answer == {"lastByteReceived": 6}
    assert (await door.ask("secretsmanager", "get_secret_value", SecretId="x"))["SecretBinary"] == b"\x00\xff"


async def test_query_carries_lists_and_times(door: Door) -> None:
    answer = await door.ask(
        "iam",
        "create_role",
        RoleName="ci",
        AssumeRolePolicyDocument='{"Statement": [{"Effect": "<Allow>"}]}',
        MaxSessionDuration=3600,
        Tags=[{"Key": "team", "Value": "a = b"}, {"Key": "empty", "Value": ""}],
    )
    role = answer["Role"]
    assert role["CreateDate"] == datetime.fromtimestamp(NOON + 0.25, UTC)
    assert role["AssumeRolePolicyDocument"] == {"Statement": [{"Effect": "<Allow>"}]}
    assert role["Tags"] == [{"Key": "team", "Value": "a = b"}, {"Key": "empty", "Value": ""}]
    assert (role["RoleName"], role["MaxSessionDuration"]) == ("ci", 3600)


async def test_query_carries_maps_and_operations_without_input_or_output(door: Door) -> None:
    assert (await door.ask("iam", "get_account_summary"))["SummaryMap"] == {"Roles": 1, "Users": 2}
    assert await door.ask("iam", "tag_role", RoleName="ci", Tags=[]) == {}


async def test_query_escapes_what_xml_needs_escaped(door: Door) -> None:
    role = "arn:aws:iam::123456789012:role/x"
    answer = await door.ask("sts", "assume_role", RoleArn=role, RoleSessionName="me", SourceIdentity="ada")
    assert answer["Credentials"]["SessionToken"] == "<&>"
    assert answer["Credentials"]["Expiration"] == NOON_UTC
    assert answer["SourceIdentity"] == "ada"


async def test_rest_json_binds_path_and_query_string(door: Door) -> None:
    assert await door.ask("eks", "list_clusters", maxResults=7, nextToken="a/b+c d") == {
        "clusters": ["7"],
        "nextToken": "a/b+c d",
    }
    arn = "arn:aws:eks:eu-west-1:1:cluster/x"
    assert await door.ask("eks", "untag_resource", resourceArn=arn, tagKeys=["a", "b&c"]) == {}
    answer = await door.ask(
        "eks", "create_cluster", name="k", roleArn="r", resourcesVpcConfig={"subnetIds": ["s"]}, tags={"a": "b"}
    )
    assert answer["cluster"] == {"name": "k", "tags": {"a": "b"}, "createdAt": NOON_UTC}


async def test_cbor_carries_times_numbers_and_maps(door: Door, services: list[AwsService]) -> None:
    datum = {"MetricName": "m", "Timestamp": NOON_UTC, "Value": 2, "Dimensions": [{"Name": "a", "Value": "b"}]}
    assert await door.ask("cloudwatch", "put_metric_data", Namespace="n", MetricData=[datum]) == {}
    [metrics] = [service for service in services if isinstance(service, Metrics)]
    expected = cloudwatch.MetricDatum(
        metric_name="m", timestamp=NOON, value=2.0, dimensions=[cloudwatch.Dimension(name="a", value="b")]
    )
    assert metrics.data == [cloudwatch.PutMetricDataInput(namespace="n", metric_data=[expected])]
    answer = await door.ask(
        "servicediscovery", "register_instance", ServiceId="s", InstanceId="i", Attributes={"AWS_INSTANCE_IPV4": "1.2"}
    )
    assert answer == {"OperationId": "1.2"}


async def test_a_large_body_may_come_compressed(door: Door, services: list[AwsService]) -> None:
    data = [{"MetricName": f"metric-{number}", "Value": float(number)} for number in range(900)]
    await door.ask("cloudwatch", "put_metric_data", Namespace="n", MetricData=data)
    [metrics] = [service for service in services if isinstance(service, Metrics)]
    assert [datum.value for datum in metrics.data[0].metric_data] == [float(number) for number in range(900)]


async def test_an_error_has_the_status_of_the_model(door: Door) -> None:
    assert await refusal(door, "ecs", "describe_clusters") == {
        "Code": "ClusterNotFoundException",
        "Message": "Cluster not found.",
        "status": 400,
    }
    assert await refusal(door, "iam", "delete_role", RoleName="ci") == {
        "Type": "Sender",
        "Code": "NoSuchEntity",
        "Message": "The role with name ci cannot be found.",
        "status": 404,
    }
    assert await refusal(door, "eks", "describe_cluster", name="x") == {
        "Code": "ResourceNotFoundException",
        "Message": "No cluster found for name: x.",
        "status": 404,
    }


async def test_cbor_errors_have_the_code_that_query_clients_know(door: Door) -> None:
    assert await refusal(door, "cloudwatch", "get_dashboard", DashboardName="x") == {
        "Code": "ResourceNotFound",
        "Type": "Sender",
        "Message": "Dashboard does not exist",
        "QueryErrorCode": "DashboardNotFoundError",
        "status": 404,
    }


async def test_an_error_keeps_its_own_members(door: Door) -> None:
    part = {"repositoryName": "ab", "uploadId": "2f70dcc6-9c1c-4ab4-b5d0-5c4d1b1ab0b1"}
    part |= {"partFirstByte": 0, "partLastByte": 6}
    with pytest.raises(ClientError) as caught:
        await door.ask("ecr", "upload_layer_part", **part, layerPartBlob=b"else")
    assert caught.value.response["lastValidByteReceived"] == 7


async def test_what_is_not_there_yet_says_so(door: Door) -> None:
    assert await refusal(door, "ecs", "list_services") == {
        "Code": "NotImplemented",
        "Message": "ECS ListServices is not implemented: it does not exist in Roadstead yet.",
        "status": 501,
    }
    assert (await refusal(door, "sts", "get_session_token"))["Code"] == "NotImplemented"
    live = await refusal(door, "logs", "start_live_tail", logGroupIdentifiers=["arn:aws:logs:eu-west-1:1:log-group:g"])
    assert live["Message"].endswith("StartLiveTail is not implemented: it is an event stream.")


async def test_faults_are_told_without_their_details(door: Door) -> None:
    away = await refusal(door, "ecs", "delete_cluster", cluster="c")
    assert (away["Code"], away["status"]) == ("ServiceUnavailable", 503)
    fault = await refusal(door, "ecs", "list_clusters")
    assert (fault["Code"], fault["status"]) == ("ServerException", 500)
    assert "a fault of our own" not in fault["Message"]
    denied = await refusal(door, "ecs", "list_tasks")
    assert (denied["Code"], denied["status"]) == ("AccessDeniedException", 400)
