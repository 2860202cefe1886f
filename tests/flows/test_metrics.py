"""A busy container is seen in CloudWatch, and an alarm goes off and ends with it."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.builders.images import busybox_image
from tests.builders.platform import FARGATE, sleeper, until

CLUSTER = "busy"
DIMENSIONS = [{"Name": "ClusterName", "Value": CLUSTER}, {"Name": "ServiceName", "Value": "busy"}]


@pytest.fixture(scope="module")
def ecs(platform):
    """A service of one task that does nothing but burn its quarter of a core."""
    client = platform.client("ecs")
    client.create_cluster(clusterName=CLUSTER)
    image = platform.push(busybox_image(), "busy")
    client.register_task_definition(**{**sleeper(image, "sh", "-c", "while :; do :; done"), "family": "busy"})
    client.create_service(cluster=CLUSTER, serviceName="busy", taskDefinition="busy", desiredCount=1, **FARGATE)
    yield client
    client.delete_service(cluster=CLUSTER, service="busy", force=True)


@pytest.fixture(scope="module")
def cloudwatch(platform, ecs):
    """CloudWatch, with an alarm on the service."""
    client = platform.client("cloudwatch")
    client.put_metric_alarm(
        AlarmName="busy",
        Namespace="AWS/ECS",
        MetricName="CPUUtilization",
        Dimensions=DIMENSIONS,
        Statistic="Average",
        Period=10,
        EvaluationPeriods=1,
        Threshold=50,
        ComparisonOperator="GreaterThanThreshold",
        TreatMissingData="notBreaching",
    )
    yield client
    client.delete_alarms(AlarmNames=["busy"])


def state(cloudwatch) -> str:
    (alarm,) = cloudwatch.describe_alarms(AlarmNames=["busy"])["MetricAlarms"]
    return alarm["StateValue"]


def test_a_busy_container_shows_its_load_and_sets_off_the_alarm(cloudwatch):
    until(lambda: state(cloudwatch) == "ALARM", seconds=90, every=0.2)
    now = datetime.now(UTC)
    points = cloudwatch.get_metric_statistics(
        Namespace="AWS/ECS",
        MetricName="CPUUtilization",
        Dimensions=DIMENSIONS,
        StartTime=now - timedelta(minutes=5),
        EndTime=now + timedelta(minutes=1),
        Period=10,
        Statistics=["Maximum"],
    )["Datapoints"]
    assert max(point["Maximum"] for point in points) > 50


def test_what_runs_is_listed_as_container_insights(cloudwatch):
    listed = cloudwatch.list_metrics(Namespace="ECS/ContainerInsights", Dimensions=DIMENSIONS)["Metrics"]
    assert {metric["MetricName"] for metric in listed} == {
        "CpuUtilized",
        "CpuReserved",
        "MemoryUtilized",
        "MemoryReserved",
        "NetworkRxBytes",
        "NetworkTxBytes",
        "RunningTaskCount",
    }


def test_the_alarm_ends_with_the_load(ecs, cloudwatch):
    ecs.update_service(cluster=CLUSTER, service="busy", desiredCount=0)
    until(lambda: state(cloudwatch) == "OK", seconds=90, every=0.2)
    history = cloudwatch.describe_alarm_history(AlarmName="busy", HistoryItemType="StateUpdate")["AlarmHistoryItems"]
    assert [line["HistorySummary"] for line in history][:1] == ["Alarm updated from ALARM to OK"]
    assert time.time() - history[0]["Timestamp"].timestamp() < 120
