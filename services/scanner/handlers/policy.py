"""Which images are scanned when they are pushed, and which are matched again: by the registry's settings and the
gates."""

from __future__ import annotations

from typing import Any

from contracts.records.registry import REGISTRY_SETTINGS
from contracts.records.scanner import EVERYWHERE, SCAN_GATE, ImageScan
from services.scanner.decisions import scans
from services.shared.state import Store, View


class Policy:
    """Settings, by view."""

    def __init__(self, view: View, store: Store) -> None:
        self._settings = view.table(REGISTRY_SETTINGS)
        self._gates = store.table(SCAN_GATE)

    def scans_pushes_to(self, account: str, region: str, repository: str) -> bool:
        """Whether the push of an image asks for its scan."""
        gated = self._gated(account, region, repository)
        return scans.scanned_when_pushed(self._scanning(account, region), repository, gated=gated)

    def follows(self, scan: ImageScan) -> bool:
        """Whether an image is matched again when advisories change."""
        gated = self._gated(scan.account, scan.region, scan.repository)
        return scans.matched_again(self._scanning(scan.account, scan.region), scan.repository, gated=gated)

    def _scanning(self, account: str, region: str) -> dict[str, Any]:
        found = self._settings.record(account, region)
        return found.scanning if found is not None else {}

    def _gated(self, account: str, region: str, repository: str) -> bool:
        """By a gate of its own, of all, or of a cluster, whose tasks may be of any image."""
        scopes = (f"repository/{repository}", EVERYWHERE)
        if any(self._gates.record(account, region, scope) is not None for scope in scopes):
            return True
        return any(gate.scope.startswith("cluster/") for gate in self._gates.records())
