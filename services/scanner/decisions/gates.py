"""Gates as a person sets them."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from contracts.records.scanner import EVERYWHERE, SEVERITIES, ScanGate

_SCOPE = re.compile(r"repository/[a-z0-9][a-z0-9._/-]{1,255}\Z")
_ACCOUNT = re.compile(r"\d{12}\Z", re.ASCII)
_REGION = re.compile(r"[a-z]{2}(?:-[a-z]+)+-\d+\Z", re.ASCII)


class BadGate(ValueError):
    """What was asked for is no gate; the message names the member."""


class Wire(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A gate, or where one is, on the wire."""

    account: str = "000000000000"
    region: str = "us-east-1"
    scope: str = EVERYWHERE
    severity: str = "CRITICAL"
    fixable_only: bool = False


_decoder = msgspec.json.Decoder(Wire)


def read(body: bytes, now: float) -> ScanGate:
    """The gate that a request's body tells of. Raises BadGate."""
    try:
        wire = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadGate(str(error)) from None
    if wire.severity not in SEVERITIES:
        raise BadGate(f"severity {wire.severity!r} is none of {', '.join(SEVERITIES)}")
    for member, pattern in (("account", _ACCOUNT), ("region", _REGION)):
        if pattern.match(getattr(wire, member)) is None:
            raise BadGate(f"{member} {getattr(wire, member)!r} is none")
    if wire.scope != EVERYWHERE and _SCOPE.match(wire.scope) is None:
        raise BadGate(f"scope {wire.scope!r} is neither * nor repository/<name>")
    told: dict[str, Any] = msgspec.structs.asdict(wire)
    return ScanGate(**told, set_at=now)
