"""Asking a hook's target over HTTP, and what goes wrong there."""

from __future__ import annotations

import asyncio
import socket

import pytest
from aiohttp import web

from services.scheduler.adapters import HttpHooks
from services.scheduler.ports import HookAway

STATES = {"good": {"hookStatus": "SUCCEEDED"}, "much": "x" * 70_000}


@pytest.fixture
async def target():
    """The start of a URL under which each name answers in its own way."""
    over = asyncio.Event()

    async def handle(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name.isdigit():
            return web.Response(status=int(name), headers={"Location": "/good"})
        if name == "slow":
            await over.wait()
        if name == "text":
            return web.Response(text="fine")
        if name == "echo":
            return web.json_response({"asked": await request.json(), "type": request.content_type})
        return web.json_response(STATES.get(name))

    app = web.Application()
    app.add_routes([web.post("/{name}", handle)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    over.set()
    await runner.cleanup()


@pytest.mark.parametrize(
    ("name", "answer"), [("good", STATES["good"]), ("text", None), ("much", None), ("302", None), ("404", None)]
)
async def test_what_is_no_json_too_much_elsewhere_or_refused_is_no_answer(target, name, answer):
    assert await HttpHooks(5.0).ask(f"{target}/{name}", {}) == answer


async def test_the_payload_is_posted_as_json(target):
    answer = await HttpHooks(5.0).ask(f"{target}/echo", {"lifecycleStage": "POST_SCALE_UP"})
    assert answer == {"asked": {"lifecycleStage": "POST_SCALE_UP"}, "type": "application/json"}


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_a_target_that_is_overloaded_is_away(target, status):
    with pytest.raises(HookAway, match=str(status)):
        await HttpHooks(5.0).ask(f"{target}/{status}", {})


async def test_a_target_that_does_not_answer_in_time_or_is_not_there_is_away(target):
    with pytest.raises(HookAway):
        await HttpHooks(0.2).ask(f"{target}/slow", {})
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        with pytest.raises(HookAway):
            await HttpHooks(5.0).ask(f"http://127.0.0.1:{held.getsockname()[1]}/", {})
    with pytest.raises(HookAway):
        await HttpHooks(5.0).ask("http://nowhere.invalid/", {})
