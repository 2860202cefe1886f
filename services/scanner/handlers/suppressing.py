"""Suppressions and overrides: set, taken back, and laid on what was found. No layer is read, no scan changes."""

from __future__ import annotations

from typing import Any

import msgspec

from contracts.records.scanner import GATE_OVERRIDE, SUPPRESSION, GateOverride, ImageScan, Suppression
from contracts.rpc.scanner import Finding, OpenFindings
from services.scanner.decisions import openvex, suppressions
from services.scanner.handlers.scanning import Scans
from services.scanner.ports import ScanFailed
from services.shared.clock import Clock
from services.shared.state import Store


class _Report(msgspec.Struct):
    """What of a report is told here."""

    findings: list[Finding] = []


_report = msgspec.json.Decoder(_Report)


class Imported(msgspec.Struct, frozen=True):
    """What came of an OpenVEX document: how many suppressions were set and taken back, and what could not be used."""

    suppressed: int
    lifted: int
    skipped: list[str]


class Suppressing:
    """What does not count, and what runs all the same."""

    def __init__(self, store: Store, scans: Scans, clock: Clock) -> None:
        self._store = store
        self._scans = scans
        self._clock = clock
        self._known = store.table(SUPPRESSION)

    async def findings(self, scan: ImageScan) -> list[Finding]:
        """All findings of an image, each with the reason for which it does not count now, if there is one. Raises
        ScanFailed."""
        data = await self._scans.report(scan)
        if data is None:
            raise ScanFailed(f"The report of the scan of {scan.digest} is gone; scan it again")
        return list(suppressions.marked(_report.decode(data).findings, self._of(scan)))

    async def judged(self, scan: ImageScan) -> OpenFindings:
        """The findings of an image that count now. Raises ScanFailed."""
        if not self._of(scan):
            return OpenFindings(counts=scan.counts, fixable=scan.fixable, named=scan.named)
        found = await self.findings(scan)
        return OpenFindings(**suppressions.counted(found), suppressed=sum(bool(each.suppressed) for each in found))

    def _of(self, scan: ImageScan) -> list[Suppression]:
        known = suppressions.in_force(self._known.records(), self._clock())
        return suppressions.of_image(known, scan.account, scan.region, scan.repository, scan.digest)

    def all(self) -> list[Suppression]:
        """All of them, those that have ended too."""
        return sorted(self._known.records(), key=lambda each: (each.account, each.region, each.advisory, each.id))

    async def suppress(self, body: bytes) -> Suppression:
        """Set one. Raises BadSuppression."""
        suppression = suppressions.read(body, self._clock())
        await self._put(suppression)
        return suppression

    async def _put(self, suppression: Suppression) -> None:
        key = SUPPRESSION.key_of(suppression)
        await self._store.update(SUPPRESSION, key, lambda old: suppression, "finding.suppressed.v1")

    async def unsuppress(self, body: bytes) -> Suppression | None:
        """Take one back; None when there is none. Raises BadSuppression."""
        key = suppressions.where(body)
        known = self._known.record(*key)
        if known is not None:
            await self._store.delete(SUPPRESSION, key, "finding.unsuppressed.v1")
        return known

    async def take_in(self, document: Any, account: str, region: str, by: str) -> Imported:
        """Take in an OpenVEX document, one write a finding that it is of: importing it again goes on where it was
        broken off. Raises BadSuppression."""
        taken = openvex.read(document, account, region, by, self._clock())
        for suppression in taken.suppressions:
            await self._put(suppression)
        lifted = 0
        for id_ in taken.lifted:
            known = self._known.record(account, region, id_)
            if known is not None and known.source:
                await self._store.delete(SUPPRESSION, SUPPRESSION.key_of(known), "finding.unsuppressed.v1")
                lifted += 1
        return Imported(len(taken.suppressions), lifted, taken.skipped)

    def overrides(self) -> list[GateOverride]:
        """All images that run whatever gates say, those of which it has ended too."""
        return sorted(self._store.table(GATE_OVERRIDE).records(), key=GATE_OVERRIDE.key_of)

    async def override(self, wanted: GateOverride) -> None:
        """Let an image run."""
        await self._store.update(GATE_OVERRIDE, GATE_OVERRIDE.key_of(wanted), lambda old: wanted, "gate.overridden.v1")

    async def end_override(self, key: tuple[str, str, str, str]) -> GateOverride | None:
        """Gates hold for an image again; None when nothing kept them from it."""
        known = self._store.table(GATE_OVERRIDE).record(*key)
        if known is not None:
            await self._store.delete(GATE_OVERRIDE, key, "gate.override_removed.v1")
        return known
