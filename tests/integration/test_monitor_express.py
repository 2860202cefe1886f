"""The alarm that the monitor keeps for an Express service, over a real NATS."""

import time

import msgspec
from msgspec.structs import replace

from contracts.records.metrics import EXPRESS_NAMESPACE, MetricBatch, MetricSample
from contracts.records.scheduler import SERVICE
from contracts.subjects import metrics
from services.shared.state import Store
from tests.builders.waiting import until
from tests.integration.test_monitor_metrics import stage  # noqa: F401
from tests.unit.monitor.test_express_alarms import shop

NAME = "ecs-express-web-1"


def minutes(*counts: tuple[int, int]) -> MetricBatch:
    """What the gateway counted in the last minutes, oldest first: (requests, answers of the class 5xx)."""
    now = time.time() // 60 * 60
    where = {"account": "000000000000", "region": "us-east-1", "namespace": EXPRESS_NAMESPACE}
    where["dimensions"] = {"ClusterName": "main", "ServiceName": "web"}
    samples = []
    for back, (requests, failed) in zip(range(len(counts), 0, -1), counts, strict=True):
        told = {"RequestCount": requests, "HTTPCode_Target_4XX_Count": 0, "HTTPCode_Target_5XX_Count": failed}
        for name, value in told.items():
            figures = {"sum": value, "minimum": value, "maximum": value, "at": now - 60 * back + 5}
            samples.append(MetricSample(**where, name=name, unit="Count", **figures))
    return MetricBatch(source="app_runner_gateway", at=now, period_s=10.0, samples=samples)


async def test_an_express_service_has_an_alarm_on_its_errors_as_long_as_it_is_there(stage, nats_platform):  # noqa: F811
    async def named() -> list[str]:
        return [alarm["AlarmName"] for alarm in (await stage("describe_alarms"))["MetricAlarms"]]

    async def shown(*names: str) -> bool:
        return await named() == list(names)

    scheduler = await Store.open(await nats_platform.bus("scheduler"), (SERVICE,))
    gateway = await nats_platform.bus("app_runner_gateway")
    await scheduler.put(SERVICE, shop(), "service.created.v1")
    await until(lambda: shown(NAME))
    await stage.until_state("OK", NAME)
    batch = minutes((100, 0), (100, 2), (100, 2))
    await gateway.publish(metrics("app_runner_gateway", "t"), msgspec.json.encode(batch))
    alarm = await stage.until_state("ALARM", NAME)
    assert (alarm["EvaluationPeriods"], alarm["DatapointsToAlarm"], alarm["Threshold"]) == (3, 2, 1.0)
    await stage.end()
    await scheduler.put(SERVICE, replace(shop(), status="INACTIVE", deployments=[]), "service.inactive.v1")
    await stage.begin()  # what went while it was away is seen too
    await until(lambda: shown())
    await scheduler.close()
