"""The streams of the platform: one of state for each owner, and what is made of them. Shapes as NATS' API has them."""

from __future__ import annotations

from typing import Any

from contracts.records import KINDS
from contracts.subjects import AWS_EVENTS_STREAM, EVENTS_STREAM, LOGS_STREAM, METRICS_STREAM, TRACES_STREAM

STATE_OWNERS = tuple(sorted({kind.service for kind in KINDS}))

AWS_EVENTS_AGE_S = EVENTS_AGE_S = 7 * 24 * 3600

VERSIONS = 8

_DAY_NS = 24 * 3600 * 1_000_000_000
_MIB = 1024 * 1024


def state_stream(owner: str) -> dict[str, Any]:
    """A service's state: the newest record of each entity, a delete being a message that times out. The few versions
    before it are kept for EVENTS, which copies a moment later (docs/adr/0007-a-few-versions.md)."""
    return {
        "name": f"STATE_{owner.upper()}",
        "subjects": [f"state.{owner}.>"],
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "max_msgs_per_subject": VERSIONS,
        "allow_rollup_hdrs": True,
        "allow_direct": True,
        "allow_msg_ttl": True,
        "allow_atomic": True,
    }


def events_stream() -> dict[str, Any]:
    """Every change of every service, made by NATS out of the state streams: nobody publishes here."""
    return {
        "name": EVENTS_STREAM,
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "max_age": EVENTS_AGE_S * 1_000_000_000,
        "allow_msg_ttl": True,
        "allow_direct": True,
        "sources": [
            {
                "name": f"STATE_{owner.upper()}",
                "subject_transforms": [{"src": f"state.{owner}.>", "dest": f"events.{owner}.>"}],
            }
            for owner in STATE_OWNERS
        ],
    }


def logs_stream() -> dict[str, Any]:
    """What containers wrote. Bounded; the oldest goes first. Doubles are refused by message id."""
    return {
        "name": LOGS_STREAM,
        "subjects": ["logs.>"],
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "max_age": 30 * _DAY_NS,
        "max_bytes": 1024 * _MIB,
        "duplicate_window": 600 * 1_000_000_000,
        "allow_direct": True,
    }


def traces_stream() -> dict[str, Any]:
    """Finished spans of the platform: worth keeping a day, not worth a sync to disk each."""
    return {
        "name": TRACES_STREAM,
        "subjects": ["traces.*"],
        "retention": "limits",
        "storage": "file",
        "persist_mode": "async",
        "discard": "old",
        "max_age": _DAY_NS,
        "max_bytes": 128 * _MIB,
        "allow_direct": True,
    }


def metrics_stream() -> dict[str, Any]:
    """What was measured. Replayed by the monitor when it starts."""
    return {
        "name": METRICS_STREAM,
        "subjects": ["metrics.>"],
        "retention": "limits",
        "storage": "file",
        "persist_mode": "async",
        "discard": "old",
        "max_age": 15 * _DAY_NS,
        "max_bytes": 256 * _MIB,
        "allow_direct": True,
    }


def aws_events_stream() -> dict[str, Any]:
    """What happened, in EventBridge's form: derived from EVENTS, so not worth a sync to disk each. One that is told
    again is refused by its id."""
    return {
        "name": AWS_EVENTS_STREAM,
        "subjects": ["aws.events.>"],
        "retention": "limits",
        "storage": "file",
        "persist_mode": "async",
        "discard": "old",
        "max_age": AWS_EVENTS_AGE_S * 1_000_000_000,
        "max_bytes": 512 * _MIB,
        "duplicate_window": 600 * 1_000_000_000,
        "allow_direct": True,
    }


def all_streams() -> list[dict[str, Any]]:
    """Every stream, in the order they must be made (EVENTS sources those before it)."""
    shared = [events_stream(), logs_stream(), traces_stream(), metrics_stream(), aws_events_stream()]
    return [*(state_stream(o) for o in STATE_OWNERS), *shared]
