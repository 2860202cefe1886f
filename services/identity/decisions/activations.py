"""Activations, and the machines that join with them.

https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_CreateActivation.html
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable

from contracts.records.identity import Activation, ManagedNode
from contracts.rpc.identity import RegisterNode
from services.shared.errors import AwsError
from services.shared.managed_nodes import digest

DAY_S = 24 * 3600.0
LONGEST_S = 30 * DAY_S
CODE_LENGTH = 20
INVALID = "InvalidActivation"
_CLUSTER = re.compile(r"[A-Za-z0-9_-]{1,255}\Z")
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


def expiry(asked: float | None, now: float) -> float:
    """When an activation ends, in seconds since the epoch: a day from now unless said otherwise, within 30 days.
    Raises InvalidParameters."""
    if asked is None:
        return now + DAY_S
    if not now < asked <= now + LONGEST_S:
        raise AwsError("InvalidParameters", "The expiration date must be in the future and within 30 days.")
    return asked


def node_name(activation: str, secret_digest: str) -> str:
    """What a machine is called, as Systems Manager calls managed instances: the same at each try."""
    return f"mi-{hashlib.sha256(f'{activation}/{secret_digest}'.encode()).hexdigest()[:17]}"


def check(request: RegisterNode) -> None:
    """Refuse what can't be a registration. Raises ValidationException, naming the member."""
    if not _CLUSTER.match(request.cluster):
        raise AwsError("ValidationException", f"cluster: {request.cluster!r} is no cluster's name")
    if not _DIGEST.match(request.secret_digest):
        raise AwsError("ValidationException", "secret_digest: the SHA-256 of the machine's secret, in hexadecimal")
    if len(request.hostname) > 255:
        raise AwsError("ValidationException", "hostname: at most 255 characters")


def admit(
    activation: Activation | None, taken: Iterable[ManagedNode], request: RegisterNode, now: float
) -> ManagedNode:
    """The machine in its slot: the one it had, when it asks again, else the first free one. Raises InvalidActivation
    for a code that is wrong, too late, or has let in all that it may. Slots are never given out twice."""
    shown = digest(request.activation_code)
    if activation is None or not hmac.compare_digest(shown, activation.code_digest):
        raise AwsError(INVALID, "The activation is not valid: its ID or its code is wrong, or it was deleted.")
    taken = list(taken)
    known = next((node for node in taken if node.secret_digest == request.secret_digest), None)
    if known is not None:
        return known
    if now >= activation.expires_at:
        raise AwsError(INVALID, "The activation has expired.")
    if len(taken) >= activation.limit:
        raise AwsError(INVALID, f"The activation has let in the {activation.limit} machines that it may.")
    return ManagedNode(
        account=activation.account,
        region=activation.region,
        activation=activation.activation,
        slot=max((node.slot for node in taken), default=0) + 1,
        node=node_name(activation.activation, request.secret_digest),
        cluster=request.cluster,
        secret_digest=request.secret_digest,
        registered_at=now,
        hostname=request.hostname,
    )
