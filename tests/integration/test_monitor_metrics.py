"""CloudWatch metrics and alarms over a real NATS, asked by boto3."""

import asyncio
import time
from datetime import UTC, datetime

import aiohttp
import boto3
import msgspec
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from contracts.records.metrics import TaskUsage, UsageBatch
from contracts.rpc.monitor import GET_METRICS, GetMetrics, MetricQuery, MetricValues
from contracts.subjects import metrics
from services.identity.adapters import read_credentials
from services.identity.app import CREDENTIALS_FILE, IdentityApp
from services.identity.settings import IdentitySettings
from services.monitor.app import MonitorApp
from services.monitor.settings import MonitorSettings
from services.shared.runner import Host, HttpServer, start_app, stop_app

MINUTE = int(time.time()) // 60 * 60 - 600
SHOP = [{"Name": "Shop", "Value": "main"}]


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


class Stage:
    """A monitor with its HTTP server and a boto3 client; it can be ended and begun anew."""

    def __init__(self, nats_platform, tmp_path, credentials) -> None:
        self.nats_platform = nats_platform
        self._tmp_path = tmp_path
        self._credentials = credentials

    async def begin(self):
        bus = await self.nats_platform.bus("monitor")
        self.app = MonitorApp(Host(bus, self._tmp_path, instance="t"), MonitorSettings())
        await start_app(self.app)
        self._server = HttpServer(self.app)
        self.port = await self._server.start()
        self._client = boto3.client(
            "cloudwatch",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name="us-east-1",
            aws_access_key_id=self._credentials.access_key_id,
            aws_secret_access_key=self._credentials.secret,
            config=Config(retries={"total_max_attempts": 1}),
        )

    async def end(self):
        await self._server.stop()
        await stop_app(self.app)

    async def __call__(self, operation, **members):
        return await asyncio.to_thread(getattr(self._client, operation), **members)

    async def refused(self, operation, **members):
        with pytest.raises(ClientError) as error:
            await self(operation, **members)
        return error.value.response["Error"]["Code"]

    async def put(self, *data, namespace="Shop"):
        await self("put_metric_data", Namespace=namespace, MetricData=list(data))

    async def statistics(self, name="Orders", period=60, **members):
        wanted = {"Statistics": ["Average", "Sum", "Minimum", "Maximum", "SampleCount"]}
        wanted = members if "ExtendedStatistics" in members else wanted | members
        found = await self(
            "get_metric_statistics", Namespace="Shop", MetricName=name, Period=period,
            StartTime=at(MINUTE - 600), EndTime=at(MINUTE + 660), **wanted,
        )  # fmt: skip
        return found["Datapoints"]

    async def alarm(self, name="a", **members):
        put = {
            "AlarmName": name, "Namespace": "Shop", "MetricName": "Orders", "Statistic": "Sum", "Period": 60,
            "EvaluationPeriods": 1, "Threshold": 5.0, "ComparisonOperator": "GreaterThanThreshold",
        }  # fmt: skip
        await self("put_metric_alarm", **(put | members))

    async def state_of(self, name="a"):
        (alarm,) = (await self("describe_alarms", AlarmNames=[name]))["MetricAlarms"]
        return alarm

    async def until_state(self, wanted, name="a"):
        deadline = time.monotonic() + 60
        while True:
            alarm = await self.state_of(name)
            if alarm["StateValue"] == wanted:
                return alarm
            assert time.monotonic() < deadline, alarm
            await asyncio.sleep(0.1)


@pytest.fixture
async def stage(nats_platform, tmp_path):
    identity = IdentityApp(Host(await nats_platform.bus("identity"), tmp_path, instance="t"), IdentitySettings())
    await start_app(identity)
    stage = Stage(nats_platform, tmp_path, read_credentials(tmp_path / CREDENTIALS_FILE))
    await stage.begin()
    yield stage
    await stage.end()
    await stop_app(identity)


def datum(value=None, name="Orders", time=MINUTE, **members):
    given = {} if value is None else {"Value": value}
    return {"MetricName": name, "Timestamp": at(time), **given, **members}


async def test_values_are_added_up_by_period(stage):
    await stage.put(datum(1.0), datum(3.0, time=MINUTE + 30), datum(10.0, time=MINUTE + 60))
    assert await stage.statistics() == [
        {"Timestamp": at(MINUTE), "SampleCount": 2, "Average": 2, "Sum": 4, "Minimum": 1, "Maximum": 3, "Unit": "None"},
        {
            "Timestamp": at(MINUTE + 60), "SampleCount": 1, "Average": 10, "Sum": 10, "Minimum": 10, "Maximum": 10,
            "Unit": "None",
        },
    ]  # fmt: skip


