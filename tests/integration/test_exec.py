"""A session of ExecuteCommand between the edge's WebSocket and the agent, over a real NATS with each one's grants."""

import asyncio
import hashlib

import aiohttp
import msgspec
import pytest
from aiohttp import web

from contracts.records.exec import ExecAnswer, ExecOpen
from contracts.subjects import exec_open
from services.agent.execs import Sessions
from services.agent.ports import ContainerSpec, Image, SandboxSpec
from services.edge.data_channel import DataChannels
from services.shared.errors import StateUnavailable
from tests.builders.data_channel import Channel
from tests.fakes.runtime import FakeRuntime


class Stage:
    """A node with one container that runs, an edge, a scheduler's pen."""

    def __init__(self, platform) -> None:
        self._platform = platform
        self.runtime = FakeRuntime()

    async def open(self) -> None:
        sandbox = await self.runtime.create_sandbox(SandboxSpec("t1"))
        image = Image("app", "sha256:0", 1)
        await self.runtime.run_container(sandbox, ContainerSpec("t1-0", "main", image))
        self.scheduler = await self._platform.bus("scheduler")
        self.agent, self.edge = await self._platform.bus("agent"), await self._platform.bus("edge")
        self.sessions = Sessions(self.agent, self.runtime, "n1", self.find, lambda: 1000.0)
        await self.sessions.start()
        await self.agent.client.flush()
        self.channels = DataChannels(self.edge, alive_s=0.3)
        self._http = web.ServerRunner(web.Server(self.channels.handle))
        await self._http.setup()
        site = web.TCPSite(self._http, "127.0.0.1", 0)
        await site.start()
        self.port = self._http.addresses[0][1]
        self.client = aiohttp.ClientSession()

    async def close(self) -> None:
        await self.client.close()
        await self.sessions.stop()
        await self.channels.close()
        await self._http.cleanup()

    def find(self, wanted: ExecOpen) -> str:
        return "t1-0" if (wanted.task, wanted.container) == ("t1", "main") else ""

    async def expect(self, session: str = "s1", *, container: str = "main", node: str = "n1", **members) -> str:
        """As the scheduler does; the refusal."""
        digest = hashlib.sha256(b"secret").hexdigest()
        where = {"account": "0", "region": "r", "cluster": "c", "task": "t1", "container": container}
        wanted = ExecOpen(session=session, token_digest=digest, **where, argv=["sh"], tty=True, **members)
        reply = await self.scheduler.request(exec_open(node), msgspec.json.encode(wanted))
        return msgspec.json.decode(reply.data, type=ExecAnswer).refusal

    async def attach(self, session: str = "s1", token: str = "secret", node: str = "n1") -> Channel:
        url = f"ws://127.0.0.1:{self.port}/v1/data-channel/{session}?role=x&node={node}"
        return await Channel.open(self.client, {"streamUrl": url, "tokenValue": token})


@pytest.fixture
async def stage(nats_platform):
    stage = Stage(nats_platform)
    try:
        await stage.open()
        yield stage
    finally:
        await stage.close()


async def test_what_is_said_comes_back_and_the_exit_code_ends_it(stage):
    assert await stage.expect() == ""
    channel = await (await stage.attach()).shaken()
    await channel.until(b"sh")
    await channel.resize(100, 30)
    await channel.say(b"hello")
    await channel.until(b"100x30hello")
    await channel.say(b"exit")
    assert (await channel.end())["ExitCode"] == 7
    assert stage.runtime.commands[0].closed


async def test_a_wrong_token_is_refused_and_the_right_one_still_good(stage):
    await stage.expect()
    wrong = await stage.attach(token="guessed")
    assert (await wrong.end(), wrong.close_code) == (None, 1008)
    await (await stage.attach()).shaken()


async def test_a_token_is_good_once(stage):
    await stage.expect()
    first = await (await stage.attach()).shaken()
    second = await stage.attach()
    assert (await second.end(), second.close_code) == (None, 1008)
    await first.say(b"still here")
    await first.until(b"still here")


async def test_a_token_is_not_good_for_long(stage):
    await stage.expect(expires_in_s=0.05)
    async with asyncio.timeout(30):
        while stage.sessions._running:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    late = await stage.attach()
    assert (await late.end(), late.close_code) == (None, 1008)


@pytest.mark.parametrize("session", ["nosuch", "a.b", "*", ">", "A", ""])
async def test_a_session_that_is_none_has_no_channel(stage, session):
    await stage.expect()
    try:
        channel = await stage.attach(session)
    except aiohttp.WSServerHandshakeError as error:
        assert error.status == 404
    else:
        assert (await channel.end(), channel.close_code, session) == (None, 1008, "nosuch")


@pytest.mark.parametrize("node", ["n2", "*", ">", "n1.s1"])
async def test_who_names_another_node_finds_nobody_who_expects_it(stage, node):
    await stage.expect()
    lost = await stage.attach(node=node)
    assert (await lost.end(), lost.close_code) == (None, 1008)
    await (await stage.attach()).shaken()


async def test_an_address_without_a_node_is_none(stage):
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await stage.attach(node="")
    assert refused.value.status == 404


async def test_who_is_no_websocket_is_told_so(stage):
    async with stage.client.get(f"http://127.0.0.1:{stage.port}/v1/data-channel/s1?node=n1") as answer:
        assert answer.status == 400


async def test_a_container_that_is_not_there_is_refused_and_so_is_a_node(stage):
    assert "does not run" in await stage.expect(container="other")
    with pytest.raises(StateUnavailable):
        await stage.expect(node="n2")


async def test_the_command_ends_with_its_client(stage):
    await stage.expect()
    channel = await (await stage.attach()).shaken()
    await channel.until(b"sh")
    await channel.leave()
    async with asyncio.timeout(30):
        while not stage.runtime.commands[0].closed:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_the_channel_ends_with_its_container(stage):
    await stage.expect()
    channel = await (await stage.attach()).shaken()
    await channel.until(b"sh")
    await stage.runtime.stop_container("t1-0", 0)
    assert (await channel.end())["ExitCode"] == 137


async def test_the_channel_ends_when_the_agent_is_gone_without_a_word(stage):
    await stage.expect()
    channel = await (await stage.attach()).shaken()
    await stage.agent.client.close()
    assert await channel.end() is None
