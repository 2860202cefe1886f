"""What an operation demands: IAM actions, each on the resources that the request names.

The names and ARNs are those of the Service Authorization Reference:
https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from contracts.records.network import vpc_id
from contracts.rpc.identity import APP_RUNNER_TASKS, ECS_TASKS

PREFIXES = {
    "application_autoscaling": "application-autoscaling",
    "elbv2": "elasticloadbalancing",
}
"""Where the IAM prefix is not the API module's name."""

ANY = "*"
APP_RUNNER_BUILD = "build.apprunner.amazonaws.com"
_SCALING = "application-autoscaling.amazonaws.com"
_ECS = "ecs.amazonaws.com"
_SSM = "ssm.amazonaws.com"


class Demand(msgspec.Struct, frozen=True):
    """An action on one resource, with condition keys of its own."""

    action: str
    resource: str = ANY
    context: dict[str, tuple[str, ...]] = {}


class Place(msgspec.Struct, frozen=True):
    """Where the caller is: what an ARN is completed with."""

    account: str
    region: str

    def arn(self, service: str, resource: str) -> str:
        """An ARN here."""
        return f"arn:aws:{service}:{self.region}:{self.account}:{resource}"


def demands(api: str, operation: str, request: Any, place: Place) -> list[Demand]:
    """All that must be allowed for this request. An operation without a resource is on `*`."""
    action = f"{PREFIXES.get(api, api)}:{operation}"
    find = _RESOURCES.get(api)
    resources = list(dict.fromkeys(find(operation, request, place))) if find is not None else []
    context = _conditions(api, request, place)
    return [
        *(Demand(action, resource, context) for resource in resources or [ANY]),
        *_passed_roles(api, request, place),
        *_tagging(api, request, place, context),
    ]


def _conditions(api: str, request: Any, place: Place) -> dict[str, tuple[str, ...]]:
    keys = _KEYS.get(api)
    found = {key: (value,) for key, value in keys(request, place) if value} if keys is not None else {}
    tags = getattr(request, "tags", None) or _specified(request)
    pairs = _pairs(tags)
    if pairs:
        found |= {f"aws:requesttag/{key.lower()}": (value,) for key, value in pairs}
        found["aws:tagkeys"] = tuple(key for key, _ in pairs)
    return found


def _ecs_keys(request: Any, place: Place) -> list[tuple[str, str]]:
    """No cluster is the one called default: a policy about that one must not be passed by. The operations of Express
    services name it in the service's ARN."""
    if arns := _texts(request, "service_arn"):
        path = arns[0].rpartition(":")[2].split("/")
        return [("ecs:cluster", _cluster(path[1], place))] if len(path) == 3 else []
    if not hasattr(request, "cluster"):
        return []
    return [("ecs:cluster", _cluster(request.cluster or "default", place))]


def _scaling_keys(request: Any, place: Place) -> list[tuple[str, str]]:
    members = {"service-namespace": "service_namespace", "scalable-dimension": "scalable_dimension"}
    return [(f"application-autoscaling:{key}", getattr(request, name, None) or "") for key, name in members.items()]


def _metric_keys(request: Any, place: Place) -> list[tuple[str, str]]:
    return [("cloudwatch:namespace", getattr(request, "namespace", None) or "")]


def _map_keys(request: Any, place: Place) -> list[tuple[str, str]]:
    members = {"namespacename": "namespace_name", "servicename": "service_name"}
    named = [(f"servicediscovery:{key}", getattr(request, name, None) or "") for key, name in members.items()]
    for key, member, kind in (("servicearn", "service_id", "service"), ("namespacearn", "namespace_id", "namespace")):
        named += [(f"servicediscovery:{key}", _map_arn(kind, name, place)) for name in _texts(request, member)]
    return named


def _pairs(tags: Any) -> list[tuple[str, str]]:
    if isinstance(tags, dict):
        return list(tags.items())
    if not isinstance(tags, list):
        return []
    return [(str(getattr(t, "key", "") or ""), str(getattr(t, "value", "") or "")) for t in tags]


