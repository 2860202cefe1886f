"""Between aiohttp's requests and responses and ours."""

from __future__ import annotations

import zlib

import msgspec
from aiohttp import web

from services.shared.aws.http import AwsHttpRequest, AwsHttpResponse
from services.shared.errors import AwsError, SerializationFailure

#: The largest body read, in bytes: an ECR layer part is 20 MiB before base64.
MAX_BODY = 32 * 1024 * 1024


async def read_request(request: web.BaseRequest, limit: int = MAX_BODY) -> AwsHttpRequest:
    """The whole request. Raises AwsError RequestEntityTooLarge (413) when the body has more than `limit` bytes."""
    body = await _read_body(request, limit) if request.body_exists else b""
    path, _, query = request.raw_path.partition("?")
    return AwsHttpRequest(request.method, path, query, request.headers, body, request.remote or "")


async def _read_body(request: web.BaseRequest, limit: int) -> bytes:
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    content = request.content
    body = await content.readany()
    if content.at_eof():
        return body
    chunks, size = [body], len(body)
    while chunk := await content.readany():
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
    return b"".join(chunks)


def _too_large(limit: int) -> AwsError:
    return AwsError("RequestEntityTooLarge", f"The request body has more than {limit} bytes.", 413)


def to_web_response(response: AwsHttpResponse) -> web.Response:
    """The response as aiohttp sends it."""
    return web.Response(status=response.status, headers=response.headers, body=response.body)


def inflate(request: AwsHttpRequest, limit: int = MAX_BODY) -> AwsHttpRequest:
    """The request with its body decompressed if it says gzip (cloudwatch PutMetricData does when it is large)."""
    if request.headers.get("Content-Encoding") != "gzip":
        return request
    try:
        stream = zlib.decompressobj(16 + zlib.MAX_WBITS)
        body = stream.decompress(request.body, limit)
    except zlib.error as error:
        raise SerializationFailure(f"The request body is not gzip: {error}") from None
    if stream.unconsumed_tail:
        raise _too_large(limit)
    return msgspec.structs.replace(request, body=body)