async def test_values_with_counts_and_statistic_sets_and_percentiles(stage):
    await stage.put(datum(Values=[1.0, 100.0], Counts=[99.0, 1.0]))
    (point,) = await stage.statistics(ExtendedStatistics=["p50", "p99.5"])
    assert point["ExtendedStatistics"]["p50"] == pytest.approx(1, rel=0.02)
    assert point["ExtendedStatistics"]["p99.5"] == pytest.approx(100, rel=0.02)
    sums = {"SampleCount": 4.0, "Sum": 10.0, "Minimum": 1.0, "Maximum": 5.0}
    await stage.put(datum(name="Sets", StatisticValues=sums, Unit="Seconds"))
    (point,) = await stage.statistics("Sets")
    assert (point["Average"], point["Maximum"], point["Unit"]) == (2.5, 5.0, "Seconds")


async def test_dimensions_make_metrics_of_their_own(stage):
    await stage.put(datum(1.0), datum(7.0, Dimensions=SHOP))
    assert [p["Sum"] for p in await stage.statistics(Dimensions=SHOP)] == [7.0]
    listed = await stage("list_metrics", Namespace="Shop")
    assert [m["Dimensions"] for m in listed["Metrics"]] == [[], SHOP]
    only = await stage("list_metrics", Dimensions=[{"Name": "Shop"}])
    assert [m["Dimensions"] for m in only["Metrics"]] == [SHOP]


async def test_list_metrics_has_pages(stage):
    await stage.put(*(datum(1.0, name=f"m{n:04d}") for n in range(600)))
    first = await stage("list_metrics", Namespace="Shop")
    rest = await stage("list_metrics", Namespace="Shop", NextToken=first["NextToken"])
    names = [m["MetricName"] for m in first["Metrics"] + rest["Metrics"]]
    assert names == [f"m{n:04d}" for n in range(600)] and "NextToken" not in rest
    assert await stage.refused("list_metrics", NextToken="nonsense") == "InvalidNextToken"


async def test_expressions_are_evaluated(stage):
    await stage.put(datum(1.0, name="Errors"), datum(4.0, name="Requests"), datum(9.0, "Requests", MINUTE + 60))

    def stat(name):
        return {"Metric": {"Namespace": "Shop", "MetricName": name}, "Period": 60, "Stat": "Sum"}

    found = await stage(
        "get_metric_data",
        MetricDataQueries=[
            {"Id": "rate", "Expression": "100 * errors / requests", "Label": "error rate"},
            {"Id": "errors", "MetricStat": stat("Errors"), "ReturnData": False},
            {"Id": "requests", "MetricStat": stat("Requests")},
        ],
        StartTime=at(MINUTE - 60),
        EndTime=at(MINUTE + 120),
    )
    shown = [(r["Id"], r["Label"], r["Values"], r["StatusCode"]) for r in found["MetricDataResults"]]
    assert shown == [("rate", "error rate", [25.0], "Complete"), ("requests", "Requests", [9.0, 4.0], "Complete")]


async def test_bad_requests_are_refused_by_name(stage):
    now = time.time()
    wrong = "InvalidParameterValue"
    for data, code in (
        (datum(1.0, time=now - 15 * 86400), wrong),
        (datum(1.0, time=now + 3 * 3600), wrong),
        (datum(1.0, StorageResolution=5), wrong),
        (datum(Values=[1.0], Counts=[1.0, 2.0]), wrong),
        (datum(1e200), wrong),
        (datum(), "MissingParameter"),
        (datum(1.0, Values=[1.0]), "InvalidParameterCombination"),
    ):
        assert (await stage.refused("put_metric_data", Namespace="Shop", MetricData=[data]), data) == (code, data)
    query = {"Id": "e", "Expression": "nothing * 2"}
    span = {"StartTime": at(MINUTE), "EndTime": at(MINUTE + 60)}
    assert await stage.refused("get_metric_data", MetricDataQueries=[query], **span) == "ValidationError"


async def test_what_was_acknowledged_is_there_after_a_restart(stage):
    await stage.put(datum(1.0), datum(2.0, time=time.time() - 5 * 3600, name="Old"))
    await stage.alarm()
    before = await stage.statistics()
    await stage.end()
    await stage.begin()
    assert await stage.statistics() == before
    (old,) = (
        await stage(
            "get_metric_statistics", Namespace="Shop", MetricName="Old", Period=300, Statistics=["Sum"],
            StartTime=at(time.time() - 6 * 3600), EndTime=at(time.time()),
        )
    )["Datapoints"]  # fmt: skip
    assert old["Sum"] == 2.0
    assert (await stage.state_of())["AlarmName"] == "a"


