"""Which requests for a service are refused, and which are kept."""

import pytest

from services.scheduler.decisions.services import check
from services.shared.errors import AwsError

ARN = "arn:aws:servicediscovery:us-east-1:000000000000:service/srv-1"


@pytest.mark.parametrize("registries", [[], [{"registryArn": ARN}], [{"registryArn": ARN, "containerPort": 80}]])
def test_a_service_may_have_a_registry(registries):
    check({"serviceRegistries": registries})


@pytest.mark.parametrize(
    "registries",
    [
        pytest.param([{}], id="without an ARN"),
        pytest.param([{"registryArn": ARN.replace("servicediscovery", "ecs")}], id="of another service"),
        pytest.param([{"registryArn": ARN}, {"registryArn": ARN}], id="two"),
        pytest.param([{"registryArn": ARN, "port": 1, "containerPort": 2}], id="two ports"),
    ],
)
def test_a_registry_that_cannot_be_is_refused(registries):
    with pytest.raises(AwsError) as refused:
        check({"serviceRegistries": registries})
    assert refused.value.code == "InvalidParameterException"


def test_external_instances_have_no_service_discovery():
    with pytest.raises(AwsError, match=r"Service discovery .* is not supported for the launch type EXTERNAL"):
        check({"serviceRegistries": [{"registryArn": ARN}], "launchType": "EXTERNAL"})
