"""The alarm that an Express service's deployments are watched by: on its errors, as the gateway counts them.

ECS takes a deployment back when more than 1 % of the requests are answered with 4xx or 5xx in two minutes of three:
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/express-service-update-full.html
"""

from __future__ import annotations

from typing import Any

from contracts.kinds import Key
from contracts.records.metrics import EXPRESS_NAMESPACE
from contracts.records.monitor import METRIC_ALARM, MetricAlarm
from contracts.records.scheduler import Service

MANAGED = {"AmazonECSManaged": ""}
"""The tag of what ECS made for a service, by which it is known again."""

PERCENT, PERIOD_S, PERIODS, BREACHING = 1.0, 60, 3, 2
_COUNTS = {
    "requests": "RequestCount",
    "refused": "HTTPCode_Target_4XX_Count",
    "failed": "HTTPCode_Target_5XX_Count",
}


def definition(service: Service) -> dict[str, Any]:
    """The alarm (PutMetricAlarm, wire form). Periods without a request have no rate, and alarm nobody."""
    assert service.express is not None
    dimensions = [{"Name": "ClusterName", "Value": service.cluster}, {"Name": "ServiceName", "Value": service.name}]

    def count(name: str) -> dict[str, Any]:
        metric = {"Namespace": EXPRESS_NAMESPACE, "MetricName": name, "Dimensions": dimensions}
        return {"Metric": metric, "Period": PERIOD_S, "Stat": "Sum"}

    rate = {"Id": "rate", "Expression": "100 * (refused + failed) / requests", "Label": "Errors (percent)"}
    return {
        "AlarmName": service.express.alarm,
        "AlarmDescription": f"Errors of the Express service {service.cluster}/{service.name}: deployments roll back",
        "Metrics": [
            {**rate, "ReturnData": True},
            *({"Id": each, "MetricStat": count(name), "ReturnData": False} for each, name in _COUNTS.items()),
        ],
        "EvaluationPeriods": PERIODS,
        "DatapointsToAlarm": BREACHING,
        "Threshold": PERCENT,
        "ComparisonOperator": "GreaterThanThreshold",
        "TreatMissingData": "notBreaching",
    }


def key_of(service: Service) -> Key | None:
    """Where the service's alarm is; None when it is to have none (any more)."""
    if service.express is None or not service.express.alarm or service.status != "ACTIVE":
        return None
    return (service.account, service.region, service.express.alarm)


def differs(wanted: dict[Key, Service], there: list[MetricAlarm]) -> tuple[list[Key], list[Key]]:
    """The alarms that are to be made, and those of services that are gone, which are to be deleted. What somebody made
    of an alarm that is there stays so."""
    known = {METRIC_ALARM.key_of(alarm): alarm for alarm in there}
    over = [key for key, alarm in known.items() if key not in wanted and MANAGED.items() <= alarm.tags.items()]
    return [key for key in wanted if key not in known], over
