"""Webhooks against a real NATS and targets over HTTP."""

import asyncio
import contextlib
import json

import aiohttp
import msgspec
import pytest

from contracts.records.events import WEBHOOK, AwsEvent
from contracts.subjects import AWS_EVENTS_STREAM, aws_event
from services.events.app import EventsApp
from services.events.settings import EventsSettings
from services.shared.runner import Host, HttpServer, start_app, stop_app
from tests.builders.webhooks import Target

ACCOUNT, REGION = "000000000000", "us-east-1"
QUICK = {"retry_s": 0.05, "retry_limit_s": 0.2}


class Stage:
    """A NATS, targets, and an events service that can be killed."""

    def __init__(self, platform, data) -> None:
        self.platform, self.data = platform, data
        self.targets: list[Target] = []
        self._running: list[tuple[EventsApp, HttpServer]] = []
        self._count = 0

    async def service(self, **settings) -> EventsApp:
        host = Host(await self.platform.bus("events"), self.data, instance="e")
        app = EventsApp(host, EventsSettings(**{**QUICK, **settings}))
        server = HttpServer(app)
        server.bind()
        await start_app(app)
        self.base = f"http://127.0.0.1:{await server.start()}"
        self._running.append((app, server))
        return app

    async def kill(self) -> None:
        """As kill -9 does: nothing is told, nothing is finished."""
        app, server = self._running.pop()
        await app.host.bus.close()
        await server.stop()
        await app._targets.close()

    def target(self, *arguments) -> Target:
        self.targets.append(Target(*arguments))
        return self.targets[-1]

    async def ask(self, method, path, body=None, key=True):
        shown = {"Authorization": f"Bearer {(self.data / 'events' / 'door.key').read_text()}"} if key else {}
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, f"{self.base}{path}", json=body, headers=shown) as answer,
        ):
            return answer.status, await answer.json(content_type=None)

    async def webhook(self, target, name="mine", **members):
        status, made = await self.ask("POST", "/webhooks", {"name": name, "url": target.url, **members})
        assert status == 201, made
        return made

    async def told(self, name="mine"):
        _, answer = await self.ask("GET", "/webhooks")
        return next(webhook for webhook in answer["webhooks"] if webhook["name"] == name)

    async def eventually(self, look, condition):
        """What is found, once it is as wanted."""
        async with asyncio.timeout(30):
            while True:
                if condition(found := await look()):
                    return found
                await asyncio.sleep(0.01)

    async def consumers(self, app):
        return (await app.host.bus.api(f"STREAM.INFO.{AWS_EVENTS_STREAM}"))["state"]["consumer_count"]

    async def happens(self, identity, status="RUNNING", account=ACCOUNT):
        """What the scheduler tells."""
        bus = self.bus = getattr(self, "bus", None) or await self.platform.bus("scheduler")
        event = AwsEvent(
            id=identity, detail_type="ECS Task State Change", source="aws.ecs", account=account,
            time="2026-01-01T00:00:00Z", region=REGION, resources=["arn"], detail={"lastStatus": status},
        )  # fmt: skip
        subject = aws_event(account, REGION, event.source, event.detail_type)
        await bus.publish(subject, msgspec.json.encode(event), {"Nats-Msg-Id": identity})

    async def close(self) -> None:
        for target in self.targets:
            target.close()
        for app, server in self._running:
            await server.stop()
            await stop_app(app)


@pytest.fixture
async def stage(nats_platform, tmp_path):
    stage = Stage(nats_platform, tmp_path)
    try:
        yield stage
    finally:
        await stage.close()


def ids(target) -> list[str]:
    return [event["id"] for event in target.taken()]


async def test_what_matches_is_posted_signed_in_eventbridges_form(stage):
    await stage.service()
    target = stage.target()
    made = await stage.webhook(target, pattern={"detail": {"lastStatus": [{"anything-but": "PENDING"}]}})
    await stage.happens("1")
    await stage.happens("2", "PENDING")
    await stage.happens("3", account="111122223333")
    await stage.happens("4", "STOPPED")
    await target.until(lambda: len(target.received) == 2)
    first = next(one for one in target.received if one.event["id"] == "1")
    assert first.event == {
        "version": "0",
        "id": "1",
        "detail-type": "ECS Task State Change",
        "source": "aws.ecs",
        "account": ACCOUNT,
        "time": "2026-01-01T00:00:00Z",
        "region": REGION,
        "resources": ["arn"],
        "detail": {"lastStatus": "RUNNING"},
    }
    assert (first.headers["webhook-id"], first.signed_with(made["secret"])) == ("1", True)
    assert sorted(ids(target)) == ["1", "4"]


async def test_a_delivery_that_fails_is_tried_again_with_the_same_id(stage):
    await stage.service()
    target = stage.target(lambda count: 500 if count < 3 else 200)
    await stage.webhook(target)
    await stage.happens("1")
    await target.until(lambda: bool(target.taken()))
    assert [(one.headers["webhook-id"], one.status) for one in target.received] == [
        ("1", 500), ("1", 500), ("1", 500), ("1", 200)]  # fmt: skip
    told = await stage.told()
    assert (told["delivered"], told["failed"], told["last_error"]) == (1, 3, "")


async def test_a_target_that_is_away_holds_up_nobody_elses(stage):
    await stage.service(timeout_s=20.0)
    away, hangs, well = stage.target(), stage.target(), stage.target()
    away.close()
    hangs.open.clear()
    for name, target in (("away", away), ("hangs", hangs), ("well", well)):
        await stage.webhook(target, name)
    for number in range(40):
        await stage.happens(str(number))
    await well.until(lambda: len(set(ids(well))) == 40)
    assert [(await stage.told(name))["waiting"] for name in ("hangs", "away")] == [40, 40]
    hangs.open.set()
    await hangs.until(lambda: len(set(ids(hangs))) == 40)


