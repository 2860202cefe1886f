"""Gates as a person sets them."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from contracts.records.scanner import EVERYWHERE, SEVERITIES, GateOverride, ScanGate

_SCOPE = re.compile(r"(?:repository/[a-z0-9][a-z0-9._/-]{1,255}|cluster/[A-Za-z0-9_-]{1,255})\Z", re.ASCII)
_REPOSITORY = re.compile(r"[a-z0-9][a-z0-9._/-]{1,255}\Z", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
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
    secrets: bool = False


class OverrideWire(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An override, or where one is. `reference` is the image's digest, or a tag that names it now."""

    repository: str
    reference: str
    account: str = "000000000000"
    region: str = "us-east-1"
    reason: str = ""
    by: str = ""
    until: float = 0.0


_override = msgspec.json.Decoder(OverrideWire)
_decoder = msgspec.json.Decoder(Wire)


def read(body: bytes, now: float) -> ScanGate:
    """The gate that a request's body tells of. Raises BadGate."""
    try:
        wire = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadGate(str(error)) from None
    if wire.severity not in SEVERITIES:
        raise BadGate(f"severity {wire.severity!r} is none of {', '.join(SEVERITIES)}")
    check_where(wire.account, wire.region)
    if wire.scope != EVERYWHERE and _SCOPE.match(wire.scope) is None:
        raise BadGate(f"scope {wire.scope!r} is none of *, repository/<name>, cluster/<name>")
    told: dict[str, Any] = msgspec.structs.asdict(wire)
    return ScanGate(**told, set_at=now)


def check_where(account: str, region: str) -> None:
    """Raises BadGate for an account or a region that can be none."""
    for member, value, pattern in (("account", account, _ACCOUNT), ("region", region, _REGION)):
        if pattern.match(value) is None:
            raise BadGate(f"{member} {value!r} is none")


def read_override(body: bytes) -> OverrideWire:
    """What a request says of an override. Raises BadGate."""
    try:
        wire = _override.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadGate(str(error)) from None
    check_where(wire.account, wire.region)
    if _REPOSITORY.match(wire.repository) is None:
        raise BadGate(f"repository {wire.repository!r} is none")
    if not wire.reference or (":" in wire.reference and _DIGEST.match(wire.reference) is None):
        raise BadGate(f"reference {wire.reference!r} is neither a tag nor a digest")
    if max(len(wire.reason), len(wire.by)) > 1000:
        raise BadGate("reason and by have at most 1000 characters")
    return wire


def overridden(wire: OverrideWire, digest: str, now: float) -> GateOverride:
    """The override that was asked for. Raises BadGate without a reason, or for one that is over."""
    if not wire.reason.strip():
        raise BadGate("reason is missing: an override says why the image is to run")
    if wire.until and wire.until <= now:
        raise BadGate("until is past")
    told = {name: getattr(wire, name) for name in ("account", "region", "repository", "reason", "by", "until")}
    return GateOverride(digest=digest, at=now, **told)