def _passed_roles(api: str, request: Any, place: Place) -> Iterable[Demand]:
    """Who gives a task, an instance or a service of AWS' a role must be allowed to pass it on; a name alone is
    that of one of the account's own."""
    for path, service in _ROLES.get(api, ()):
        role = request
        for member in path:
            role = getattr(role, member, None)
        if isinstance(role, str) and role:
            arn = role if role.startswith("arn:") else f"arn:aws:iam::{place.account}:role/{role}"
            yield Demand("iam:PassRole", arn, {"iam:passedtoservice": (service,)})


def _specified(request: Any) -> list[Any]:
    return [tag for each in getattr(request, "tag_specifications", None) or () for tag in each.tags or ()]


def _tagging(api: str, request: Any, place: Place, context: dict[str, tuple[str, ...]]) -> Iterable[Demand]:
    """Who makes something of EC2's with tags must be allowed to tag such things."""
    if api == "ec2":
        for each in getattr(request, "tag_specifications", None) or ():
            yield Demand("ec2:CreateTags", place.arn("ec2", f"{each.resource_type}/*"), context)


def _texts(request: Any, *members: str) -> list[str]:
    """The values of these members that the request has; a list gives each of its own."""
    found: list[str] = []
    for member in members:
        value = getattr(request, member, None)
        if isinstance(value, str) and value:
            found.append(value)
        elif isinstance(value, list):
            found += [one for one in value if isinstance(one, str)]
    return found


def _last(reference: str) -> str:
    """The name in an ARN, or the name itself. Operations look a name up with the caller, whatever account, region and
    cluster an ARN tells of: what is judged must be what is found."""
    return reference.rsplit("/", 1)[-1]


def _here(service: str, arn: str, place: Place) -> str:
    """What an ARN names, with the caller: see `_last`."""
    parts = arn.split(":", 5)
    return place.arn(service, parts[5]) if len(parts) == 6 else arn


def _cluster(reference: str, place: Place) -> str:
    return place.arn("ecs", f"cluster/{_last(reference) or 'default'}")


def _in_cluster(kind: str, names: list[str], request: Any, place: Place) -> list[str]:
    cluster = _last(getattr(request, "cluster", None) or "default")
    return [place.arn("ecs", f"{kind}/{cluster}/{_last(name)}") for name in names]


def _task_sets(request: Any, place: Place) -> list[str]:
    """The sets that are named; where none is (CreateTaskSet), any of the service."""
    (service,) = _in_cluster("task-set", _texts(request, "service"), request, place) or [""]
    named = [f"ecs-svc/{_last(one)}" for one in _texts(request, "task_set", "task_sets")]
    return [f"{service}/{one}" for one in named or ["*"]]


def _ecs(operation: str, request: Any, place: Place) -> list[str]:
    if operation in ("RunTask", "StartTask", "DescribeTaskDefinition", "DeregisterTaskDefinition"):
        return [_definition(name, place) for name in _texts(request, "task_definition")]
    if operation == "RegisterTaskDefinition":
        return [place.arn("ecs", f"task-definition/{name}:*") for name in _texts(request, "family")]
    if operation == "DeleteTaskDefinitions":
        return [_definition(name, place) for name in _texts(request, "task_definitions")]
    if operation in _ON_SERVICES:
        return _in_cluster("service", _texts(request, "service_name", "service", "services"), request, place)
    if operation.endswith("ExpressGatewayService"):
        named = _in_cluster("service", _texts(request, "service_name") or ["*"], request, place)
        return [_here("ecs", arn, place) for arn in _texts(request, "service_arn")] or named
    if operation in ("StopTask", "DescribeTasks", "ExecuteCommand", "GetTaskProtection", "UpdateTaskProtection"):
        return _in_cluster("task", _texts(request, "task", "tasks"), request, place)
    if operation.endswith(("TaskSet", "TaskSets")):
        return _task_sets(request, place)
    if operation.endswith(("ServiceDeployment", "ServiceDeployments", "ServiceRevisions")):
        arns = _texts(request, "service_deployment_arn", "service_deployment_arns", "service_revision_arns")
        return [_here("ecs", arn, place) for arn in arns]
    if "Gateway" in operation:
        named = [place.arn("ecs", f"gateway/{_last(name)}") for name in _texts(request, "name", "names", "gateway")]
        return named + [_here("ecs", arn, place) for arn in _texts(request, "gateway_route_arn")]
    if operation.endswith(("CapacityProvider", "DescribeCapacityProviders")):
        providers = _texts(request, "name", "capacity_provider", "capacity_providers")
        return [place.arn("ecs", f"capacity-provider/{_last(name)}") for name in providers]
    if operation in ("TagResource", "UntagResource", "ListTagsForResource"):
        return [_here("ecs", arn, place) for arn in _texts(request, "resource_arn")]
    if operation in ("DescribeContainerInstances", "DeregisterContainerInstance", "UpdateContainerInstancesState"):
        names = _texts(request, "container_instance", "container_instances")
        return _in_cluster("container-instance", names, request, place)
    if operation in _ON_CLUSTERS:
        names = _texts(request, "cluster_name", "cluster", "clusters") or ["default"]
        return [_cluster(name, place) for name in names]
    return []


