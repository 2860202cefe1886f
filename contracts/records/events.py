"""What happened, in the form in which EventBridge delivers it, and who is told of it over HTTP."""

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
