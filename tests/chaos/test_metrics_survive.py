"""Metrics that were acknowledged are there after the platform was killed."""

import os
import threading
import time
from datetime import UTC, datetime, timedelta

import botocore.exceptions
import pytest

from tests.builders.platform import roadstead, until


@pytest.fixture
def platform():
    if os.geteuid() != 0:
        pytest.skip("real containers take root")
    with roadstead(runtime="oci", zones=1) as running:
        yield running


def test_metrics_outlive_a_kill_in_the_middle_of_being_put(platform):
    acknowledged: list[float] = []
    tried: list[float] = []

    def put() -> None:
        cloudwatch = platform.client("cloudwatch")
        try:
            while True:
                tried.append(1.0)
                cloudwatch.put_metric_data(Namespace="Chaos", MetricData=[{"MetricName": "puts", "Value": 1.0}])
                acknowledged.append(1.0)
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
            return

    writers = [threading.Thread(target=put) for _ in range(4)]
    began = time.time()
    for writer in writers:
        writer.start()
    until(lambda: len(acknowledged) > 100)
    platform.kill()
    for writer in writers:
        writer.join(30)
    platform.up("--zones", "1", "--runtime", "oci")
    points = platform.client("cloudwatch").get_metric_statistics(
        Namespace="Chaos",
        MetricName="puts",
        StartTime=datetime.fromtimestamp(began, UTC) - timedelta(minutes=1),
        EndTime=datetime.now(UTC) + timedelta(minutes=1),
        Period=60,
        Statistics=["Sum", "SampleCount"],
    )["Datapoints"]
    # boto3 tries a call again whose answer it did not get: as in AWS, such a value may be there twice.
    assert sum(point["Sum"] for point in points) >= len(acknowledged)
    assert sum(point["Sum"] for point in points) == sum(point["SampleCount"] for point in points)