_ON_SERVICES = frozenset(
    ("CreateService", "UpdateService", "DeleteService", "DescribeServices", "ListServiceDeployments",
     "UpdateServicePrimaryTaskSet")
)  # fmt: skip
_ON_CLUSTERS = frozenset(
    ("CreateCluster", "DeleteCluster", "DescribeClusters", "UpdateCluster", "UpdateClusterSettings",
     "PutClusterCapacityProviders", "ListContainerInstances")
)  # fmt: skip


def _definition(reference: str, place: Place) -> str:
    name = _last(reference)
    return place.arn("ecs", f"task-definition/{name}" if ":" in name else f"task-definition/{name}:*")


def _ecr(operation: str, request: Any, place: Place) -> list[str]:
    account = getattr(request, "registry_id", None) or place.account
    names = _texts(request, "repository_name", "repository_names")
    arns = [f"arn:aws:ecr:{place.region}:{account}:repository/{name}" for name in names]
    return [*arns, *_texts(request, "resource_arn")]


def _logs(operation: str, request: Any, place: Place) -> list[str]:
    streams = _texts(request, "log_stream_name") or [""]
    names = _texts(request, "log_group_name", "log_group_names", "log_group_identifier", "log_group_identifiers")
    groups = [_here("logs", name.removesuffix(":*"), place) if name.startswith("arn:")
              else place.arn("logs", f"log-group:{name}") for name in names]  # fmt: skip
    return [*(f"{group}:log-stream:{stream}" for group in groups for stream in streams),
            *(_here("logs", arn.removesuffix(":*"), place) for arn in _texts(request, "resource_arn"))]  # fmt: skip


def _secretsmanager(operation: str, request: Any, place: Place) -> list[str]:
    names = _texts(request, "secret_id", "secret_id_list")
    if operation == "CreateSecret":
        names = _texts(request, "name")
    return [n if n.startswith("arn:") else place.arn("secretsmanager", f"secret:{n}") for n in names]


def parameter_arn(name: str, place: Place) -> str:
    """A parameter's ARN; its leading slash is the ARN's own. A version or label after a colon is not part of it."""
    if name.startswith("arn:"):
        name = name.partition(":parameter/")[2]
    return place.arn("ssm", f"parameter/{name.removeprefix('/').split(':', 1)[0]}")


def _ssm(operation: str, request: Any, place: Place) -> list[str]:
    return [parameter_arn(name, place) for name in _texts(request, "name", "names", "path", "resource_id")]


def _iam(operation: str, request: Any, place: Place) -> list[str]:
    roles = [f"arn:aws:iam::{place.account}:role/{name}" for name in _texts(request, "role_name")]
    if roles:
        return roles
    policies = [f"arn:aws:iam::{place.account}:policy/{name}" for name in _texts(request, "policy_name")]
    return policies or _texts(request, "policy_arn")


def _sts(operation: str, request: Any, place: Place) -> list[str]:
    return _texts(request, "role_arn")


def _apprunner(operation: str, request: Any, place: Place) -> list[str]:
    """What is made has no id yet: it is asked for under its name with any id."""
    found = _texts(request, "service_arn", "auto_scaling_configuration_arn", "resource_arn")
    for kind, member in (("service", "service_name"), ("autoscalingconfiguration", "auto_scaling_configuration_name")):
        if operation.startswith("Create"):
            found += [place.arn("apprunner", f"{kind}/{name}/*") for name in _texts(request, member)]
    return found


