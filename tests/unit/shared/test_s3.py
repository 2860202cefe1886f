"""What the client of S3 does with a server that is away, slow, wrong, or breaks off: one that does so on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from services.shared.s3 import S3Away, S3Client, S3Denied, S3Full, S3NotFound, S3Refused, S3Settings, S3Taken
from services.shared.settings import SettingsError

DATA = bytes(range(256)) * 4096
Script = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Answers requests with what the script says, one after the other; the last one for all that follow."""

    def __init__(self, *script: Script) -> None:
        self.script = list(script)
        self.heard: list[web.Request] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.heard.append(request)
        await request.read()
        return await (self.script.pop(0) if len(self.script) > 1 else self.script[0])(request)


def error(status: int, code: str = "") -> Script:
    async def answer(request: web.Request) -> web.Response:
        body = f"<Error><Code>{code}</Code><Message>because</Message></Error>" if code else ""
        return web.Response(status=status, text=body, content_type="application/xml")

    return answer


def said(body: str = "", **headers: str) -> Script:
    async def answer(request: web.Request) -> web.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(text=body, headers=named, content_type="application/xml")

    return answer


def broken(after: int, etag: str = '"1"') -> Script:
    """The object from where it was asked for, broken off after so many bytes."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.headers.get("If-Match", etag) != etag:
            return web.Response(status=412)
        first = int(request.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        headers = {"ETag": etag, "Content-Range": f"bytes {first}-{len(DATA) - 1}/{len(DATA)}"}
        response = web.StreamResponse(status=206 if "Range" in request.headers else 200, headers=headers)
        response.content_length = len(DATA) - first
        await response.prepare(request)
        await response.write(DATA[first : first + after])
        if after < len(DATA) - first:
            request.transport.close()
        return response

    return answer


@pytest.fixture
async def serve(monkeypatch):
    """A bucket of a server with this script."""
    monkeypatch.setattr("services.shared.s3.transport._FIRST_PAUSE_S", 0.001)
    runners, clients = [], []

    async def start(server: Server, **settings):
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", server.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        runners.append(runner)
        port = site._server.sockets[0].getsockname()[1]
        keys = {"access_key_id": "id", "secret_access_key": "secret"}
        clients.append(S3Client(S3Settings(endpoint=f"http://127.0.0.1:{port}", **keys, **settings)))
        return clients[-1].bucket("shop")

    yield start
    for client in clients:
        await client.close()
    for runner in runners:
        await runner.cleanup()


@pytest.mark.parametrize("first", [error(500, "InternalError"), error(503, "SlowDown"), error(429), error(502)])
async def test_a_server_that_is_busy_is_asked_again(serve, first):
    server = Server(first, first, said(ETag='"1"'))
    bucket = await serve(server)
    assert await bucket.put("key", b"data") == '"1"'
    assert [request.method for request in server.heard] == ["PUT"] * 3


async def test_a_server_that_stays_away_is_given_up(serve):
    server = Server(error(503, "ServiceUnavailable"))
    bucket = await serve(server, attempts=3)
    with pytest.raises(S3Away, match="503 ServiceUnavailable: because"):
        await bucket.read("key")
    with pytest.raises(S3Away):
        await bucket.head("key")
    assert len(server.heard) == 6


async def test_a_server_that_says_nothing_is_not_waited_for_for_ever(serve):
    over = asyncio.Event()

    async def silent(request: web.Request) -> web.StreamResponse:
        await over.wait()
        return web.Response()

    bucket = await serve(Server(silent), attempts=2, timeout_s=0.05)
    with pytest.raises(S3Away, match="can't be reached"):
        await bucket.put("key", b"data")
    over.set()


@pytest.mark.parametrize(
    "answer, kind",
    [
        (error(404, "NoSuchKey"), S3NotFound),
        (error(403, "AccessDenied"), S3Denied),
        (error(412, "PreconditionFailed"), S3Taken),
        (error(507), S3Full),
        (error(400, "XMinioStorageFull"), S3Full),
        (error(501, "NotImplemented"), S3Refused),
        (error(400, "EntityTooLarge"), S3Refused),
    ],
)
async def test_what_does_not_change_is_asked_once(serve, answer, kind):
    server = Server(answer)
    bucket = await serve(server)
    with pytest.raises(kind):
        await bucket.put("key", b"data")
    assert len(server.heard) == 1


async def test_content_that_breaks_off_is_gone_on_with(serve):
    server = Server(broken(300_000), broken(0), broken(200_000), broken(len(DATA)))
    bucket = await serve(server)
    assert await bucket.read("key") == DATA
    asked = [(request.headers.get("Range"), request.headers.get("If-Match")) for request in server.heard]
    assert asked[0] == (None, None)
    assert {condition for _, condition in asked[1:]} == {'"1"'}
    starts = [int(ranged.removeprefix("bytes=").partition("-")[0]) for ranged, _ in asked[1:]]
    assert starts == sorted(starts) and starts[-1] > 300_000
    assert all(ranged.endswith(f"-{len(DATA) - 1}") for ranged, _ in asked[1:])


async def test_content_that_is_another_by_then_is_not_mixed(serve):
    bucket = await serve(Server(broken(300_000), broken(len(DATA), etag='"2"')))
    with pytest.raises(S3Taken):
        await bucket.read("key")


async def test_content_that_breaks_off_again_and_again_is_given_up(serve):
    bucket = await serve(Server(broken(10), broken(0)), attempts=3)
    with pytest.raises(S3Away, match="broke off"):
        await bucket.read("key")


async def test_an_error_behind_a_200_is_an_error(serve):
    failed = said("<Error><Code>InternalError</Code><Message>late</Message></Error>")
    bucket = await serve(Server(failed))
    with pytest.raises(S3Away, match="late"):
        await bucket.complete("key", "upload", [])
    with pytest.raises(S3Away, match="late"):
        await bucket.copy(bucket, "key", "other", 1)


async def test_what_a_batch_could_not_delete_is_told(serve):
    left = said(
        "<DeleteResult><Error><Key>b</Key><Code>AccessDenied</Code><Message>no</Message></Error></DeleteResult>"
    )
    bucket = await serve(Server(left))
    with pytest.raises(S3Denied, match="b can't be deleted: no"):
        await bucket.delete_many(["a", "b"])


@pytest.mark.parametrize(
    "wrong", [{"endpoint": "localhost:8333"}, {"endpoint": "http://h/path"}, {"access_key_id": ""}]
)
def test_settings_that_do_not_do_are_told_at_once(wrong):
    with pytest.raises(SettingsError):
        S3Client(S3Settings(**{"access_key_id": "id", "secret_access_key": "secret", **wrong}))


async def test_a_bucket_may_be_part_of_the_host(serve):
    client = S3Client(S3Settings(access_key_id="id", secret_access_key="s", addressing="virtual", region="eu-west-1"))
    assert client.bucket("shop").url("a b", 60).startswith("https://shop.s3.eu-west-1.amazonaws.com/a%20b?X-Amz-")
