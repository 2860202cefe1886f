"""Gates, what runs in spite of them, and findings that don't count."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from aiohttp import web

from contracts.records.scanner import SCAN_GATE, GateOverride, ScanGate, Suppression
from services.scanner.adapters.files import Files
from services.scanner.decisions import gates, suppressions
from services.scanner.handlers.inspecting import Inspecting, Inspection
from services.scanner.handlers.suppressing import Imported, Suppressing
from services.scanner.ports import ImageGone, NotNow
from services.scanner.routes.locked import LOCK, Locked, Refused, refusal
from services.shared.clock import Clock
from services.shared.http import Route, answer, bind
from services.shared.state import Store

FindDigest = Callable[[str, str, str, str], Awaitable[str]]
"""(account, region, repository, tag or digest) to the digest; empty for none. Raises NotNow."""
WAIT_LIMIT_S = 900.0


class GateList(msgspec.Struct, frozen=True):
    """All gates, and the images that run whatever they say."""

    gates: list[ScanGate]
    overrides: list[GateOverride]


class SuppressionList(msgspec.Struct, frozen=True):
    """All suppressions, those that have ended too."""

    suppressions: list[Suppression]


class Vex(msgspec.Struct, kw_only=True, frozen=True):
    """An OpenVEX document to take in."""

    document: dict[str, Any]
    account: str = "000000000000"
    region: str = "us-east-1"
    by: str = ""


class Wanted(msgspec.Struct, kw_only=True, frozen=True):
    """The image to tell of, and how long its scan is waited for (seconds, at most 900)."""

    repository: str
    reference: str
    account: str = "000000000000"
    region: str = "us-east-1"
    wait_s: float = 300.0


class Rules(Locked):
    """The routes."""

    def __init__(
        self,
        store: Store,
        files: Files,
        suppressing: Suppressing,
        inspecting: Inspecting,
        find_digest: FindDigest,
        clock: Clock,
    ) -> None:
        super().__init__(files)
        self._store = store
        self._suppressing = suppressing
        self._inspecting = inspecting
        self._find_digest = find_digest
        self._clock = clock

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """All of them."""
        return bind(ROUTES, self)

    async def list_gates(self, request: web.Request) -> web.Response:
        """All gates and overrides."""
        found = sorted(self._store.table(SCAN_GATE).records(), key=SCAN_GATE.key_of)
        return answer(GateList(found, self._suppressing.overrides()))

    async def set_gate(self, request: web.Request) -> web.Response:
        """Set a gate, or another one in its place. 400 naming the member that is wrong."""
        gate = gates.read(await request.read(), self._clock())
        await self._store.update(SCAN_GATE, SCAN_GATE.key_of(gate), lambda old: gate, "gate.set.v1")
        return answer(gate)

    async def remove_gate(self, request: web.Request) -> web.Response:
        """Remove the gate of a scope; 404 when there is none."""
        gate = gates.read(await request.read(), self._clock())
        key = SCAN_GATE.key_of(gate)
        known = self._store.table(SCAN_GATE).record(*key)
        if known is None:
            return refusal(f"there is no gate of {gate.scope} in {gate.account}, {gate.region}", 404)
        await self._store.delete(SCAN_GATE, key, "gate.removed.v1")
        return answer(known)

    async def set_override(self, request: web.Request) -> web.Response:
        """Let an image run whatever gates say."""
        wire = gates.read_override(await request.read())
        try:
            digest = await self._find_digest(wire.account, wire.region, wire.repository, wire.reference)
        except NotNow as error:
            return refusal(str(error), 503)
        if not digest:
            return refusal(f"there is no image {wire.repository}:{wire.reference}", 404)
        wanted = gates.overridden(wire, digest, self._clock())
        await self._suppressing.override(wanted)
        return answer(wanted)

    async def end_override(self, request: web.Request) -> web.Response:
        """Let gates hold for an image again."""
        wire = gates.read_override(await request.read())
        try:
            digest = await self._find_digest(wire.account, wire.region, wire.repository, wire.reference)
        except NotNow as error:
            return refusal(str(error), 503)
        known = await self._suppressing.end_override((wire.account, wire.region, wire.repository, digest))
        return answer(known) if known is not None else refusal("gates hold for this image already", 404)

    async def list_suppressions(self, request: web.Request) -> web.Response:
        """All suppressions."""
        return answer(SuppressionList(self._suppressing.all()))

    async def suppress(self, request: web.Request) -> web.Response:
        """Set a suppression."""
        return answer(await self._suppressing.suppress(await request.read()))

    async def unsuppress(self, request: web.Request) -> web.Response:
        """Take a suppression back."""
        known = await self._suppressing.unsuppress(await request.read())
        return answer(known) if known is not None else refusal("there is no such suppression", 404)

    async def import_vex(self, request: web.Request) -> web.Response:
        """Take in an OpenVEX document."""
        try:
            told = msgspec.json.decode(await request.read(), type=Vex)
        except msgspec.DecodeError as error:
            raise suppressions.BadSuppression(f"document: an OpenVEX document is missing ({error})") from None
        gates.check_where(told.account, told.region)
        return answer(await self._suppressing.take_in(told.document, told.account, told.region, told.by))

    async def inspect(self, request: web.Request) -> web.Response:
        """All that was found in an image, once it is scanned."""
        try:
            told = msgspec.json.decode(await request.read(), type=Wanted)
        except msgspec.DecodeError as error:
            return refusal(str(error), 400)
        gates.check_where(told.account, told.region)
        try:
            digest = await self._find_digest(told.account, told.region, told.repository, told.reference)
            if not digest:
                return refusal(f"there is no image {told.repository}:{told.reference}", 404)
            key = (told.account, told.region, told.repository, digest)
            return answer(await self._inspecting.inspect(key, min(max(told.wait_s, 0.0), WAIT_LIMIT_S)))
        except ImageGone:
            return refusal(f"there is no image {told.repository}@{told.reference}", 404)
        except NotNow as error:
            return refusal(str(error), 503)


_WRONG = {400: "a member is wrong; says which", **LOCK}
ROUTES = (
    Route("GET", "/gates", "list_gates", GateList, "All gates, and images that run whatever they say."),
    Route(
        "PUT", "/gates", "set_gate", ScanGate, "Set a gate, or another one in its place.",
        errors=_WRONG, problem=Refused, body=gates.Wire, locked=True,
    ),
    Route(
        "DELETE", "/gates", "remove_gate", ScanGate, "Remove the gate of a scope; what it was.",
        errors={404: "there is none", **_WRONG}, problem=Refused, body=gates.Wire, locked=True,
    ),
    Route(
        "PUT", "/overrides", "set_override", GateOverride, "Let an image run whatever gates say, with a reason.",
        errors={404: "there is no such image", **_WRONG}, problem=Refused, body=gates.OverrideWire, locked=True,
    ),
    Route(
        "DELETE", "/overrides", "end_override", GateOverride, "Let gates hold for an image again.",
        errors={404: "they hold already", **_WRONG}, problem=Refused, body=gates.OverrideWire, locked=True,
    ),
    Route("GET", "/suppressions", "list_suppressions", SuppressionList, "Findings that don't count, and why."),
    Route(
        "PUT", "/suppressions", "suppress", Suppression, "Let a finding not count, with a reason.",
        errors=_WRONG, problem=Refused, body=suppressions.SuppressionWire, locked=True,
    ),
    Route(
        "DELETE", "/suppressions", "unsuppress", Suppression, "Let it count again.",
        errors={404: "there is none", **_WRONG}, problem=Refused, body=suppressions.SuppressionKey, locked=True,
    ),
    Route(
        "POST", "/suppressions/openvex", "import_vex", Imported, "Take in an OpenVEX document.",
        errors=_WRONG, problem=Refused, body=Vex, locked=True,
    ),
    Route(
        "POST", "/scans", "inspect", Inspection, "All that was found in an image, once it is scanned.",
        errors={404: "there is no such image", **_WRONG}, problem=Refused, body=Wanted, locked=True,
    ),
)  # fmt: skip