def _scaling(operation: str, request: Any, place: Place) -> list[str]:
    """A target has an id, which requests don't say: its owner puts it in. The describing ones are on `*`."""
    if operation.startswith("Describe"):
        return []
    return _texts(request, "resource_arn") or [place.arn("application-autoscaling", "scalable-target/*")]


def _cloudwatch(operation: str, request: Any, place: Place) -> list[str]:
    if "Alarm" in operation and operation != "DescribeAlarmsForMetric":
        names = _texts(request, "alarm_name", "alarm_names") or ["*"]
        return [place.arn("cloudwatch", f"alarm:{name}") for name in names]
    return _texts(request, "resource_arn")


def _ec2(operation: str, request: Any, place: Place) -> list[str]:
    """A group that is named by its name has an id that only its owner knows: any, until it is put in."""
    if operation.startswith("Describe"):
        return []
    if operation in ("CreateTags", "DeleteTags"):
        kinds = {"sg": "security-group", "sgr": "security-group-rule"}
        named = [(each.partition("-")[0], each) for each in _texts(request, "resources")]
        return [place.arn("ec2", f"{kinds.get(kind, '*')}/{name}") for kind, name in named]
    groups = [place.arn("ec2", f"security-group/{name}") for name in _texts(request, "group_id") or ["*"]]
    if operation == "CreateSecurityGroup":
        vpc = getattr(request, "vpc_id", None) or vpc_id(place.account, place.region)
        groups.append(place.arn("ec2", f"vpc/{vpc}"))
    return groups


def _map_arn(kind: str, name: str, place: Place) -> str:
    return place.arn("servicediscovery", f"{kind}/{_last(name)}")


def _servicediscovery(operation: str, request: Any, place: Place) -> list[str]:
    tagged = _texts(request, "resource_arn")
    found = [_map_arn("service" if _last(arn).startswith("srv-") else "namespace", arn, place) for arn in tagged]
    found += [_map_arn("service", name, place) for name in _texts(request, "service_id")]
    if operation == "CreateService":
        found += [_map_arn("namespace", name, place) for name in _texts(request, "namespace_id")]
        found.append(place.arn("servicediscovery", "service/*"))
    elif operation != "GetOperation":
        kind = "service" if operation.endswith("Service") else "namespace"
        found += [_map_arn(kind, name, place) for name in _texts(request, "id")]
    return found


_RESOURCES: dict[str, Callable[[str, Any, Place], list[str]]] = {
    "apprunner": _apprunner,
    "application_autoscaling": _scaling,
    "cloudwatch": _cloudwatch,
    "ec2": _ec2,
    "ecs": _ecs,
    "ecr": _ecr,
    "logs": _logs,
    "secretsmanager": _secretsmanager,
    "servicediscovery": _servicediscovery,
    "ssm": _ssm,
    "iam": _iam,
    "sts": _sts,
}

_KEYS: dict[str, Callable[[Any, Place], list[tuple[str, str]]]] = {
    "application_autoscaling": _scaling_keys,
    "cloudwatch": _metric_keys,
    "ecs": _ecs_keys,
    "servicediscovery": _map_keys,
}

_ROLES: dict[str, tuple[tuple[tuple[str, ...], str], ...]] = {
    "ecs": (
        (("task_role_arn",), ECS_TASKS),
        (("execution_role_arn",), ECS_TASKS),
        (("infrastructure_role_arn",), _ECS),
        (("overrides", "task_role_arn"), ECS_TASKS),
        (("overrides", "execution_role_arn"), ECS_TASKS),
    ),
    "apprunner": (
        (("instance_configuration", "instance_role_arn"), APP_RUNNER_TASKS),
        (("source_configuration", "authentication_configuration", "access_role_arn"), APP_RUNNER_BUILD),
    ),
    "application_autoscaling": ((("role_arn",), _SCALING),),
    "ssm": ((("iam_role",), _SSM),),
}
"""Where requests hand over roles, and to whom."""
