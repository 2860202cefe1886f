"""Names, ids and ARNs as App Runner has them.

https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsapprunner.html#awsapprunner-resources-for-iam-policies
"""

from __future__ import annotations

import base64
import hashlib
import re
import uuid
from collections.abc import Callable, Sequence
from typing import TypeVar

from contracts.records.app_runner_gateway import AppService, AutoScaling
from services.shared.errors import AwsError

TOP = "localhost"
"""Everything below is this machine, for those who resolve names as RFC 6761 has it."""
DOMAIN = f"apprunner.{TOP}"
DEFAULT_SCALING = "DefaultConfiguration"
_SCALING = re.compile(r"arn:aws:apprunner:([^:]*):(\d{12}):autoscalingconfiguration/([^/]+)(?:/(\d+)(?:/(\w+))?)?\Z")
_SERVICE = re.compile(r"arn:aws:apprunner:([^:]*):(\d{12}):service/([^/]+)/([0-9a-f]{32})\Z")

T = TypeVar("T")


def new_id() -> str:
    """A fresh id of a service: 32 hex digits."""
    return uuid.uuid4().hex


def new_operation_id() -> str:
    """A fresh id of an operation: a UUID."""
    return str(uuid.uuid4())


def new_host(region: str) -> str:
    """A fresh host name of a service: ten letters and digits below its region's domain."""
    label = base64.b32encode(uuid.uuid4().bytes).decode().lower()[:10]
    return f"{label}.{region}.{DOMAIN}"


def service_arn(service: AppService) -> str:
    """`arn:aws:apprunner:<region>:<account>:service/<name>/<id>`."""
    return f"arn:aws:apprunner:{service.region}:{service.account}:service/{service.name}/{service.id}"


def service_id(arn: str, account: str, region: str) -> str | None:
    """The id in a service's ARN, if it is one of this account and region."""
    found = _SERVICE.match(arn)
    return found[4] if found and (found[1], found[2]) == (region, account) else None


def scaling_arn(account: str, region: str, name: str, revision: int) -> str:
    """The ARN of one revision. The last part is always the same for the same revision."""
    digest = hashlib.sha256(f"{account}/{region}/{name}/{revision}".encode()).hexdigest()[:32]
    return f"arn:aws:apprunner:{region}:{account}:autoscalingconfiguration/{name}/{revision}/{digest}"


def arn_of(scaling: AutoScaling) -> str:
    """The ARN of a configuration."""
    return scaling_arn(scaling.account, scaling.region, scaling.name, scaling.revision)


def scaling_name(arn: str, account: str, region: str) -> tuple[str, int | None] | None:
    """Name and revision (None: the latest) in a configuration's ARN, whole or without its last parts; None when it is
    none of this account and region."""
    found = _SCALING.match(arn)
    if found is None or (found[1], found[2]) != (region, account):
        return None
    if found[5] and scaling_arn(account, region, found[3], int(found[4])) != arn:
        return None
    return found[3], int(found[4]) if found[4] else None


def workload(service: AppService, number: int) -> str:
    """The name of the workload that runs a revision's instances. Services come again with an old one's name, so the
    service's id is part of it."""
    return f"{prefix(service)}{number}"


def prefix(service: AppService) -> str:
    """What the names of all of a service's workloads begin with."""
    return f"{service.name}-{service.id[:8]}-"


def log_group(service: AppService, kind: str) -> str:
    """The log group of a service; `kind`: application | service."""
    return f"/aws/apprunner/{service.name}/{service.id}/{kind}"


def page(
    found: Sequence[T], key: Callable[[T], str], size: int | None, token: str | None, most: int = 20
) -> tuple[list[T], str | None]:
    """The page that follows a token, and the next token; `found` in the order of `key`. The token remembers a place and
    not an item, which may be gone by the next page. Raises InvalidRequestException."""
    after = ""
    if token:
        try:
            after = base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
        except ValueError:
            raise AwsError("InvalidRequestException", "Invalid NextToken.") from None
    rest = sorted((one for one in found if key(one) > after), key=key)
    shown = rest[: size or most]
    more = len(shown) < len(rest)
    return shown, base64.urlsafe_b64encode(key(shown[-1]).encode()).decode() if more else None
