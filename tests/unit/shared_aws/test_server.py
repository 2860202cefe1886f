"""Which operation is called, by whom, and what is answered when none is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import botocore.session
import msgspec
import pytest
from botocore.exceptions import ClientError
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from multidict import CIMultiDict

from contracts.aws import ecs
from services.shared.aws.context import RequestContext
from services.shared.aws.http import AwsHttpRequest
from services.shared.aws.server import AwsServer
from services.shared.aws.service import AwsService
from services.shared.aws.sigv4 import SigV4Authenticator
from services.shared.errors import AccessDenied
from tests.unit.shared_aws.door import IDENTITY, KEY, Door, Keys
from tests.unit.shared_aws.raw import answer, json_answer, json_request, query_request
from tests.unit.shared_aws.small_services import Clusters, TaskDefinitions


class Watch:
    """An Observer that remembers."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, str]] = []

    def start(self, context: RequestContext, headers: Mapping[str, str]) -> Any:
        watch = self

        class Span:
            def end(self, status: int, error: str) -> None:
                watch.seen.append((context.operation, status, error))

        return Span()


def server_with(*services: AwsService, **options: Any) -> AwsServer:
    return AwsServer(services, SigV4Authenticator(Keys(KEY), time.time), **options)


async def test_an_unknown_operation_is_told_as_aws_tells_it(server: AwsServer) -> None:
    assert await json_answer(server, "ecs", "MakeTea", {}) == (
        400,
        {"__type": "UnknownOperationException", "message": "Could not find operation MakeTea for version 2014-11-13."},
    )
    response = await answer(server, query_request("iam", "Action=MakeTea&Version=2010-05-08"))
    assert (response.status, b"<Code>InvalidAction</Code>" in response.body) == (400, True)
    unknown = json_request("ecs", "X", {})
    unknown.headers["X-Amz-Target"] = "NoSuchApi_1.MakeTea"
    assert (await answer(server, unknown)).status == 400


async def test_nobody_gets_in_without_a_signature(server: AwsServer, services: list[AwsService]) -> None:
    response = await server.dispatch(json_request("ecs", "CreateCluster", {}))
    assert (response.status, msgspec.json.decode(response.body)) == (
        400,
        {"__type": "MissingAuthenticationTokenException", "message": "Missing Authentication Token"},
    )
    forged = await server.dispatch(query_request("iam", "Action=GetAccountSummary&Version=2010-05-08"))
    assert (forged.status, b"<Code>InvalidClientTokenId</Code>" in forged.body) == (403, True)
    assert services[0].calls == []


async def test_a_tampered_request_calls_no_operation(door: Door, services: list[AwsService]) -> None:
    client = door.client("ecs")

    def tamper(request: Any, **_: Any) -> None:
        request.data = request.body = b'{"clusterName":"other"}'
        request.headers["Content-Length"] = "23"

    client.meta.events.register("before-send.ecs.CreateCluster", tamper)
    with pytest.raises(ClientError) as caught:
        await asyncio.to_thread(client.create_cluster, clusterName="mine")
    assert caught.value.response["Error"]["Code"] == "InvalidSignatureException"
    assert services[0].calls == []


async def test_a_signature_for_another_service_is_refused(server: AwsServer) -> None:
    request = json_request("ecs", "CreateCluster", {})

    class Eks:
        def authenticate(self, request: AwsHttpRequest) -> Any:
            return msgspec.structs.replace(IDENTITY, service="eks")

    refused = AwsServer([Clusters()], Eks())
    response = await refused.dispatch(request)
    assert msgspec.json.decode(response.body) == {
        "__type": "InvalidSignatureException",
        "message": "Credential should be scoped to correct service: 'ecs'.",
    }


async def test_web_identity_needs_no_signature(server: AwsServer) -> None:
    form = (
        "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn:aws:iam::1:role/x"
        "&RoleSessionName=me&WebIdentityToken=abcd"
    )
    headers = CIMultiDict({"Content-Type": "application/x-www-form-urlencoded"})
    response = await server.dispatch(AwsHttpRequest("POST", "/", "", headers, form.encode()))
    assert (response.status, b"<Audience>anonymous:</Audience>" in response.body) == (200, True)


