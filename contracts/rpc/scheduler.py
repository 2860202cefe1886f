"""What the scheduler does for other services."""

from typing import Any

import msgspec

from contracts.rpc.command import Command


class SetDesiredCount(msgspec.Struct, kw_only=True, frozen=True):
    """A service is to have this many tasks. The number is absolute, so asking twice does what asking once does.

    `cluster` and `service` are names. `cause` says who wants it and why, in one line of ASCII; it stands in the
    header `Cause` of the change. Errors are ECS': ClusterNotFoundException, ServiceNotFoundException,
    ServiceNotActiveException, InvalidParameterException.
    """

    account: str
    region: str
    cluster: str
    service: str
    desired_count: int
    cause: str = ""


class DesiredCountSet(msgspec.Struct, kw_only=True, frozen=True):
    """The count that was wanted before, and the one that is wanted now."""

    previous: int
    desired_count: int


SET_DESIRED_COUNT = Command("scheduler", "set_desired_count", SetDesiredCount, DesiredCountSet)


class PutWorkload(msgspec.Struct, kw_only=True, frozen=True):
    """Run `desired_count` tasks of `definition` under this name, from now on: make the workload, or change it.

    `definition` is RegisterTaskDefinition's wire JSON without its family. The workload is an ECS service in the hidden
    cluster `apprunner` of the account. The same request twice is one workload. `stop_first` are ids of tasks that are
    the first to stop when there are more than are wanted. `service_registries` as CreateService has them.
    """

    account: str
    region: str
    name: str
    definition: dict[str, Any]
    desired_count: int
    network_configuration: dict[str, Any] = {}
    tags: dict[str, str] = {}
    stop_first: list[str] = []
    service_registries: list[dict[str, Any]] = []


class WorkloadPut(msgspec.Struct, kw_only=True, frozen=True):
    """Where the workload is found: names of its cluster and service, and its task definition as `family:revision`."""

    cluster: str
    service: str
    task_definition: str


class DeleteWorkload(msgspec.Struct, kw_only=True, frozen=True):
    """Let a workload's tasks stop, and forget it. No error when there is none."""

    account: str
    region: str
    name: str


class WorkloadDeleted(msgspec.Struct, kw_only=True, frozen=True):
    """Whether there was one."""

    found: bool


PUT_WORKLOAD = Command("scheduler", "put_workload", PutWorkload, WorkloadPut)

DELETE_WORKLOAD = Command("scheduler", "delete_workload", DeleteWorkload, WorkloadDeleted)

WORKLOADS_CLUSTER = "apprunner"

COMMANDS = (SET_DESIRED_COUNT, PUT_WORKLOAD, DELETE_WORKLOAD)
