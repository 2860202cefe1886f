"""What happened, in the form in which EventBridge delivers it, and who is told of it over HTTP."""

import hashlib
from datetime import UTC, datetime
from typing import Any

import msgspec

from contracts.kinds import Kind


class AwsEvent(msgspec.Struct, kw_only=True, frozen=True, rename={"detail_type": "detail-type"}):
    """One event, as it lies in the AWS_EVENTS stream until it ages out. It is nobody's state.

    `id` always comes of the change that it tells of, so one that is told twice has the same. `time` is RFC 3339, to the
    second. https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-events-structure.html
    """

    id: str
    detail_type: str
    source: str
    account: str
    time: str
    region: str
    resources: list[str]
    detail: dict[str, Any]
    version: str = "0"


def told(
    source: str,
    detail_type: str,
    where: tuple[str, str],
    at: float,
    resources: list[str],
    detail: dict[str, Any],
    *of: str,
) -> AwsEvent:
    """The event of a change in an account and region (`where`), logged at `at` (seconds since the epoch). Its id comes
    of `of`, which names the change."""
    text = hashlib.sha256("\0".join(of).encode()).hexdigest()
    return AwsEvent(
        id=f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:32]}",
        detail_type=detail_type,
        source=source,
        account=where[0],
        time=datetime.fromtimestamp(int(at), UTC).isoformat().replace("+00:00", "Z"),
        region=where[1],
        resources=resources,
        detail=detail,
    )


class Webhook(msgspec.Struct, kw_only=True, frozen=True):
    """A URL that is told of an account's events that match `pattern` (EventBridge's language; {}: of all).

    How far it was told is remembered by the durable consumer `webhook-<id>` of AWS_EVENTS. `secret` signs what is sent;
    it is sealed.
    """

    account: str
    region: str
    name: str
    id: str
    url: str
    secret: str
    created_at: float
    pattern: dict[str, Any] = {}


WEBHOOK = Kind("events", "webhook", Webhook, ("account", "region", "name"))

KINDS = (WEBHOOK,)