@pytest.mark.parametrize("protocol", ["query", "json", "smithy-rpc-v2-cbor"])
async def test_cloudwatch_is_the_same_in_each_of_its_protocols(server: AwsServer, protocol: str) -> None:
    model = botocore.session.get_session().get_service_model("cloudwatch")
    operation = model.operation_model("GetMetricStatistics")
    times = {"StartTime": 1_700_000_000, "EndTime": 1_700_000_060}
    asked = {"Namespace": "n", "MetricName": "m", "Period": 60, "Statistics": ["Average"], **times}
    sent = create_serializer(protocol).serialize_to_request(asked, operation)
    body = sent["body"]
    if isinstance(body, dict):
        body = "&".join(f"{name}={value}" for name, value in body.items())
    headers = CIMultiDict(sent["headers"])
    headers["Authorization"] = query_request("cloudwatch", "").headers["Authorization"]
    content = body.encode() if isinstance(body, str) else body
    response = await answer(server, AwsHttpRequest("POST", sent["url_path"], "", headers, content))
    received = {"status_code": response.status, "body": response.body}
    received["headers"] = {name.lower(): value for name, value in response.headers.items()}
    parsed = create_parser(protocol).parse(received, operation.output_shape)
    [point] = parsed["Datapoints"]
    assert (parsed["Label"], point["Timestamp"].timestamp(), point["Average"]) == ("m", 1_700_000_000, 1.0)
    assert parsed["ResponseMetadata"]["RequestId"] == response.headers["x-amzn-RequestId"]


async def test_two_classes_may_share_an_api_but_not_an_operation() -> None:
    server = server_with(Clusters(), TaskDefinitions())
    assert server.operations("ecs") >= {"CreateCluster", "RegisterTaskDefinition"}
    with pytest.raises(ValueError, match="ecs CreateCluster is implemented twice"):
        server_with(Clusters(), Clusters())


async def test_a_guard_refuses_before_the_operation() -> None:
    clusters = Clusters()

    async def nobody(context: RequestContext, request: ecs.CreateClusterRequest) -> None:
        raise AccessDenied(f"{context.principal_arn} may not {context.operation} {request.cluster_name}")

    server = server_with(clusters, guards=[nobody])
    status, error = await json_answer(server, "ecs", "CreateCluster", {"clusterName": "c"})
    assert (status, error) == (
        400,
        {"__type": "AccessDeniedException", "message": f"{KEY.principal_arn} may not CreateCluster c"},
    )
    assert clusters.calls == []


async def test_an_observer_sees_each_operation_end() -> None:
    watch = Watch()
    server = server_with(Clusters(), observe=watch)
    for operation, body in (("CreateCluster", {}), ("CreateCluster", {"tags": 1}), ("ListClusters", {}), ("X", {})):
        await json_answer(server, "ecs", operation, body)
    assert watch.seen == [
        ("CreateCluster", 200, ""),
        ("CreateCluster", 400, "SerializationException"),
        ("ListClusters", 500, "ServerException"),
        ("", 400, "UnknownOperationException"),
    ]


async def test_a_body_that_is_too_large_or_not_gzip_is_refused(server: AwsServer) -> None:
    request = json_request("ecs", "CreateCluster", b"plain")
    request.headers["Content-Encoding"] = "gzip"
    response = await answer(server, request)
    assert msgspec.json.decode(response.body)["__type"] == "SerializationException"


async def test_an_observer_sees_a_request_end_that_was_cancelled() -> None:
    watch, begun = Watch(), asyncio.Event()

    class Slow(AwsService):
        api = ecs.API

        async def list_clusters(self, context: RequestContext, request: ecs.ListClustersRequest) -> None:
            begun.set()
            await asyncio.Event().wait()

    asking = asyncio.create_task(json_answer(server_with(Slow(), observe=watch), "ecs", "ListClusters", {}))
    await begun.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert watch.seen == [("ListClusters", 499, "Cancelled")]
