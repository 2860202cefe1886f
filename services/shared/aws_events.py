"""Telling what happened in EventBridge's form."""

from __future__ import annotations

import msgspec

from contracts.records.events import AwsEvent
from contracts.subjects import aws_event
from services.shared import telemetry
from services.shared.bus import Bus


async def tell(bus: Bus, event: AwsEvent) -> None:
    """Publish an event, durably; the stream refuses one that it has. Raises StateUnavailable."""
    subject = aws_event(event.account, event.region, event.source, event.detail_type)
    headers = telemetry.inject({"Nats-Msg-Id": event.id})
    await bus.publish(subject, msgspec.json.encode(event), dict(headers))