async def test_an_alarm_follows_its_metric_and_tells_why(stage):
    now = time.time()
    await stage.put(datum(9.0, time=now // 60 * 60 - 30))
    await stage.alarm(Tags=[{"Key": "team", "Value": "shop"}])
    alarm = await stage.until_state("ALARM")
    assert "1 out of the last 1 datapoint [9.0" in alarm["StateReason"]
    assert "greater than the threshold (5.0)" in alarm["StateReason"]
    await stage.put(datum(-9.0, time=now // 60 * 60 - 30))
    await stage.until_state("OK")
    history = (await stage("describe_alarm_history", AlarmName="a"))["AlarmHistoryItems"]
    assert [line["HistorySummary"] for line in history] == [
        "Alarm updated from ALARM to OK",
        "Alarm updated from INSUFFICIENT_DATA to ALARM",
        'Alarm "a" created',
    ]
    arn = alarm["AlarmArn"]
    assert (await stage("list_tags_for_resource", ResourceARN=arn))["Tags"] == [{"Key": "team", "Value": "shop"}]


async def test_alarms_are_described_disabled_set_and_deleted(stage):
    await stage.alarm("one")
    await stage.alarm("two", MetricName="Other", TreatMissingData="notBreaching")
    await stage.until_state("OK", "two")
    found = await stage("describe_alarms_for_metric", Namespace="Shop", MetricName="Orders")
    assert [a["AlarmName"] for a in found["MetricAlarms"]] == ["one"]
    await stage("disable_alarm_actions", AlarmNames=["one"])
    assert (await stage.state_of("one"))["ActionsEnabled"] is False
    await stage("set_alarm_state", AlarmName="one", StateValue="ALARM", StateReason="because")
    told = await stage("describe_alarms", StateValue="ALARM")
    assert [(a["AlarmName"], a["StateReason"]) for a in told["MetricAlarms"]] == [("one", "because")]
    await stage("delete_alarms", AlarmNames=["one", "two"])
    assert (await stage("describe_alarms"))["MetricAlarms"] == []
    assert await stage.refused("delete_alarms", AlarmNames=["one"]) == "ResourceNotFound"


def usage(cpu, task="t1", **members):
    return TaskUsage(
        account="000000000000", region="us-east-1", cluster="main", service="web", task=task, cpu_units=cpu,
        memory_mib=64.0, cpu_reserved=256, memory_reserved=128, rx_bytes=1000, tx_bytes=500, **members,
    )  # fmt: skip


async def test_the_usage_of_tasks_becomes_metrics_of_their_service(stage):
    agent = await stage.nats_platform.bus("agent")
    now = time.time()
    for node, cpus in (("n1", (256.0, 0.0)), ("n2", (128.0,))):
        tasks = [usage(cpu, f"{node}-{i}") for i, cpu in enumerate(cpus)]
        batch = UsageBatch(node=node, at=now, period_s=10.0, tasks=tasks)
        await agent.publish(metrics("agent", node), msgspec.json.encode(batch))

    def query(name, statistic="Average", namespace="AWS/ECS"):
        return MetricQuery(
            account="000000000000", region="us-east-1", namespace=namespace, name=name, statistic=statistic,
            dimensions={"ClusterName": "main", "ServiceName": "web"}, period_s=60,
            start=now - 3600, end=now + 1,
        )  # fmt: skip

    asked = [
        query("CPUUtilization"),
        query("MemoryUtilization", "Maximum"),
        query("RunningTaskCount", "Maximum", "ECS/ContainerInsights"),
        query("NetworkRxBytes", "Sum", "ECS/ContainerInsights"),
        query("Nothing"),
    ]
    autoscaler = await stage.nats_platform.bus("autoscaler")
    deadline = time.monotonic() + 30
    while True:
        told = (await autoscaler.call(GET_METRICS, GetMetrics(queries=asked))).results
        if [r.values for r in told] == [[50.0], [50.0], [3.0], [300.0], []]:
            break
        assert time.monotonic() < deadline, told
        await asyncio.sleep(0.05)
    assert told[4] == MetricValues()
    async with aiohttp.ClientSession() as http:
        shown = await (await http.get(f"http://127.0.0.1:{stage.port}/usage")).json()
        assert [(n["node"], len(n["tasks"])) for n in shown["nodes"]] == [("n1", 2), ("n2", 1)]
        text = await (await http.get(f"http://127.0.0.1:{stage.port}/metrics")).text()
    labels = 'cluster="main",node="n1",region="us-east-1",service="web",task="n1-0"'
    assert f"roadstead_task_cpu_units{{{labels}}} 256.0" in text


async def test_metrics_outlive_a_restart_of_nats(stage):
    await stage.put(datum(1.0))
    await stage.nats_platform.server.stop()
    await stage.nats_platform.server.start()
    await asyncio.wait_for(stage.app.host.bus.connected.wait(), 30)
    await stage.put(datum(2.0))
    assert [p["Sum"] for p in await stage.statistics()] == [3.0]
