"""What RunTask, StartTask, CreateService and UpdateService refuse alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from contracts.aws import ecs
from contracts.records.scheduler import TaskDefinition
from services.scheduler.decisions.task_definitions import check_environment_files, check_resources
from services.shared.errors import AwsError


def invalid(message: str) -> AwsError:
    """InvalidParameterException with this message."""
    return AwsError("InvalidParameterException", message)


def check_support(definition: TaskDefinition, launch_type: str) -> None:
    """Refuse a launch type that the definition was not made for."""
    wanted = definition.definition.get("requiresCompatibilities") or definition.compatibilities
    if launch_type not in wanted:
        raise invalid(f"Task definition does not support launch_type {launch_type}.")


def check_network(definition: TaskDefinition, network: Mapping[str, Any]) -> None:
    """awsvpc needs a network configuration, the other modes must have none."""
    given = network.get("awsvpcConfiguration")
    if definition.definition.get("networkMode") == "awsvpc":
        if given is None:
            raise invalid("Network Configuration must be provided when networkMode 'awsvpc' is specified.")
        if not 1 <= len(given.get("subnets") or ()) <= 16:
            raise invalid("subnets must have between 1 and 16 items.")
        if len(given.get("securityGroups") or ()) > 5:
            raise invalid("securityGroups can have at most 5 items.")
    elif given is not None:
        raise invalid("Network Configuration is not valid for the given networkMode of this task definition.")


def groups_named(network: Mapping[str, Any]) -> list[str]:
    """The security groups that a network configuration names."""
    return list((network.get("awsvpcConfiguration") or {}).get("securityGroups") or ())


def no_group(group: str) -> AwsError:
    """What a request is answered that names a security group which does not exist."""
    return invalid(
        f"Error retrieving security group information for [{group}]: The security group '{group}' does not exist "
        f"(ErrorCode: InvalidGroup.NotFound). ec2 create-security-group makes one, with this very id when it has the "
        f"tag roadstead:group-id={group}."
    )


def check_overrides(definition: TaskDefinition, overrides: Mapping[str, Any]) -> None:
    """Overrides name containers of the definition, and sizes are numbers."""
    known = {c["name"] for c in definition.definition["containerDefinitions"]}
    for override in overrides.get("containerOverrides") or ():
        if override.get("name") not in known:
            raise invalid(
                f"Override for container named {override.get('name')} is not a container in the TaskDefinition."
            )
    for override in overrides.get("containerOverrides") or ():
        given = msgspec.convert(override.get("resourceRequirements") or [], list[ecs.ResourceRequirement])
        check_resources(override["name"], given)
        files = msgspec.convert(override.get("environmentFiles") or [], list[ecs.EnvironmentFile])
        check_environment_files(override["name"], files)
    for name in ("cpu", "memory"):
        if overrides.get(name) is not None and not str(overrides[name]).isdecimal():
            raise invalid(f"Invalid '{name}' override: {overrides[name]}.")
