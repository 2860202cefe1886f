"""Requests without a client: what boto3 would never send."""

from __future__ import annotations

from typing import Any

import msgspec
from multidict import CIMultiDict

from contracts.aws.index import INDEX
from services.shared.aws.http import AwsHttpRequest, AwsHttpResponse
from services.shared.aws.server import AwsServer
from tests.unit.shared_aws.door import IDENTITY


def json_request(api: str, operation: str, body: Any) -> AwsHttpRequest:
    """An AWS JSON request; a body of bytes is sent as it is."""
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    headers = CIMultiDict({"X-Amz-Target": f"{INDEX[api].target_prefix}.{operation}"})
    return AwsHttpRequest("POST", "/", "", headers, content)


def query_request(api: str, form: str) -> AwsHttpRequest:
    """A query request; its scope names the API, its signature is nonsense."""
    credential = f"AKIA/20261123/eu-west-1/{INDEX[api].signing_name}/aws4_request"
    headers = CIMultiDict(
        {
            "Authorization": f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host;x-amz-date, Signature=00",
            "X-Amz-Date": "20261123T120000Z",
            "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
        }
    )
    return AwsHttpRequest("POST", "/", "", headers, form.encode())


async def answer(server: AwsServer, request: AwsHttpRequest) -> AwsHttpResponse:
    """The server's answer to a request that needs no verification any more."""
    return await server.dispatch(request, IDENTITY)


async def json_answer(server: AwsServer, api: str, operation: str, body: Any) -> tuple[int, Any]:
    """Status and decoded body."""
    response = await answer(server, json_request(api, operation, body))
    return response.status, msgspec.json.decode(response.body) if response.body else None
