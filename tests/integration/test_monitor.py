"""CloudWatch Logs and traces over a real NATS, asked by boto3."""

import asyncio
import time

import aiohttp
import boto3
import msgspec
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from contracts.records.logs import LogBatch, LogEvent
from contracts.subjects import log_stream
from services.identity.adapters import read_credentials
from services.identity.app import CREDENTIALS_FILE, IdentityApp
from services.identity.settings import IdentitySettings
from services.monitor.app import MonitorApp
from services.monitor.settings import MonitorSettings
from services.shared import telemetry
from services.shared.runner import Host, HttpServer, start_app, stop_app

NOW = int(time.time() * 1000)


class Caller:
    """boto3's logs client, called from a thread."""

    def __init__(self, port, credentials) -> None:
        self.port = port
        self._client = boto3.client(
            "logs",
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name="us-east-1",
            aws_access_key_id=credentials.access_key_id,
            aws_secret_access_key=credentials.secret,
            config=Config(retries={"total_max_attempts": 1}),
        )

    async def __call__(self, operation, **members):
        return await asyncio.to_thread(getattr(self._client, operation), **members)

    async def refused(self, operation, **members):
        with pytest.raises(ClientError) as error:
            await self(operation, **members)
        return error.value.response["Error"]["Code"]

    async def write(self, *messages, group="/shop", stream="web", at=NOW):
        events = [{"timestamp": at + n, "message": m} for n, m in enumerate(messages)]
        return await self("put_log_events", logGroupName=group, logStreamName=stream, logEvents=events)

    async def messages(self, **members):
        page = await self("get_log_events", logGroupName="/shop", logStreamName="web", **members)
        return [e["message"] for e in page["events"]], page["nextForwardToken"], page["nextBackwardToken"]


@pytest.fixture
async def logs(nats_platform, tmp_path):
    identity = IdentityApp(Host(await nats_platform.bus("identity"), tmp_path, instance="t"), IdentitySettings())
    await start_app(identity)
    app = MonitorApp(Host(await nats_platform.bus("monitor"), tmp_path, instance="t"), MonitorSettings())
    await start_app(app)
    server = HttpServer(app)
    yield Caller(await server.start(), read_credentials(tmp_path / CREDENTIALS_FILE))
    await server.stop()
    await stop_app(app)
    await stop_app(identity)


@pytest.fixture
async def shop(logs):
    """A group /shop with a stream web."""
    await logs("create_log_group", logGroupName="/shop")
    await logs("create_log_stream", logGroupName="/shop", logStreamName="web")
    return logs


async def test_pages_go_forward_to_an_end_where_the_token_stays_the_same(shop):
    await shop.write(*"abcde")
    first, forward, _ = await shop.messages(startFromHead=True, limit=3)
    second, forward, _ = await shop.messages(nextToken=forward, limit=3)
    third, end, _ = await shop.messages(nextToken=forward)
    assert (first, second, third) == (list("abc"), list("de"), [])
    assert end == forward
    await shop.write("f")
    assert (await shop.messages(nextToken=end))[0] == ["f"]


async def test_pages_go_backward_from_the_newest_events(shop):
    for text in "abcde":
        await shop.write(text)
    newest, forward, backward = await shop.messages(limit=2)
    older, _, backward = await shop.messages(nextToken=backward, limit=2)
    oldest, _, backward = await shop.messages(nextToken=backward, limit=2)
    nothing, _, same = await shop.messages(nextToken=backward, limit=2)
    assert (newest, older, oldest, nothing) == (["d", "e"], ["b", "c"], ["a"], [])
    assert same == backward
    assert (await shop.messages(nextToken=forward))[0] == []


async def test_a_time_range_has_its_start_and_not_its_end(shop):
    await shop.write(*"abcd")
    assert (await shop.messages(startTime=NOW + 1, endTime=NOW + 3))[0] == ["b", "c"]
    assert (await shop.messages(startTime=NOW + 1, endTime=NOW + 3, startFromHead=True))[0] == ["b", "c"]


async def test_a_thousand_batches_are_read_in_order(shop, nats_platform):
    agent = await nats_platform.bus("agent")
    subject = log_stream("000000000000", "us-east-1", "/shop", "web")
    for n in range(600):
        batch = LogBatch(events=[LogEvent(NOW + n, f"{n}a"), LogEvent(NOW + n, f"{n}b")], ingested_at=NOW)
        await agent.tell(subject, msgspec.json.encode(batch))
    await agent.client.flush()
    wanted = [f"{n}{half}" for n in range(600) for half in "ab"]
    assert (await shop.messages(startFromHead=True))[0] == wanted
    assert (await shop.messages(limit=1000))[0] == wanted[-1000:]


