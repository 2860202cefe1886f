"""What CreateService and UpdateService make of a service: checks, defaults, a new deployment when one is due.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service_definition_parameters.html
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from contracts.kinds import Key
from contracts.records.scheduler import Deployment, Service
from services.scheduler.decisions import stages
from services.scheduler.decisions.capacity import FARGATE_PROVIDERS, check_strategy, of_launch_type
from services.scheduler.decisions.requests import invalid
from services.scheduler.decisions.rollouts import recorded
from services.shared.errors import AwsError

#: A change of one of these makes a new deployment.
ROLLS = (
    "taskDefinition", "networkConfiguration", "platformVersion", "capacityProviderStrategy", "launchType",
    "gatewayConnectors",
)  # fmt: skip
_REGISTRY_ARN = re.compile(r"arn:aws[a-z-]*:servicediscovery:[a-z0-9-]+:\d{12}:service/srv-[A-Za-z0-9-]+")
_OF_STRATEGY = {
    "linearConfiguration": ("LINEAR",),
    "canaryConfiguration": ("CANARY",),
    "earlySuccessCriteria": ("ROLLING",),
    "lifecycleHooks": stages.SHIFTING,
}
_UNSUPPORTED = {
    "volumeConfigurations": "volumes configured at launch",
    "vpcLatticeConfigurations": "VPC Lattice",
}


def check(request: Mapping[str, Any], providers: Container[str] = FARGATE_PROVIDERS) -> None:
    """Refuse what makes no sense, and what Roadstead does not do yet (wire form). `providers`: the capacity providers
    there are. Raises AwsError."""
    for member, noun in _UNSUPPORTED.items():
        if request.get(member):
            raise _unsupported(f"{noun} ({member})")
    if request.get("loadBalancers"):
        ways = "give the service gatewayConnectors, or make an Express service of it"
        raise AwsError(
            "UnsupportedFeatureException", f"Roadstead does not support load balancers (loadBalancers) yet: {ways}."
        )
    if (request.get("serviceConnectConfiguration") or {}).get("enabled"):
        raise _unsupported("Service Connect (serviceConnectConfiguration)")
    if request.get("schedulingStrategy") == "DAEMON":
        _check_daemon(request)
    _check_rebalancing(request)
    if (request.get("deploymentController") or {}).get("type") == "CODE_DEPLOY":
        raise _unsupported("the deployment controller CODE_DEPLOY (ECS has the strategy BLUE_GREEN)")
    if (request.get("desiredCount") or 0) < 0:
        raise invalid("desiredCount must not be negative.")
    if not 0 <= (request.get("healthCheckGracePeriodSeconds") or 0) <= 2147483647:
        raise invalid("healthCheckGracePeriodSeconds must be between 0 and 2147483647.")
    if request.get("launchType") and request.get("capacityProviderStrategy"):
        raise invalid("Specifying both a launch type and capacity provider strategy is not supported.")
    if request.get("launchType"):
        of_launch_type(request["launchType"])
    check_strategy(request.get("capacityProviderStrategy") or (), providers)
    check_registries(request)
    daemon = request.get("schedulingStrategy") == "DAEMON"
    _check_deployment(request.get("deploymentConfiguration") or {}, daemon=daemon)


def is_daemon(service: Service) -> bool:
    """Whether it has one task on each node, rather than a number of them."""
    return service.request.get("schedulingStrategy") == "DAEMON"


def _check_daemon(request: Mapping[str, Any]) -> None:
    if request.get("desiredCount"):
        raise invalid(
            "The daemon scheduling strategy does not support a desired count for a service. Remove a desired count "
            "value and try again."
        )
    if request.get("placementStrategy"):
        raise invalid("The daemon scheduling strategy does not support placement strategies.")
    strategy = request.get("capacityProviderStrategy") or ()
    if request.get("launchType") == "FARGATE" or any(i["capacityProvider"] in FARGATE_PROVIDERS for i in strategy):
        raise invalid("The daemon scheduling strategy does not support the Fargate launch type.")


def _check_rebalancing(request: Mapping[str, Any]) -> None:
    if request.get("availabilityZoneRebalancing") != "ENABLED":
        return
    if request.get("schedulingStrategy") == "DAEMON":
        raise invalid("Availability Zone rebalancing does not support the daemon scheduling strategy.")
    first = next(iter(request.get("placementStrategy") or ()), None)
    zones = {"type": "spread", "field": "attribute:ecs.availability-zone"}
    if first is not None and {k: first.get(k) for k in zones} != zones:
        raise invalid("Availability Zone rebalancing needs a spread over Availability Zones as first strategy.")
    if (request.get("deploymentConfiguration") or {}).get("maximumPercent", 200) <= 100:
        raise invalid("Availability Zone rebalancing needs a maximumPercent greater than 100.")


def check_registries(request: Mapping[str, Any]) -> None:
    """Whether there is such a Cloud Map service is discovery's to know: one that comes later is registered in then.
    External instances have no service discovery (ECS developer guide, "Amazon ECS clusters for external instances").
    Raises InvalidParameterException."""
    registries: Sequence[Mapping[str, Any]] = request.get("serviceRegistries") or ()
    if registries and request.get("launchType") == "EXTERNAL":
        raise invalid("Service discovery (serviceRegistries) is not supported for the launch type EXTERNAL.")
    if len(registries) > 1:
        raise invalid("At most one service registry can be specified.")
    for registry in registries:
        if not _REGISTRY_ARN.fullmatch(registry.get("registryArn") or ""):
            raise invalid("serviceRegistries: registryArn must be the ARN of a Cloud Map service.")
        if registry.get("port") and registry.get("containerPort"):
            raise invalid("serviceRegistries: specify either port or containerPort.")


def _check_deployment(configuration: Mapping[str, Any], *, daemon: bool = False) -> None:
    minimum = configuration.get("minimumHealthyPercent", 100)
    maximum = configuration.get("maximumPercent", 200)
    if not 0 <= minimum <= 100:
        raise invalid("minimumHealthyPercent must be between 0 and 100.")
    if maximum < 100:
        raise invalid("maximumPercent must be at least 100.")
    if minimum == maximum == 100:
        raise invalid("Both maximumPercent and minimumHealthyPercent cannot be 100 as this will block deployments.")
    alarms = configuration.get("alarms") or {}
    if alarms.get("enable") and not alarms.get("alarmNames"):
        raise invalid("deploymentConfiguration.alarms: alarmNames must name at least one alarm.")
    _check_early(configuration, minimum, daemon=daemon)
    stages.check(configuration, daemon=daemon)


def _check_early(configuration: Mapping[str, Any], minimum: int, *, daemon: bool) -> None:
    early = configuration.get("earlySuccessCriteria") or {}
    if not early.get("enable"):
        return
    if daemon:
        raise _unsupported("early success criteria of DAEMON services (earlySuccessCriteria)")
    if (configuration.get("strategy") or "ROLLING") != "ROLLING":
        raise invalid("earlySuccessCriteria can only be used with the deployment strategy ROLLING.")
    if early.get("healthyPercent") is None or not early.get("sourceServiceRevisionCleanup"):
        raise invalid("earlySuccessCriteria: healthyPercent and sourceServiceRevisionCleanup must be specified.")
    if early["healthyPercent"] < minimum:
        raise invalid("earlySuccessCriteria: healthyPercent must not be less than minimumHealthyPercent.")


def _unsupported(noun: str) -> AwsError:
    return AwsError("UnsupportedFeatureException", f"Roadstead does not support {noun} yet.")


def completed(configuration: Mapping[str, Any] | None, *, daemon: bool = False) -> dict[str, Any]:
    """A deployment configuration with ECS' defaults."""
    return {
        "deploymentCircuitBreaker": {"enable": False, "rollback": False},
        "maximumPercent": 100 if daemon else 200,
        "minimumHealthyPercent": 0 if daemon else 100,
        "strategy": "ROLLING",
        "bakeTimeInMinutes": 0,
        **(configuration or {}),
    }


