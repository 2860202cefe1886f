"""What the registry's API tells of scans, which are the scanner's, and the registry's settings for them."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from contracts.aws import ecr
from contracts.records.registry import REGISTRY_SETTINGS, Image, RegistrySettings, Repository
from contracts.rpc.scanner import (
    DESCRIBE_FINDINGS,
    START_SCAN,
    DescribeFindings,
    Findings,
    ScanStarted,
    StartScan,
)
from services.registry.decisions.scanning import scans_on_push
from services.registry.handlers.gates import Gates
from services.shared.bus import Bus, CommandRefused
from services.shared.errors import AwsError
from services.shared.state import Store

NOTHING = {"scanType": "BASIC", "rules": []}


class Scanning:
    """Scans, seen from the registry."""

    def __init__(self, bus: Bus, store: Store, gates: Gates) -> None:
        self._bus = bus
        self._store = store
        self._gates = gates

    def told(self, image: Image) -> tuple[ecr.ImageScanStatus | None, ecr.ImageScanFindingsSummary | None]:
        """The status of an image's newest scan and the summary of its findings, as DescribeImages has them."""
        scan = self._gates.scans.record(image.account, image.region, image.repository, image.digest)
        if scan is None:
            return None, None
        status = ecr.ImageScanStatus(status=scan.status, description=scan.description or None)
        if scan.status != "COMPLETE":
            return status, None
        return status, ecr.ImageScanFindingsSummary(
            image_scan_completed_at=scan.completed_at,
            vulnerability_source_updated_at=scan.advisories_at or None,
            finding_severity_counts=dict(scan.counts),
        )

    async def start(self, image: Image, repository: Repository) -> ScanStarted:
        """Ask for a scan. Raises LimitExceededException, UnsupportedImageTypeException, ImageNotFoundException."""
        rules = self.settings(image.account, image.region)["rules"]
        request = StartScan(
            account=image.account,
            region=image.region,
            repository=image.repository,
            digest=image.digest,
            on_push=scans_on_push(rules, repository.settings, repository.name),
        )
        try:
            return await self._bus.call(START_SCAN, request)
        except CommandRefused as refused:
            raise _refused(refused) from None

    async def findings(self, image: Image, size: int, token: str, *, enhanced: bool = False) -> Findings:
        """A page of the findings of the newest scan. Raises ScanNotFoundException, InvalidParameterException."""
        request = DescribeFindings(
            account=image.account,
            region=image.region,
            repository=image.repository,
            digest=image.digest,
            max_results=size,
            next_token=token,
            enhanced=enhanced,
        )
        try:
            return await self._bus.call(DESCRIBE_FINDINGS, request)
        except CommandRefused as refused:
            raise _refused(refused) from None

    def settings(self, account: str, region: str) -> dict[str, Any]:
        """The registry's scanning configuration, with the wire's names."""
        found = self._store.table(REGISTRY_SETTINGS).record(account, region)
        return found.scanning if found is not None and found.scanning else NOTHING

    async def put_settings(self, account: str, region: str, scanning: dict[str, Any]) -> None:
        """Change it."""

        def change(old: RegistrySettings | None) -> RegistrySettings:
            known = old or RegistrySettings(account=account, region=region)
            return replace(known, scanning=scanning)

        await self._store.update(REGISTRY_SETTINGS, (account, region), change, "registry.scanning_changed.v1")


def _refused(refused: CommandRefused) -> AwsError:
    return AwsError("ServerException" if refused.code == "Internal" else refused.code, refused.message)