async def test_streams_that_containers_write_exist_by_being_written(logs, nats_platform):
    agent = await nats_platform.bus("agent")
    batch = LogBatch(events=[LogEvent(5, "first"), LogEvent(9, "last")], ingested_at=11)
    subject = log_stream("000000000000", "us-east-1", "/ecs/shop.v1", "web/app/1")
    await agent.publish(subject, msgspec.json.encode(batch))
    groups = (await logs("describe_log_groups"))["logGroups"]
    assert [(g["logGroupName"], g["creationTime"]) for g in groups] == [("/ecs/shop.v1", 11)]
    (stream,) = (await logs("describe_log_streams", logGroupName="/ecs/shop.v1"))["logStreams"]
    assert (stream["logStreamName"], stream["firstEventTimestamp"], stream["lastEventTimestamp"]) == ("web/app/1", 5, 9)
    page = await logs("get_log_events", logGroupName="/ecs/shop.v1", logStreamName="web/app/1")
    assert [e["message"] for e in page["events"]] == ["first", "last"]
    code = await logs.refused("create_log_group", logGroupName="/ecs/shop.v1")
    assert code == "ResourceAlreadyExistsException"


async def test_what_does_not_exist_and_what_already_does_are_errors(shop):
    missing = {"logGroupName": "/nosuch", "logStreamName": "web"}
    assert await shop.refused("get_log_events", **missing) == "ResourceNotFoundException"
    assert await shop.refused("create_log_stream", **missing) == "ResourceNotFoundException"
    events = [{"timestamp": NOW, "message": "x"}]
    assert await shop.refused("put_log_events", **missing, logEvents=events) == "ResourceNotFoundException"
    again = {"logGroupName": "/shop", "logStreamName": "web"}
    assert await shop.refused("create_log_stream", **again) == "ResourceAlreadyExistsException"
    assert await shop.refused("get_log_events", **again, nextToken="x") == "InvalidParameterException"


async def test_a_search_finds_terms_over_streams_in_the_order_of_time(shop):
    await shop("create_log_stream", logGroupName="/shop", logStreamName="db")
    await shop.write("GET ok", "GET ERROR one", at=NOW + 10)
    await shop.write("ERROR two", "quiet", stream="db")

    async def search(**members):
        page = await shop("filter_log_events", logGroupName="/shop", **members)
        return [(e["logStreamName"], e["message"]) for e in page["events"]]

    assert await search(filterPattern="ERROR") == [("db", "ERROR two"), ("web", "GET ERROR one")]
    assert await search(filterPattern='"GET ERROR" -two') == [("web", "GET ERROR one")]
    assert await search(logStreamNamePrefix="d", filterPattern="?quiet ?ERROR") == [
        ("db", "ERROR two"),
        ("db", "quiet"),
    ]
    assert await shop.refused("filter_log_events", logGroupName="/shop", filterPattern="{$.a=1}") == (
        "InvalidParameterException"
    )
    page = await shop("filter_log_events", logGroupName="/shop", limit=3)
    rest = await shop("filter_log_events", logGroupName="/shop", limit=3, nextToken=page["nextToken"])
    assert (len(page["events"]), len(rest["events"]), "nextToken" in rest) == (3, 1, False)


async def test_events_that_are_too_old_or_too_new_are_told_and_not_written(shop):
    day = 24 * 3600 * 1000
    stamps = [NOW - 15 * day, NOW, NOW + day]
    answer = await shop(
        "put_log_events",
        logGroupName="/shop",
        logStreamName="web",
        logEvents=[{"timestamp": t, "message": str(n)} for n, t in enumerate(stamps)],
    )
    assert answer["rejectedLogEventsInfo"] == {"tooNewLogEventStartIndex": 2, "tooOldLogEventEndIndex": 1}
    assert (await shop.messages())[0] == ["1"]


async def test_a_deleted_group_is_gone_with_its_events(shop):
    await shop.write("a")
    await shop("delete_log_group", logGroupName="/shop")
    assert (await shop("describe_log_groups"))["logGroups"] == []
    await shop("create_log_group", logGroupName="/shop")
    assert (await shop("describe_log_streams", logGroupName="/shop"))["logStreams"] == []