def merged(configuration: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A deployment configuration after an update. What belongs to the strategy before goes with it."""
    both = {**configuration, **changes}
    strategy = both.get("strategy") or "ROLLING"
    for member, owners in _OF_STRATEGY.items():
        if strategy not in owners and member not in changes:
            both.pop(member, None)
    return both


def fresh(
    key: Key,
    request: Mapping[str, Any],
    deployments: list[Deployment],
    by: str,
    tags: Mapping[str, str],
    now: float,
    *,
    desired_count: int | None = None,
) -> Service:
    """A new service under its record's `key`, with what it begins with (`begun`, or nothing where there are to be task
    sets) told in its story. The desired count is the request's unless said otherwise."""
    account, region, cluster, name = key
    service = Service(
        account=account,
        region=region,
        cluster=cluster,
        name=name,
        status="ACTIVE",
        created_at=now,
        desired_count=request["desiredCount"] if desired_count is None else desired_count,
        deployments=deployments,
        created_by=by,
        request=dict(request),
        tags=dict(tags),
    )
    return recorded(service, now)


def begun(
    request: Mapping[str, Any],
    task_definition: str,
    deployment_id: str,
    now: float,
    before: Sequence[Deployment] = (),
    *,
    alarmed: bool = False,
) -> list[Deployment]:
    """The deployments when one of what the service's request now says begins beside those that there are.
    `task_definition` is `family:revision`; `alarmed` says that one of its alarms is on now."""
    new = Deployment(
        id=deployment_id,
        status="PRIMARY",
        task_definition=task_definition,
        desired_count=request.get("desiredCount", 0),
        created_at=now,
        updated_at=now,
        rollout_state_reason=f"ECS deployment {deployment_id} in progress.",
        launch_type=request.get("launchType", ""),
        capacity_provider_strategy=request.get("capacityProviderStrategy", []),
        platform_version=request.get("platformVersion"),
        network_configuration=request.get("networkConfiguration", {}),
        unwatched=alarmed,
        daemon=request.get("daemon", {}),
    )
    return stages.begun(request.get("deploymentConfiguration") or {}, new, before, now)


def updated(
    service: Service,
    changes: Mapping[str, Any],
    task_definition: str | None,
    force: bool,
    deployment_id: str,
    now: float,
    *,
    alarmed: bool = False,
) -> Service:
    """The service after an update (wire form): what is not in `changes` stays; a new deployment if one is due.
    `alarmed`: as in `begun`."""
    request = {**service.request, **changes}
    if "capacityProviderStrategy" in changes:
        request.pop("launchType", None)
    desired = service.desired_count if is_daemon(service) else request.get("desiredCount", service.desired_count)
    if not service.deployments:
        return replace(service, request=request, desired_count=desired, steady=False)
    primary = service.deployments[0]
    rolls = force or (task_definition is not None and task_definition != primary.task_definition)
    rolls = rolls or any(request.get(m) != service.request.get(m) for m in ROLLS if m != "taskDefinition")
    if rolls:
        reference = task_definition or primary.task_definition
        deployments = begun(request, reference, deployment_id, now, service.deployments, alarmed=alarmed)
    else:
        deployments = [replace(primary, desired_count=desired, updated_at=now), *service.deployments[1:]]
    steady = service.steady and not rolls and desired == service.desired_count
    new = replace(service, request=request, desired_count=desired, deployments=deployments, steady=steady)
    return recorded(new, now)
