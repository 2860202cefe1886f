"""The edge verifies once, finds the owner, and says plainly what is not there."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from typing import Any

import pytest
from aiohttp import web
from botocore.exceptions import ClientError
from multidict import CIMultiDict

from services.edge.adapters import HttpUpstream, LocalUpstream
from services.edge.app import Edge, http_upstreams
from services.edge.decisions import OWNERS
from services.edge.ports import Upstream
from services.edge.settings import EdgeSettings
from services.shared.aws.context import Identity
from services.shared.aws.http import AwsHttpRequest, AwsHttpResponse
from services.shared.aws.routing import CBOR, Route
from services.shared.aws.server import AwsServer
from services.shared.aws.sigv4 import SigV4Authenticator
from tests.unit.shared_aws.door import KEY, SESSION_KEY, Door, Keys, open_door
from tests.unit.shared_aws.raw import json_request, query_request
from tests.unit.shared_aws.small_services import Clusters, Kubernetes, Metrics, Names, Roles, Tokens

KEYS = Keys(KEY, SESSION_KEY)


class Counting:
    """An authenticator that counts, in front of the real one."""

    def __init__(self) -> None:
        self.calls = 0
        self._real = SigV4Authenticator(KEYS, time.time)

    def authenticate(self, request: AwsHttpRequest) -> Identity:
        self.calls += 1
        return self._real.authenticate(request)


class Recording:
    """An upstream that remembers what it got."""

    def __init__(self) -> None:
        self.got: list[tuple[str, str]] = []

    async def send(self, request: AwsHttpRequest, identity: Identity, route: Route) -> AwsHttpResponse:
        self.got.append((route.api.name, route.operation))
        return AwsHttpResponse(200, {}, b"\xa0" if route.protocol == CBOR else b"{}")

    async def close(self) -> None:
        return None


def edge_with(**upstreams: Upstream) -> Edge:
    return Edge(EdgeSettings(), upstreams, KEYS, time.time)


async def refusal(door: Door, api: str, method: str, **parameters: Any) -> tuple[str, int]:
    with pytest.raises(ClientError) as caught:
        await door.ask(api, method, **parameters)
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


async def test_a_service_in_the_same_process_is_called_without_a_second_verification() -> None:
    counting, clusters = Counting(), Clusters()
    edge = edge_with(scheduler=LocalUpstream(AwsServer([clusters], counting)))
    async with open_door(edge.handle) as door:
        assert await door.ask("ecs", "create_cluster", clusterName="c") == {"cluster": {"clusterName": "c"}}
    assert (counting.calls, clusters.calls[0][0].principal_arn) == (0, KEY.principal_arn)


async def test_a_service_in_another_process_gets_the_request_as_it_came() -> None:
    counting = Counting()
    services = [Clusters(), Kubernetes(), Metrics(), Names(), Roles(), Tokens()]
    server = AwsServer(services, counting)
    headers: list[Any] = []

    async def behind(request: web.Request) -> web.Response:
        headers.append(request.headers)
        return await server.handle(request)

    async with open_door(behind) as hidden:
        upstream = HttpUpstream(hidden.url)
        edge = edge_with(**{owner: upstream for owner in set(OWNERS.values())})
        async with open_door(edge.handle) as door:
            assert await door.ask("ecs", "create_cluster", clusterName="c") == {"cluster": {"clusterName": "c"}}
            assert (await door.ask("sts", "get_caller_identity", SESSION_KEY))["Account"] == KEY.account
            assert (await door.ask("eks", "list_clusters", nextToken="a/b+c d"))["nextToken"] == "a/b+c d"
            data = [{"MetricName": f"m{number}", "Value": 1.0} for number in range(900)]
            assert await door.ask("cloudwatch", "put_metric_data", Namespace="n", MetricData=data) == {}
            assert await refusal(door, "iam", "delete_role", RoleName="x") == ("NoSuchEntity", 404)
            await edge.close()
    assert counting.calls == 5
    assert {one["Host"] for one in headers} == {door.url.removeprefix("http://")}


async def test_a_trace_goes_through() -> None:
    seen: list[str | None] = []

    async def behind(request: web.Request) -> web.Response:
        seen.append(request.headers.get("traceparent"))
        return web.Response(body=b"{}")

    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    async with open_door(behind) as hidden:
        upstream = HttpUpstream(hidden.url)
        async with open_door(edge_with(scheduler=upstream).handle) as door:
            client = door.client("ecs")
            client.meta.events.register(
                "before-sign.ecs", lambda request, **_: request.headers.add_header("traceparent", trace)
            )
            await asyncio.to_thread(client.list_clusters)
        await upstream.close()
    assert seen == [trace]


async def test_a_service_that_is_away_is_unavailable() -> None:
    upstream = HttpUpstream("http://127.0.0.1:9")
    async with open_door(edge_with(scheduler=upstream, kubernetes=upstream, identity=upstream).handle) as door:
        assert await refusal(door, "ecs", "list_clusters") == ("ServiceUnavailable", 503)
        assert await refusal(door, "eks", "list_clusters") == ("ServiceUnavailableException", 503)
        assert await refusal(door, "iam", "list_roles") == ("ServiceUnavailable", 503)
    await upstream.close()


async def test_an_api_that_nobody_serves_is_not_implemented() -> None:
    async with open_door(edge_with(scheduler=Recording()).handle) as door:
        for api, method in (("elbv2", "describe_load_balancers"), ("ecr", "describe_repositories")):
            assert await refusal(door, api, method) == ("NotImplemented", 501)
        with pytest.raises(ClientError, match="Elastic Load Balancing v2 DescribeLoadBalancers is not implemented"):
            await door.ask("elbv2", "describe_load_balancers")


async def test_each_api_goes_to_its_owner() -> None:
    owners = {owner: Recording() for owner in set(OWNERS.values())}
    asked = {
        "apprunner": "list_services",
        "application-autoscaling": "describe_scalable_targets",
        "cloudwatch": "list_metrics",
        "ecr": "describe_repositories",
        "ecs": "list_clusters",
        "logs": "describe_log_groups",
        "secretsmanager": "list_secrets",
        "servicediscovery": "list_services",
        "ssm": "describe_parameters",
    }
    async with open_door(edge_with(**owners).handle) as door:
        for api, method in asked.items():
            extra = {"ServiceNamespace": "ecs"} if api == "application-autoscaling" else {}
            await door.ask(api, method, **extra)
    found = {api: owner for owner, upstream in owners.items() for api, _ in upstream.got}
    assert found == {api.replace("-", "_"): OWNERS[api.replace("-", "_")] for api in asked}


async def test_nobody_passes_without_a_good_signature() -> None:
    upstream = Recording()
    edge = edge_with(scheduler=upstream, identity=upstream)
    unsigned = await edge.dispatch(json_request("ecs", "ListClusters", {}))
    forged = await edge.dispatch(query_request("iam", "Action=ListRoles&Version=2010-05-08"))
    assert (unsigned.status, json.loads(unsigned.body)["__type"]) == (400, "MissingAuthenticationTokenException")
    assert (forged.status, b"<Code>InvalidClientTokenId</Code>" in forged.body) == (403, True)
    nowhere = AwsHttpRequest("GET", "/favicon.ico", "", CIMultiDict(), b"")
    assert (await edge.dispatch(nowhere)).status == 400
    assert upstream.got == []


async def test_a_wrong_secret_and_a_wrong_service_are_refused() -> None:
    upstream = Recording()
    async with open_door(edge_with(scheduler=upstream).handle) as door:
        client = door.client("ecs", SESSION_KEY)
        client._request_signer._signing_name = "ecr"
        with pytest.raises(ClientError, match="Credential should be scoped to correct service: 'ecs'"):
            await asyncio.to_thread(client.list_clusters)
    assert upstream.got == []


async def test_a_presigned_url_is_a_request_too() -> None:
    edge = edge_with(identity=LocalUpstream(AwsServer([Tokens()], Counting())))
    async with open_door(edge.handle) as door:
        url = door.client("sts").generate_presigned_url("get_caller_identity", ExpiresIn=60, HttpMethod="GET")
        body = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=5).read())
    assert b"<Account>123456789012</Account>" in body


async def test_a_visitor_is_told_what_is_served() -> None:
    async with open_door(edge_with(scheduler=Recording()).handle) as door:
        body = await asyncio.to_thread(lambda: urllib.request.urlopen(door.url, timeout=5).read())
    told = json.loads(body)
    assert (told["service"], told["apis"]["ecs"], told["apis"]["ecr"]) == ("roadstead edge", True, False)


def test_settings_name_the_processes() -> None:
    settings = EdgeSettings(upstreams="scheduler=http://a:1/, registry=https://b:2")
    assert settings.upstream_urls() == {"scheduler": "http://a:1", "registry": "https://b:2"}
    assert set(http_upstreams(settings)) == {"scheduler", "registry"}
    with pytest.raises(ValueError, match="is not service=http"):
        EdgeSettings(upstreams="scheduler").upstream_urls()


async def test_an_api_that_its_owner_does_not_serve_yet_is_told_so_and_no_fault() -> None:
    """The monitor is there for the logs; CloudWatch is its own too, and nobody serves it."""
    for service, api, method, parameters in (
        ("monitor", "cloudwatch", "describe_alarms", {}),
        ("identity", "iam", "list_roles", {}),
        ("identity", "secretsmanager", "list_secrets", {}),
        ("identity", "ssm", "get_parameter", {"Name": "n"}),
    ):
        edge = edge_with(**{service: LocalUpstream(AwsServer([Clusters()], SigV4Authenticator(KEYS, time.time)))})
        async with open_door(edge.handle) as door:
            assert await refusal(door, api, method, **parameters) == ("NotImplemented", 501), api
