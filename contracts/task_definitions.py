"""What no node here can do for a task definition: the scheduler refuses it when it is registered, an agent when it
comes upon one that was registered before. Definitions are plain JSON in the ECS API's wire names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

KEPT_LOG_DRIVERS = ("json-file", "none")
"""Drivers whose output stays on the node."""

_AWSLOGS_OPTIONS = frozenset(
    (
        "awslogs-group",
        "awslogs-region",
        "awslogs-stream-prefix",
        "awslogs-stream",
        "awslogs-create-group",
        "mode",
        "max-buffer-size",
    )
)
_OF_TASK = {
    "proxyConfiguration": "a proxy",
    "inferenceAccelerators": "inference accelerators",
    "enableFaultInjection": "fault injection",
}
_OF_VOLUME = ("fsxWindowsFileServerVolumeConfiguration", "s3filesVolumeConfiguration", "configuredAtLaunch")
_OF_CONTAINER = {
    "firelensConfiguration": "FireLens",
    "credentialSpecs": "credential specs",
    "dockerSecurityOptions": "Docker security options",
    "disableNetworking": "disabled networking of one container",
}
_INSTEAD = {"firelensConfiguration": ": have containers log with the driver awslogs"}


def unsupported(definition: Mapping[str, Any]) -> str:
    """What the first such thing is, in a sentence that names the member; empty when there is none."""
    for member, noun in _OF_TASK.items():
        if definition.get(member):
            return f"{noun} ({member}) can not be had from Roadstead."
    system = (definition.get("runtimePlatform") or {}).get("operatingSystemFamily") or ""
    if system.startswith("WINDOWS"):
        return f"the operating system {system} (runtimePlatform) can not be had from Roadstead: every node is Linux."
    for volume in definition.get("volumes") or ():
        if why := _volume(volume):
            return f"volume '{volume.get('name')}': {why}"
    for container in definition.get("containerDefinitions") or ():
        if why := _container(container):
            return f"container '{container.get('name')}': {why}"
    return ""


def environment_files(container: Mapping[str, Any]) -> list[str]:
    """The ARNs of the objects in S3 that a container's (or an override's) environment files are, in their order."""
    return [file["value"] for file in container.get("environmentFiles") or ()]


def registry_secret(container: Mapping[str, Any], account: str, region: str) -> str:
    """The ARN of the secret that has the login of the registry that a container's image is pulled from; empty: none.
    The name alone means one of the task's account and region (ECS API reference, RepositoryCredentials)."""
    given = (container.get("repositoryCredentials") or {}).get("credentialsParameter") or ""
    return (
        given if not given or given.startswith("arn:") else f"arn:aws:secretsmanager:{region}:{account}:secret:{given}"
    )


def _volume(volume: Mapping[str, Any]) -> str:
    for member in _OF_VOLUME:
        if volume.get(member):
            return f"{member} is not supported by Roadstead."
    efs = volume.get("efsVolumeConfiguration")
    if efs is None:
        return ""
    identity, inside = efs.get("fileSystemId") or "", efs.get("rootDirectory") or "/"
    authorization = efs.get("authorizationConfig") or {}
    if authorization.get("accessPointId") or authorization.get("iam") == "ENABLED":
        return "access points and IAM of EFS (authorizationConfig) are not supported by Roadstead."
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", identity):
        return f"'{identity}' is no fileSystemId."
    if ".." in inside.split("/") or "\0" in inside:
        return f"the rootDirectory '{inside}' leads out of the file system."
    return ""


def _container(container: Mapping[str, Any]) -> str:
    for member, noun in _OF_CONTAINER.items():
        if container.get(member):
            return f"{noun} ({member}) can not be had from Roadstead{_INSTEAD.get(member, '')}."
    if (container.get("linuxParameters") or {}).get("devices"):
        return "devices (linuxParameters) are not supported by Roadstead."
    return _logging(container.get("logConfiguration") or {})


def _logging(given: Mapping[str, Any]) -> str:
    driver, options = given.get("logDriver"), given.get("options") or {}
    if not driver or driver in KEPT_LOG_DRIVERS:
        return ""
    if driver != "awslogs":
        return f"the log driver '{driver}' is not supported by Roadstead: awslogs is, json-file keeps logs on the node."
    unknown = sorted(set(options) - _AWSLOGS_OPTIONS)
    if unknown:
        return f"Log driver awslogs disallows options: {', '.join(unknown)}."
    if not options.get("awslogs-group"):
        return "Log driver awslogs requires options: awslogs-group."
    return ""
