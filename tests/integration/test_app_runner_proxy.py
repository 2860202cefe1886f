"""HAProxy as the gateway drives it: real processes, real connections, nothing dropped."""

import asyncio
import datetime
import os
import shutil
import ssl
import time

import aiohttp
import pytest
from aiohttp import web

from services.app_runner_gateway.adapters.certificates import Authority
from services.app_runner_gateway.adapters.haproxy import Haproxy, ProxyAway, connections, free_port
from services.app_runner_gateway.adapters.proxy import Proxy
from services.app_runner_gateway.decisions.proxy import CERTIFICATE, Frame, Server
from tests.builders.waiting import until

HOST = "shop.us-east-1.apprunner.localhost"
LATER_S = 30
_CLOSE = aiohttp.ClientWSTimeout(ws_close=LATER_S)

pytestmark = pytest.mark.skipif(Haproxy(os.curdir, "haproxy", lambda: None).missing, reason="haproxy is not installed")


class Upstream:
    """An instance: counts what it has in flight; holds requests to /held until `released`."""

    def __init__(self, name) -> None:
        self.name, self.now, self.most, self.total = name, 0, 0, 0
        self.released = asyncio.Event()

    async def start(self):
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def stop(self):
        await self._runner.cleanup()

    def server(self, most=100, state="ready"):
        return Server("127.0.0.1", self.port, most, state)

    async def _answer(self, request):
        if request.path == "/echo":
            return await self._echo(request)
        self.now += 1
        self.total += 1
        self.most = max(self.most, self.now)
        try:
            if request.path == "/held":
                await self.released.wait()
            told = request.headers.get("traceparent", "")
            status = 503 if request.path == "/unwell" else 200
            return web.Response(
                text=self.name, status=status, headers={"told": told, "proto": request.headers["X-Forwarded-Proto"]}
            )
        finally:
            self.now -= 1

    async def _echo(self, request):
        """A web socket that says everything back."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(f"{self.name}: {message.data}")
        return socket


class Stage:
    """A proxy in a directory, instances, and a client that trusts its authority."""

    def __init__(self, folder) -> None:
        self.folder = folder
        self.upstreams = []
        now = datetime.datetime.now(datetime.UTC)
        self.authority = Authority.open(folder, now)
        self.authority.leaf(folder / CERTIFICATE, [], now)
        self.frame = Frame("127.0.0.1", free_port("127.0.0.1"), 2, min(500, connections()), 1.0, 4, 4)
        self.proxies = []

    async def proxy(self, frame=None):
        proxy = Proxy(self.folder, frame or self.frame, "haproxy")
        await proxy.start()
        self.proxies.append(proxy)
        return proxy

    async def upstream(self, name="a"):
        self.upstreams.append(await Upstream(name).start())
        return self.upstreams[-1]

    def session(self, **options):
        context = ssl.create_default_context(cafile=self.authority.path)
        connector = aiohttp.TCPConnector(ssl=context, resolver=_Here(), limit=0, **options)
        return aiohttp.ClientSession(connector=connector)

    async def visit(self, session, path="/", host=HOST, **headers):
        url = f"https://{host}:{self.frame.port}{path}"
        async with session.get(url, headers=headers) as answer:
            return answer.status, await answer.text(), answer.headers

    async def close(self):
        for upstream in self.upstreams:
            upstream.released.set()
        for proxy in self.proxies[:-1]:
            await proxy.stop(leave=True)
        for proxy in self.proxies[-1:]:
            await proxy.stop()
        for upstream in self.upstreams:
            await upstream.stop()


class _Here(aiohttp.abc.AbstractResolver):
    async def resolve(self, host, port=0, family=0):
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": 2, "proto": 0, "flags": 0}]

    async def close(self):
        pass


@pytest.fixture
async def stage(tmp_path):
    stage = Stage(tmp_path / "gateway")
    try:
        yield stage
    finally:
        await stage.close()


async def load(stage, session, over, answers, path="/"):
    while not over.is_set():
        try:
            answers.append((await stage.visit(session, path))[0])
        except aiohttp.ClientError as error:
            answers.append(repr(error))


async def test_a_host_leads_to_its_instances_and_headers_go_through(stage):
    proxy, one = await stage.proxy(), await stage.upstream()
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    async with stage.session() as session:
        assert (await stage.visit(session))[0] == 404
        await proxy.carry(HOST, {"t1": one.server()}, answers=True)
        status, text, headers = await stage.visit(session, traceparent=trace)
        assert (status, text, headers["told"], headers["proto"]) == (200, "a", trace, "https")
        assert (await stage.visit(session, host="other.us-east-1.apprunner.localhost"))[0] == 404
        await proxy.carry(HOST, {}, answers=False)
        assert (await stage.visit(session))[0] == 404
    await until(lambda: _released(proxy))


async def test_no_host_header_leads_to_a_service_that_does_not_answer(stage):
    proxy, one = await stage.proxy(), await stage.upstream()
    await proxy.carry(HOST, {"t1": one.server()}, answers=False)
    names = (HOST, f"/kept/{HOST}", f"/KEPT/{HOST}", "/slot/b0/s0", "/SLOT/b0/s0")
    async with stage.session() as session:
        assert [(await stage.visit(session, Host=name))[0] for name in names] == [404] * len(names)
    assert one.total == 0


async def _released(proxy):
    await proxy.carry(HOST, {}, answers=False)
    return proxy.hosts() == []


async def test_twenty_changes_under_load_drop_nothing(stage):
    proxy = await stage.proxy()
    both = [await stage.upstream("a"), await stage.upstream("b")]
    await proxy.carry(HOST, {"t0": both[0].server()}, answers=True)
    over, answers = asyncio.Event(), []
    async with stage.session() as session:
        visitors = [asyncio.ensure_future(load(stage, session, over, answers)) for _ in range(8)]
        for number in range(1, 21):
            seen = len(answers)
            old, new = f"t{number - 1}", f"t{number}"
            at = {old: both[(number - 1) % 2], new: both[number % 2]}
            await proxy.carry(
                HOST, {old: at[old].server(state="drain"), new: at[new].server(most=50 + number)}, answers=True
            )
            await until(lambda seen=seen: len(answers) > seen + 10)
            await proxy.carry(HOST, {new: at[new].server(most=50 + number)}, answers=True)
        over.set()
        await asyncio.gather(*visitors)
    assert [a for a in answers if a != 200] == []
    assert min(upstream.total for upstream in both) > 50


async def test_more_instances_than_slots_are_carried_and_nothing_is_dropped(stage):
    proxy, one = await stage.proxy(), await stage.upstream()
    many = lambda count: {f"t{n}": one.server() for n in range(count)}  # noqa: E731
    await proxy.carry(HOST, many(1), answers=True)
    over, answers = asyncio.Event(), []
    async with stage.session() as session:
        visitors = [asyncio.ensure_future(load(stage, session, over, answers)) for _ in range(4)]
        held = asyncio.ensure_future(stage.visit(session, "/held"))
        await until(lambda: one.now and answers)
        for count in (3, 40):
            await proxy.carry(HOST, many(count), answers=True)
        assert len(proxy.carried(HOST)) == 40
        seen = len(answers)
        await until(lambda: len(answers) > seen + 50)
        one.released.set()
        assert (await held)[0] == 200
        over.set()
        await asyncio.gather(*visitors)
    assert set(answers) == {200}
    before = proxy.haproxy.pid
    await proxy.stop(leave=True)
    again = await stage.proxy()  # whose frame is the small one
    assert (again.haproxy.pid, len(again.carried(HOST))) == (before, 40)


async def test_an_instance_never_has_more_than_its_limit_and_the_rest_waits(stage):
    proxy, one, two = await stage.proxy(), await stage.upstream("a"), await stage.upstream("b")
    await proxy.carry(HOST, {"t1": one.server(2)}, answers=True)
    async with stage.session() as session:
        asked = [asyncio.ensure_future(stage.visit(session, "/held")) for _ in range(5)]
        await until(lambda: one.now == 2)
        seen = await until(lambda: _whole(proxy, 5))
        assert (one.most, seen.queued) == (2, 3)
        two.released.set()
        await proxy.carry(HOST, {"t1": one.server(2), "t2": two.server(2)}, answers=True)
        await until(lambda: two.total == 3)
        one.released.set()
        assert [(await a)[0] for a in asked] == [200] * 5
        assert (one.most, two.most <= 2) == (2, True)


async def _whole(proxy, in_flight):
    whole = next((s for s in await proxy.look() if s.backend == proxy.backend(HOST) and not s.server), None)
    return whole if whole is not None and whole.in_flight == in_flight else None


async def test_who_waits_too_long_is_told_to_come_again(stage):
    proxy, one = await stage.proxy(), await stage.upstream()
    await proxy.carry(HOST, {"t1": one.server(1)}, answers=True)
    async with stage.session() as session:
        first = asyncio.ensure_future(stage.visit(session, "/held"))
        await until(lambda: one.now == 1)
        status, _, headers = await stage.visit(session)
        assert (status, headers["Retry-After"]) == (429, "1")
        one.released.set()
        assert (await first)[0] == 200


async def test_who_finds_no_instance_or_none_that_can_be_reached_is_not_told_of_too_many_requests(stage):
    proxy, one = await stage.proxy(), await stage.upstream()
    async with stage.session() as session:
        dead = Server("127.0.0.1", free_port("127.0.0.1"), 100)
        await proxy.carry(HOST, {"t0": dead}, answers=True)
        assert (await stage.visit(session))[0] == 503
        await proxy.carry(HOST, {"t1": one.server(1)}, answers=True)
        assert (await stage.visit(session, "/unwell"))[:2] == (503, "a")
        await proxy.carry(HOST, {}, answers=True)
        assert (await stage.visit(session))[0] == 503


async def test_a_dead_instance_is_passed_over(stage):
    proxy, one = await stage.proxy(), await stage.upstream()
    dead = Server("127.0.0.1", free_port("127.0.0.1"), 100)
    await proxy.carry(HOST, {"t0": dead, "t1": one.server()}, answers=True)
    async with stage.session() as session:
        assert {(await stage.visit(session))[0] for _ in range(10)} == {200}


async def test_requests_are_held_while_the_only_instance_is_replaced(stage):
    proxy = await stage.proxy()
    await proxy.carry(HOST, {"t0": Server("127.0.0.1", free_port("127.0.0.1"), 100)}, answers=True)
    async with stage.session() as session:
        asked = asyncio.ensure_future(stage.visit(session))
        await until(lambda: _whole(proxy, 1))
        one = await stage.upstream()
        await proxy.carry(HOST, {"t1": one.server()}, answers=True)
        assert (await asked)[0] == 200


async def test_what_is_in_flight_on_an_instance_that_drains_is_answered(stage):
    proxy, one, two = await stage.proxy(), await stage.upstream("a"), await stage.upstream("b")
    await proxy.carry(HOST, {"t1": one.server()}, answers=True)
    async with stage.session() as session:
        held = asyncio.ensure_future(stage.visit(session, "/held"))
        await until(lambda: one.now == 1)
        await proxy.carry(HOST, {"t1": one.server(state="drain"), "t2": two.server()}, answers=True)
        assert [(await stage.visit(session))[1] for _ in range(4)] == ["b"] * 4
        await proxy.carry(HOST, {"t2": two.server()}, answers=True)
        one.released.set()
        assert (await held)[:2] == (200, "a")


async def test_the_next_gateway_adopts_what_runs_and_goes_on_from_there(stage):
    first, one, two = await stage.proxy(), await stage.upstream("a"), await stage.upstream("b")
    await first.carry(HOST, {"t1": one.server(), "t2": two.server(state="ready")}, answers=True)
    await first.carry(HOST, {"t1": one.server(), "t2": two.server(state="drain")}, answers=True)
    pid = first.haproxy.pid
    await first.stop(leave=True)
    over, answers = asyncio.Event(), []
    async with stage.session() as session:
        visitor = asyncio.ensure_future(load(stage, session, over, answers))
        second = await stage.proxy()
        assert second.haproxy.pid == pid
        carried = second.carried(HOST)
        assert {name: server.state for name, server in carried.items()} == {"t1": "ready", "t2": "drain"}
        await second.carry(HOST, {"t3": two.server()}, answers=True)
        await until(lambda: two.total > 3)
        over.set()
        await visitor
    assert set(answers) == {200}


async def test_a_killed_haproxy_is_started_again_with_everything_within_a_second(stage):
    proxy, one = await stage.proxy(), await stage.upstream()
    await proxy.carry(HOST, {"t1": one.server()}, answers=True)
    before = proxy.haproxy.pid
    os.kill(before, 9)
    began = time.monotonic()
    async with stage.session(force_close=True) as session:

        async def answers():
            try:
                return (await stage.visit(session))[0] == 200
            except aiohttp.ClientError:
                return False

        await until(answers)
    print(f"answered again after {time.monotonic() - began:.2f} s")
    assert proxy.haproxy.pid != before


async def test_another_frame_takes_over_without_a_dropped_request(stage):
    """More services than there are backends: the next HAProxy gets the sockets of the one before."""
    proxy, one = await stage.proxy(), await stage.upstream()
    await proxy.carry(HOST, {"t1": one.server()}, answers=True)
    over, answers = asyncio.Event(), []
    async with stage.session(force_close=True) as session:
        visitors = [asyncio.ensure_future(load(stage, session, over, answers)) for _ in range(2)]
        await until(lambda: len(answers) > 10)
        for number in range(5):
            host = f"s{number}.us-east-1.apprunner.localhost"
            await proxy.carry(host, {f"x{number}": one.server()}, answers=True)
            assert (await stage.visit(session, host=host))[0] == 200
        over.set()
        await asyncio.gather(*visitors)
    assert set(answers) == {200}
    assert proxy.frame.backends == 8


async def test_a_certificate_for_another_region_comes_into_use_at_once(stage):
    proxy, one = await stage.proxy(), await stage.upstream()
    host = "shop.moon-north-1.apprunner.localhost"
    await proxy.carry(host, {"t1": one.server()}, answers=True)
    async with stage.session(force_close=True) as session:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await stage.visit(session, host=host)
        now = datetime.datetime.now(datetime.UTC)
        assert stage.authority.leaf(stage.folder / CERTIFICATE, ["moon-north-1"], now)
        await proxy.certify()
        assert (await stage.visit(session, host=host))[0] == 200


async def test_a_taken_port_is_told_in_haproxys_words(stage):
    one = await stage.upstream()
    stage.frame = Frame("127.0.0.1", one.port, 1, 100, 1.0, 1)
    proxy = Proxy(stage.folder, stage.frame, "haproxy")
    with pytest.raises(ProxyAway, match="cannot bind"):
        await proxy.start()
    await proxy.stop()


def test_a_missing_haproxy_is_known(tmp_path):
    assert Haproxy(tmp_path, "no-such-haproxy", lambda: None).missing


async def test_a_web_socket_goes_through_and_outlives_its_instance_s_drain(stage):
    proxy, one, two = await stage.proxy(), await stage.upstream("a"), await stage.upstream("b")
    await proxy.carry(HOST, {"t1": one.server()}, answers=True)
    url = f"wss://{HOST}:{stage.frame.port}/echo"
    async with stage.session() as session, session.ws_connect(url, timeout=_CLOSE) as socket:
        await socket.send_str("one")
        assert await socket.receive_str(timeout=LATER_S) == "a: one"
        await proxy.carry(HOST, {"t1": one.server(state="drain"), "t2": two.server()}, answers=True)
        await socket.send_str("two")
        assert await socket.receive_str(timeout=LATER_S) == "a: two"
        async with session.ws_connect(url, timeout=_CLOSE) as another:
            await another.send_str("three")
            assert await another.receive_str(timeout=LATER_S) == "b: three"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_http_2_is_spoken_with_who_wants_it_many_requests_on_one_connection(stage):
    proxy, one = await stage.proxy(), await stage.upstream()
    await proxy.carry(HOST, {"t1": one.server(2)}, answers=True)
    place, port = "http2 %{http_version} %{http_code} %{num_connects}\n", stage.frame.port
    urls = [f"https://{HOST}:{port}/{n}" for n in range(20)]
    curl = await asyncio.create_subprocess_exec(
        "curl", "-sS", "--http2", "--parallel", "--cacert", stage.authority.path,
        "--resolve", f"{HOST}:{port}:127.0.0.1",
        *(part for url in urls for part in ("-o", os.devnull, url)), "-w", place,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    said, _ = await asyncio.wait_for(curl.communicate(), LATER_S)
    told = [line.split() for line in said.decode().splitlines()]
    assert curl.returncode == 0
    assert [line[1:3] for line in told] == [["2", "200"]] * 20
    assert sum(int(line[3]) for line in told) == 1, "one connection for all of them"
    assert (one.total, one.most <= 2) == (20, True)
