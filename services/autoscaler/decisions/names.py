"""Ids, ARNs, resource ids and pages, as Application Auto Scaling has them.

https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsapplicationautoscaling.html
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
import uuid
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from contracts.kinds import Key
from contracts.records.autoscaler import ScalableTarget
from services.shared.errors import AwsError, NotImplementedYet

Item = TypeVar("Item")

DIMENSION = "ecs:service:DesiredCount"
PAGE = 50
_RESOURCE = re.compile(r"service/([A-Za-z0-9_-]{1,255})/([A-Za-z0-9_-]{1,255})\Z")


def invalid(message: str) -> AwsError:
    """The error ValidationException."""
    return AwsError("ValidationException", message)


def check_kind(namespace: str, resource: str | None, dimension: str | None) -> None:
    """Refuse what is no resource, and what is one that Roadstead does not scale. Raises AwsError."""
    if namespace != "ecs":
        reason = f"of the service namespaces only ecs is scaled, not {namespace}"
        raise NotImplementedYet("Application Auto Scaling", "scaling", reason)
    if dimension not in (None, DIMENSION) or (resource is not None and not _RESOURCE.match(resource)):
        raise invalid("Unsupported service namespace, resource type or scalable dimension")


def service_of(resource: str) -> tuple[str, str]:
    """(cluster, service) of a resource id that was checked."""
    _, cluster, service = resource.split("/")
    return cluster, service


def service_key(account: str, region: str, resource: str) -> Key:
    """The key of the ECS service that a resource id means."""
    return (account, region, *service_of(resource))


def where(resource: str, dimension: str = DIMENSION) -> str:
    """How error messages name a target."""
    return f"service namespace: ecs, resource ID: {resource}, scalable dimension: {dimension}"


def target_id() -> str:
    """34 hex digits."""
    return secrets.token_hex(17)


def new_uuid() -> str:
    """A fresh UUID."""
    return str(uuid.uuid4())


def derived_uuid(*parts: str) -> str:
    """The UUID that always comes of these parts."""
    return str(uuid.UUID(bytes=hashlib.sha256("\0".join(parts).encode()).digest()[:16], version=4))


def target_arn(target: ScalableTarget) -> str:
    """A scalable target's ARN."""
    return f"arn:aws:application-autoscaling:{target.region}:{target.account}:scalable-target/{target.id}"


def policy_arn(record: Any) -> str:
    """A scaling policy's ARN, which alarms name as their action."""
    place = f"arn:aws:autoscaling:{record.region}:{record.account}:scalingPolicy:{record.id}"
    return f"{place}:resource/ecs/{record.resource}:policyName/{record.name}"


def action_arn(record: Any) -> str:
    """A scheduled action's ARN."""
    place = f"arn:aws:autoscaling:{record.region}:{record.account}:scheduledAction:{record.id}"
    return f"{place}:resource/ecs/{record.resource}:scheduledActionName/{record.name}"


def role_arn(account: str) -> str:
    """The service-linked role that AWS uses for ECS."""
    return (
        f"arn:aws:iam::{account}:role/aws-service-role/ecs.application-autoscaling.amazonaws.com/"
        "AWSServiceRoleForApplicationAutoScaling_ECSService"
    )


def page(
    items: Sequence[Item], key: Callable[[Item], str], size: int | None, token: str | None
) -> tuple[list[Item], str | None]:
    """At most `size` (50) items after the one that the token names; `items` are in the order of `key`, ascending.

    Raises ValidationException for a size out of 1..50, InvalidNextTokenException for a token that is none.
    """
    if size is not None and not 1 <= size <= PAGE:
        raise invalid(f"MaxResults must be between 1 and {PAGE}")
    after = _decoded(token) if token is not None else None
    rest = [item for item in items if after is None or key(item) > after]
    taken = rest[: size or PAGE]
    more = len(rest) > len(taken)
    return taken, base64.urlsafe_b64encode(key(taken[-1]).encode()).decode() if more else None


def _decoded(token: str) -> str:
    try:
        return base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError, ValueError):
        raise AwsError("InvalidNextTokenException", "The next token is not valid.") from None
