"""What the scheduler stores: clusters, task definitions, tasks and services.

AWS shapes (a task definition's members, a service's network configuration …) are kept as plain JSON in the wire's
own names, under `definition` and `request`, so that every member is given back.
"""

from contracts.kinds import Kind
from contracts.records.scheduler.capacity import CapacityProvider, ContainerInstance, SpotReclaim
from contracts.records.scheduler.definitions import AccountSetting, Cluster, TaskDefinition
from contracts.records.scheduler.deployments import Deployment, DeploymentStage, HookRun, Rollout, ServiceEvent, TaskSet
from contracts.records.scheduler.fronts import Connector, Express, ExpressRevision, ExpressScaling, Route
from contracts.records.scheduler.gateways import Association, Gateway
from contracts.records.scheduler.services import Service
from contracts.records.scheduler.tasks import Task

__all__ = [
    "ACCOUNT_SETTING",
    "CAPACITY_PROVIDER",
    "CLUSTER",
    "CONTAINER_INSTANCE",
    "GATEWAY",
    "KINDS",
    "SERVICE",
    "SPOT_RECLAIM",
    "TASK",
    "TASK_DEFINITION",
    "AccountSetting",
    "Association",
    "CapacityProvider",
    "Cluster",
    "Connector",
    "ContainerInstance",
    "Deployment",
    "DeploymentStage",
    "Express",
    "ExpressRevision",
    "ExpressScaling",
    "Gateway",
    "HookRun",
    "Rollout",
    "Route",
    "Service",
    "ServiceEvent",
    "SpotReclaim",
    "Task",
    "TaskDefinition",
    "TaskSet",
]

CLUSTER = Kind("scheduler", "cluster", Cluster, ("account", "region", "name"))
TASK_DEFINITION = Kind("scheduler", "task_definition", TaskDefinition, ("account", "region", "family", "revision"))
TASK = Kind("scheduler", "task", Task, ("account", "region", "cluster", "node", "id"))
SERVICE = Kind("scheduler", "service", Service, ("account", "region", "cluster", "name"))
CAPACITY_PROVIDER = Kind("scheduler", "capacity_provider", CapacityProvider, ("account", "region", "name"))
GATEWAY = Kind("scheduler", "gateway", Gateway, ("account", "region", "name"))
CONTAINER_INSTANCE = Kind(
    "scheduler", "container_instance", ContainerInstance, ("account", "region", "cluster", "node")
)
SPOT_RECLAIM = Kind("scheduler", "spot_reclaim", SpotReclaim, ("node",))
ACCOUNT_SETTING = Kind("scheduler", "account_setting", AccountSetting, ("account", "region", "principal", "name"))

KINDS = (
    CLUSTER, TASK_DEFINITION, TASK, SERVICE, CAPACITY_PROVIDER, CONTAINER_INSTANCE, SPOT_RECLAIM, ACCOUNT_SETTING,
    GATEWAY,
)  # fmt: skip
