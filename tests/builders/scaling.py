"""Identity, scheduler, an agent without a runtime, a monitor that says what the test wants, and autoscalers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from contracts.records.monitor import METRIC_ALARM, MetricAlarm
from contracts.records.scheduler import Service
from contracts.rpc.monitor import GET_METRICS, GetMetrics, Metrics, MetricValues
from contracts.subjects import metrics
from services.autoscaler.app import AutoscalerApp
from services.autoscaler.settings import AutoscalerSettings
from services.identity.adapters import read_credentials
from services.identity.app import CREDENTIALS_FILE, IdentityApp
from services.identity.settings import IdentitySettings
from services.scheduler.app import SchedulerApp
from services.scheduler.settings import SchedulerSettings
from services.shared.runner import Host, HttpServer, start_app, stop_app
from services.shared.state import Store
from tests.builders.ecs import ACCOUNT, REGION, node
from tests.fakes.agent import FakeAgent

WEB = {
    "ServiceNamespace": "ecs",
    "ResourceId": "service/main/web",
    "ScalableDimension": "ecs:service:DesiredCount",
}

LEASE_S = 60.0
"""Longer than any machine stalls; whom a lease was lost by in the middle would begin its work anew."""


class FakeMonitor:
    """Answers GET_METRICS with what was set, by metric name; writes alarms."""

    def __init__(self, bus: Any) -> None:
        self.bus = bus
        self.asked: list[GetMetrics] = []
        self._level: dict[str, Callable[[], float]] = {}
        self._since: dict[str, float] = {}

    async def start(self) -> None:
        """Serve."""
        self.store = await Store.open(self.bus, (METRIC_ALARM,))
        await self.bus.serve(GET_METRICS, self._answer)

    async def says(self, name: str, value: float, for_s: float = 0.0) -> None:
        """From now on (since `for_s` seconds) the metric has this value; whoever listens hears that something came."""
        await self.follows(name, lambda: value, for_s)

    async def follows(self, name: str, value: Callable[[], float], for_s: float = 0.0) -> None:
        """As `says`, with a value that is reckoned whenever it is asked for."""
        self._level[name], self._since[name] = value, time.time() - for_s
        await self.bus.tell(metrics("monitor", "t"))

    async def _answer(self, request: GetMetrics) -> Metrics:
        self.asked.append(request)
        return Metrics(results=[self._values(q.name, q.period_s, q.start, q.end) for q in request.queries])

    def _values(self, name: str, period: int, start: float, end: float) -> MetricValues:
        if name not in self._level:
            return MetricValues()
        begin = max(start, self._since[name])
        times = [at for at in (end - period * n for n in range(200, -1, -1)) if at >= begin] or [end - 0.001]
        return MetricValues(times=times, values=[self._level[name]()] * len(times))

    async def alarm(self, name: str, state: str, actions: list[str], metric: str, threshold: float) -> None:
        """Put an alarm of this state there."""
        now = time.time()
        request = {
            "AlarmName": name, "AlarmActions": actions, "Namespace": "Shop", "MetricName": metric, "Period": 60,
            "Statistic": "Average", "Threshold": threshold, "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        }  # fmt: skip
        record = MetricAlarm(account=ACCOUNT, region=REGION, name=name, request=request, configured_at=now, state=state,
                             state_updated_at=now, state_changed_at=now)  # fmt: skip
        await self.store.put(METRIC_ALARM, record, "alarm.state_changed.v1")


class Stage:
    """All of it on one NATS. `scaler` is the newest autoscaler, `call` asks the first by boto3."""

    def __init__(self, platform: Any, data: Path) -> None:
        self.platform, self.data = platform, data
        self.apps: list[Any] = []
        self._servers: list[HttpServer] = []

    async def open(self) -> Stage:
        """Everything but the autoscaler; with a cluster and the service `web` of one task."""
        identity = IdentityApp(Host(await self.platform.bus("identity"), self.data, instance="t"), IdentitySettings())
        self.monitor = FakeMonitor(await self.platform.bus("monitor"))
        host = Host(await self.platform.bus("scheduler"), self.data, instance="t")
        self.scheduler = SchedulerApp(host, SchedulerSettings(settled_s=0.2))
        for app in (identity, self.scheduler):
            await start_app(app)
            self.apps.append(app)
        await self.monitor.start()
        self.agent = FakeAgent(await self.platform.bus("agent"), node("n1", cpu_units=65536, memory_mib=65536))
        await self.agent.start()
        self.keys = read_credentials(self.data / CREDENTIALS_FILE)
        self.ecs = await self._client(self.scheduler, "ecs")
        await self.ecs("create_cluster", clusterName="main")
        container = {"name": "web", "image": "busybox", "memory": 64}
        await self.ecs("register_task_definition", family="web", containerDefinitions=[container])
        await self.ecs("create_service", cluster="main", serviceName="web", taskDefinition="web", desiredCount=1)
        return self

    async def autoscaler(self, instance: str = "a1", **settings: Any) -> AutoscalerApp:
        """Start one."""
        given = {"period_s": 1.0, "scale_in_window_s": 3.0, "lease_ttl_s": LEASE_S, **settings}
        host = Host(await self.platform.bus("autoscaler"), self.data, instance=instance)
        app = AutoscalerApp(host, AutoscalerSettings(**given))
        await start_app(app)
        self.apps.append(app)
        if not hasattr(self, "call"):
            self.call = await self._client(app, "application-autoscaling")
        return app

    def outlives(self, app: AutoscalerApp) -> None:
        """By this autoscaler's clock the lease of any other is over."""
        app.leader._lease._clock = lambda: time.time() + LEASE_S + 1

    async def kill(self, app: Any) -> None:
        """As kill -9 does: nothing is told, nothing is finished."""
        self.apps.remove(app)
        await app.host.bus.close()

    async def _client(self, app: Any, api: str) -> Any:
        server = HttpServer(app)
        port = await server.start()
        self._servers.append(server)
        return Caller(api, port, self.keys)

    def service(self) -> Service:
        """The service `web` as the scheduler has it."""
        found = self.scheduler.world.services.record(ACCOUNT, REGION, "main", "web")
        assert found is not None
        return found

    def desired(self) -> int:
        """Its desired count."""
        return self.service().desired_count

    async def activities(self, **members: Any) -> list[dict]:
        """The activities, newest first."""
        return (await self.call("describe_scaling_activities", ServiceNamespace="ecs", **members))["ScalingActivities"]

    async def load(self, percent: float) -> None:
        """From now on this much processor time is wanted in all, of as many tasks as are desired."""
        await self.monitor.follows("CPUUtilization", lambda: percent / max(1, self.desired()))

    async def track(self, target: float = 50.0, **members: Any) -> str:
        """A target tracking policy on the CPU without cooldowns; its ARN."""
        configuration = {
            "TargetValue": target,
            "PredefinedMetricSpecification": {"PredefinedMetricType": "ECSServiceAverageCPUUtilization"},
            "ScaleOutCooldown": 0,
            "ScaleInCooldown": 0,
            **members,
        }
        answer = await self.call("put_scaling_policy", **WEB, PolicyName="cpu", PolicyType="TargetTrackingScaling",
                                 TargetTrackingScalingPolicyConfiguration=configuration)  # fmt: skip
        return answer["PolicyARN"]

    async def close(self) -> None:
        """Stop all."""
        for server in self._servers:
            await server.stop()
        for app in reversed(self.apps):
            await stop_app(app)
        await self.monitor.store.close()


class Caller:
    """A boto3 client, called from a thread."""

    def __init__(self, api: str, port: int, keys: Any) -> None:
        self.client = boto3.client(
            api,
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name=REGION,
            aws_access_key_id=keys.access_key_id,
            aws_secret_access_key=keys.secret,
            config=Config(retries={"total_max_attempts": 1}),
        )

    async def __call__(self, operation: str, **members: Any) -> dict:
        answer = await asyncio.to_thread(getattr(self.client, operation), **members)
        return {k: v for k, v in answer.items() if k != "ResponseMetadata"}

    async def refused(self, operation: str, **members: Any) -> tuple[str, str]:
        """(code, message) of the error."""
        with pytest.raises(ClientError) as error:
            await self(operation, **members)
        return error.value.response["Error"]["Code"], error.value.response["Error"]["Message"]
