"""The bus, as far as it needs no NATS."""

import asyncio
from types import SimpleNamespace

import msgspec
import pytest
from nats.aio.msg import Msg
from structlog.testing import capture_logs

from contracts.rpc.command import Command
from services.shared.bus import Bus, CommandRefused
from services.shared.errors import StateUnavailable


class Question(msgspec.Struct):
    """A command's request."""


class Reply(msgspec.Struct):
    """And its reply."""

    text: str


QUESTION = Command("registry", "question", Question, Reply)


async def test_a_cancellation_that_comes_with_the_reply_is_not_forgotten(monkeypatch):
    bus = Bus("scheduler")
    bus.connected.set()

    async def forgets(*arguments, **members):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "the reply"

    monkeypatch.setattr(bus.client, "request", forgets)
    asking = asyncio.create_task(bus.request("a.subject"))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_what_was_asked_over_a_connection_that_is_lost_fails_at_once(monkeypatch):
    bus = Bus("scheduler")
    bus.connected.set()

    async def never(*arguments, **members):
        await asyncio.Event().wait()

    monkeypatch.setattr(bus.client, "request", never)
    asking = asyncio.create_task(bus.request("a.subject", timeout=3600))
    await asyncio.sleep(0)
    await bus._on_disconnected()
    with pytest.raises(StateUnavailable):
        await asyncio.wait_for(asking, 30)


async def test_a_question_that_died_with_whom_it_was_put_to_is_put_again(monkeypatch):
    bus = Bus("agent")
    bus.connected.set()
    asked = []

    async def second(*arguments, **members):
        asked.append(arguments[0])
        if len(asked) == 1:
            await asyncio.Event().wait()
        return Msg(bus.client, data=msgspec.json.encode(Reply("yes")))

    monkeypatch.setattr(bus.client, "request", second)
    assert await bus.call_again(QUESTION, Question(), within_s=60, every_s=0.01) == Reply("yes")
    assert asked == ["rpc.registry.question"] * 2


async def test_one_that_stays_away_is_given_up_and_one_that_refuses_is_not_asked_again(monkeypatch):
    bus = Bus("agent")
    with pytest.raises(StateUnavailable):
        await bus.call_again(QUESTION, Question(), within_s=0)
    bus.connected.set()
    asked = []

    async def refuses(*arguments, **members):
        asked.append(arguments[0])
        return Msg(bus.client, headers={"Nats-Service-Error-Code": "No", "Nats-Service-Error": "never"})

    monkeypatch.setattr(bus.client, "request", refuses)
    with pytest.raises(CommandRefused):
        await bus.call_again(QUESTION, Question(), within_s=60)
    assert len(asked) == 1


async def test_a_background_task_that_fails_is_told_of_when_it_fails():
    async def work():
        raise ValueError("no such thing")

    with capture_logs() as told:
        task = Bus.spawn(SimpleNamespace(service="monitor", _tasks=set()), work(), "alarms")
        await asyncio.wait([task])
        await asyncio.sleep(0)
    assert [(line["event"], line["task"]) for line in told] == [("task.failed", "monitor.alarms")]
