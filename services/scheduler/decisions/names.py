"""Names, ids and ARNs as ECS has them (the long format with the cluster's name in it).

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-account-settings.html#ecs-resource-ids
"""

from __future__ import annotations

import hashlib
import os
import re

from services.shared.errors import AwsError

DEFAULT_CLUSTER = "default"
NAME = re.compile(r"[A-Za-z0-9_-]{1,255}\Z")


def new_id() -> str:
    """A fresh id of a task, 32 hex digits."""
    return os.urandom(16).hex()


def new_deployment_id() -> str:
    """A fresh id of a deployment, `ecs-svc/` and 19 digits."""
    return f"ecs-svc/{int.from_bytes(os.urandom(8), 'big') % (9 * 10**18) + 10**18:019d}"


def derived_id(*parts: str) -> str:
    """The id that always comes of these parts: 32 hex digits."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def container_instance_id(node: str) -> str:
    """The container instance that a node is shown as."""
    return derived_id("node", node)


def event_uuid() -> str:
    """A fresh id in UUID form, as service events have it."""
    text = os.urandom(16).hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def arn(account: str, region: str, kind: str, *path: str) -> str:
    """`arn:aws:ecs:<region>:<account>:<kind>/<path…>`."""
    return f"arn:aws:ecs:{region}:{account}:{kind}/{'/'.join(path)}"


DAEMON = "daemon."
"""What the record of a daemon, and of a daemon task definition, has before its name: no service and no family of a task
definition can be called so, and the two are listed apart."""


def daemon_name(record_name: str) -> str | None:
    """The name of a daemon (or of its task definitions' family) out of its record's, None when it is none."""
    return record_name.removeprefix(DAEMON) if record_name.startswith(DAEMON) else None


def task_definition_arn(account: str, region: str, family: str, revision: int) -> str:
    """The ARN of one revision, of a task definition or a daemon task definition."""
    if family.startswith(DAEMON):
        return f"arn:aws:ecs:{region}:{account}:daemon-task-definition/{family.removeprefix(DAEMON)}:{revision}"
    return f"arn:aws:ecs:{region}:{account}:task-definition/{family}:{revision}"


def last_part(reference: str) -> str:
    """A name or id out of itself or its ARN (old or long format)."""
    return reference.rsplit("/", 1)[-1]


def service_name(reference: str) -> str:
    """A service's name, given its name or its ARN; nobody's for the record of a daemon."""
    name = last_part(reference)
    return name if daemon_name(name) is None else ""


def cluster_name(reference: str | None) -> str:
    """A cluster's name, given its name, its ARN or nothing (`default`)."""
    return last_part(reference) if reference else DEFAULT_CLUSTER


def family_and_revision(reference: str) -> tuple[str, int | None]:
    """`family`, `family:revision` or an ARN, as its parts. Raises ClientException on a revision that is no number."""
    name = last_part(reference)
    family, separator, revision = name.partition(":")
    if not separator:
        return family, None
    if not revision.isdecimal():
        raise AwsError("ClientException", f"Invalid revision number. Number: {revision}")
    return family, int(revision)


def split_arn(reference: str) -> tuple[str, list[str]]:
    """The kind and the path of an ECS ARN. Raises InvalidParameterException when it is none."""
    parts = reference.split(":", 5)
    if len(parts) != 6 or parts[0] != "arn" or parts[2] != "ecs" or "/" not in parts[5]:
        raise AwsError("InvalidParameterException", "The specified resource ARN is invalid.")
    kind, *path = parts[5].split("/")
    return kind, path