async def test_a_deleted_stream_leaves_its_group(shop):
    await shop.write("a")
    await shop("delete_log_stream", logGroupName="/shop", logStreamName="web")
    assert (await shop("describe_log_streams", logGroupName="/shop"))["logStreams"] == []


async def test_retention_and_tags_are_kept_and_old_events_hidden(shop, nats_platform):
    agent = await nats_platform.bus("agent")
    old = LogBatch(events=[LogEvent(NOW - 9 * 24 * 3600 * 1000, "old"), LogEvent(NOW, "new")], ingested_at=NOW)
    await agent.publish(log_stream("000000000000", "us-east-1", "/shop", "web"), msgspec.json.encode(old))
    await shop("put_retention_policy", logGroupName="/shop", retentionInDays=7)
    (group,) = (await shop("describe_log_groups"))["logGroups"]
    assert group["retentionInDays"] == 7
    assert (await shop.messages())[0] == ["new"]
    assert await shop.refused("put_retention_policy", logGroupName="/shop", retentionInDays=8) == (
        "InvalidParameterException"
    )
    await shop("tag_resource", resourceArn=group["logGroupArn"], tags={"a": "1", "b": "2"})
    await shop("untag_resource", resourceArn=group["logGroupArn"], tagKeys=["a"])
    assert (await shop("list_tags_for_resource", resourceArn=group["logGroupArn"]))["tags"] == {"b": "2"}


async def test_streams_are_listed_by_name_or_by_their_last_event(shop):
    for name in ("b", "c", "a"):
        await shop("create_log_stream", logGroupName="/shop", logStreamName=name)
        await shop.write(name, stream=name, at=NOW + ord(name))
    await shop("delete_log_stream", logGroupName="/shop", logStreamName="web")

    async def names(**members):
        page = await shop("describe_log_streams", logGroupName="/shop", **members)
        return [s["logStreamName"] for s in page["logStreams"]], page.get("nextToken")

    first, following = await names(limit=2)
    assert (first, await names(nextToken=following)) == (["a", "b"], (["c"], None))
    assert (await names(orderBy="LastEventTime", descending=True))[0] == ["c", "b", "a"]


async def test_a_trace_is_read_whole_and_the_latest_are_listed(logs):
    with telemetry.as_service("monitor"):
        with telemetry.span("push") as root, telemetry.span("scan"):
            pass
        trace_id = f"{root.get_span_context().trace_id:032x}"
        await telemetry._shipper.flush()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{logs.port}") as http:

        async def get(path):
            async with http.get(path) as answer:
                return answer.status, await answer.json()

        async with asyncio.timeout(30):
            while (await get(f"/traces/{trace_id}"))[0] != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        _, trace = await get(f"/traces/{trace_id}")
        assert [span["name"] for span in trace["spans"]] == ["push", "scan"]
        _, listed = await get("/traces?limit=5")
        assert [(t["name"], t["spans"]) for t in listed["traces"] if t["trace_id"] == trace_id] == [("push", 2)]
        assert (await get(f"/traces/{'0' * 32}"))[0] == 404
        assert (await get("/traces/nonsense"))[0] == 400


async def test_events_of_all_services_are_read_from_the_log_of_nats_when_asked(logs):
    async def events(query=""):
        async with aiohttp.ClientSession() as session:
            answer = await session.get(f"http://127.0.0.1:{logs.port}/events{query}")
            return answer.status, await answer.json()

    async def holding(names, query=""):
        """NATS copies a change into the log a moment after it was acknowledged, each service's in its own time."""
        async with asyncio.timeout(30):
            while True:
                _, found = await events(query)
                if sorted(each["event"] for each in found["events"]) == names:
                    return found
                await asyncio.sleep(0.01)

    await logs("create_log_group", logGroupName="/seen")
    before = await holding(["access_key.created.v1", "log_group.created.v1"])
    last = next(each for each in before["events"] if each["kind"] == "log_group")
    assert (last["event"], last["service"], last["key"][2:]) == ("log_group.created.v1", "monitor", ["/seen"])
    assert abs(last["at"] - time.time()) < 60
    assert before["last"] >= last["sequence"]
    assert await events(f"?after={before['last']}") == (200, {"events": [], "last": before["last"]})
    await logs("delete_log_group", logGroupName="/seen")
    await holding(["log_group.deleted.v1"], f"?after={before['last']}&limit=1")
    for wrong in ("?limit=0", "?limit=501", "?limit=x", "?after=-1", "?after=" + "9" * 30):
        assert (await events(wrong))[0] == 400, wrong