async def test_a_killed_deliverer_is_followed_by_one_that_goes_on_where_it_was(stage):
    await stage.service()
    target = stage.target()
    await stage.webhook(target)
    await stage.happens("1")
    await target.until(lambda: ids(target) == ["1"])
    target.open.clear()
    target.asked.clear()
    await stage.happens("2")
    await asyncio.to_thread(target.asked.wait, 30)
    await stage.kill()  # while its target takes its time
    await stage.happens("3")
    target.open.set()
    await stage.service()
    await target.until(lambda: {"2", "3"} <= set(ids(target)))
    await stage.happens("4")
    # What was under way is told again, to be told at all; nothing that was taken before is.
    await target.until(lambda: "4" in ids(target) and ids(target).count("2") == 2, 60)
    assert (ids(target).count("1"), ids(target).count("3")) == (1, 1)


async def test_an_event_that_nobody_takes_for_too_long_is_given_up_and_told_as_such(stage):
    app = await stage.service(give_up_s=0.0)
    target = stage.target(lambda count: 503)
    await stage.webhook(target)
    await stage.happens("1")
    await target.until(lambda: len(target.received) == 1)
    told = await stage.eventually(stage.told, lambda told: told["given_up"])
    assert (told["waiting"], told["last_error"]) == (0, "it answered 503")
    exposed = app.host.metrics.expose().decode()
    assert 'roadstead_webhook_deliveries_total{outcome="given_up",webhook="mine"} 1.0' in exposed


async def test_a_webhook_that_is_removed_hears_nothing_more_and_leaves_nothing(stage):
    app = await stage.service()
    target = stage.target()
    await stage.webhook(target)
    await stage.eventually(lambda: stage.consumers(app), lambda count: count == 1)
    assert await stage.ask("DELETE", f"/webhooks/{ACCOUNT}/{REGION}/mine") == (
        200, {"account": ACCOUNT, "region": REGION, "name": "mine", "url": target.url, "pattern": {},
              "created_at": pytest.approx(0, abs=1e12), "waiting": 0, "delivered": 0, "failed": 0, "given_up": 0,
              "last_error": "", "secret": ""})  # fmt: skip
    await stage.eventually(lambda: stage.consumers(app), lambda count: count == 0)
    await stage.happens("1")
    assert (await stage.ask("GET", "/webhooks"), target.received) == ((200, {"webhooks": []}), [])


async def test_the_door_takes_its_key_and_says_what_is_wrong(stage):
    app = await stage.service()
    target = stage.target()
    made = await stage.webhook(target)
    wanted = {"name": "mine", "url": target.url}
    assert (await stage.ask("POST", "/webhooks", wanted, key=False))[0] == 401
    assert (await stage.ask("DELETE", f"/webhooks/{ACCOUNT}/{REGION}/mine", key=False))[0] == 401
    assert await stage.ask("POST", "/webhooks", wanted) == (
        409, {"message": "there is a webhook mine in 000000000000, us-east-1 already"})  # fmt: skip
    assert await stage.ask("POST", "/webhooks", {**wanted, "url": "nowhere"}) == (
        400, {"message": "url must be one of http or https, of at most 2048 characters"})  # fmt: skip
    assert (await stage.ask("DELETE", f"/webhooks/{ACCOUNT}/{REGION}/other"))[0] == 404
    (stored,) = app._store.table(WEBHOOK).records()
    assert made["secret"].removeprefix("whsec_") not in msgspec.json.encode(stored).decode()
    assert (await stage.told())["secret"] == ""


async def test_events_are_shown_as_lines_and_followed(stage):
    await stage.service()
    for number, status in enumerate(("RUNNING", "STOPPED", "RUNNING")):
        await stage.happens(str(number), status)
    query = {"limit": "5", "follow": "", "pattern": json.dumps({"detail": {"lastStatus": ["RUNNING"]}})}
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{stage.base}/events", params=query) as answer,
        asyncio.timeout(30),
    ):
        lines = [json.loads(await answer.content.readline())["id"] for _ in range(2)]
        await stage.happens("3", "STOPPED")
        await stage.happens("4")
        lines.append(json.loads(await answer.content.readline())["id"])
    assert lines == ["0", "2", "4"]
    assert await stage.ask("GET", "/events?pattern=[1]") == (
        400, {"message": "pattern: Event pattern is not valid. Reason: it must be a JSON object"})  # fmt: skip
    assert (await stage.ask("GET", "/events?limit=x"))[0] == 400


async def test_a_reader_that_went_away_leaves_nothing(stage, monkeypatch):
    monkeypatch.setattr("services.events.routes.LOOK_S", 0.05)
    app = await stage.service()
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{stage.base}/events", params={"follow": "", "limit": "0"}),
    ):
        await stage.eventually(lambda: stage.consumers(app), lambda count: count == 1)
    await stage.eventually(lambda: stage.consumers(app), lambda count: count == 0)


async def test_two_copies_of_the_service_share_the_work(stage):
    await stage.service()
    await stage.service()
    target = stage.target()
    await stage.webhook(target)
    for number in range(30):
        await stage.happens(str(number))
    await target.until(lambda: len(set(ids(target))) == 30)
    with contextlib.suppress(TimeoutError):
        await target.until(lambda: len(target.received) > 30, 0.5)
    assert len(target.received) == 30
