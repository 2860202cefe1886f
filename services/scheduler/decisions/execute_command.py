"""What ExecuteCommand is asked for, and where a session is logged. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from services.shared.errors import AwsError

NOT_ENABLED = (
    "InvalidParameterException",
    "The execute command failed because execute command was not enabled when the task was run or the execute command "
    "agent isn't running. Wait and try again or run a new task with execute command enabled and try again.",
)


def read_command(command: str) -> list[str]:
    """The command as its arguments: no shell reads it, as with ECS. Raises InvalidParameterException."""
    try:
        argv = shlex.split(command)
    except ValueError as error:
        raise AwsError("InvalidParameterException", f"command can't be read: {error}.") from None
    if not argv:
        raise AwsError("InvalidParameterException", "command must not be empty.")
    if "\0" in command:
        raise AwsError("InvalidParameterException", "command must not have a null character.")
    return argv


def choose_container(names: Sequence[str], wanted: str | None) -> str:
    """The container that is meant; it need not be named where there is one. Raises InvalidParameterException."""
    if wanted is None:
        if len(names) != 1:
            raise AwsError("InvalidParameterException", "container must be given: the task has several containers.")
        return names[0]
    if wanted not in names:
        raise AwsError("InvalidParameterException", f"container {wanted} is not in the task.")
    return wanted


def log_group(cluster: Mapping[str, Any]) -> str:
    """The log group that a cluster's executeCommandConfiguration (`request` of its record) sends sessions to; empty:
    none. With DEFAULT a session is not logged anew: there is no awslogs configuration that it would take over."""
    return _log_configuration(cluster).get("cloudWatchLogGroupName") or ""


def log_object(cluster: Mapping[str, Any], session: str) -> tuple[str, str]:
    """The bucket in S3 that a session is logged to, and the object's key, as Session Manager names it: `session.log`
    under the prefix. Both empty: none."""
    given = _log_configuration(cluster)
    bucket = given.get("s3BucketName") or ""
    prefix = (given.get("s3KeyPrefix") or "").strip("/")
    return (bucket, f"{prefix}{'/' if prefix else ''}{session}.log") if bucket else ("", "")


def _log_configuration(cluster: Mapping[str, Any]) -> Mapping[str, Any]:
    configuration = (cluster.get("configuration") or {}).get("executeCommandConfiguration") or {}
    return (configuration.get("logConfiguration") or {}) if configuration.get("logging") == "OVERRIDE" else {}
