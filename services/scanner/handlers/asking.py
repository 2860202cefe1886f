"""What the registry asks of the scanner, and what the event log tells it."""

from __future__ import annotations

from collections.abc import Callable

from contracts.kinds import Key
from contracts.records.registry import IMAGE, Image, is_container_image
from contracts.records.scanner import IMAGE_SCAN, ImageScan
from contracts.rpc.scanner import (
    DescribeFindings,
    Findings,
    JudgeFindings,
    OpenFindings,
    ScanStarted,
    StartScan,
)
from services.scanner.decisions import scans, suppressions
from services.scanner.handlers.advisories import Advisories
from services.scanner.handlers.policy import Policy
from services.scanner.handlers.scanning import Scans
from services.scanner.handlers.suppressing import Suppressing
from services.scanner.ports import ScanFailed
from services.shared.bus import Bus
from services.shared.clock import Clock
from services.shared.consumers import Event
from services.shared.errors import AwsError
from services.shared.state import Store, fetch


class Asking:
    """Commands and events. `settled` says whether an image was held against the advisories of now."""

    def __init__(
        self,
        bus: Bus,
        store: Store,
        advisories: Advisories,
        scans_: Scans,
        settled: Callable[[ImageScan], bool],
        policy: Policy,
        suppressing: Suppressing,
        clock: Clock,
    ) -> None:
        self._bus = bus
        self._store = store
        self._advisories = advisories
        self._scans = scans_
        self._settled = settled
        self._policy = policy
        self._suppressing = suppressing
        self._clock = clock

    async def on_image_pushed(self, event: Event) -> None:
        """An image came: its scan is asked for, in the trace of the push. The rest is the controller's."""
        image = event.record
        assert isinstance(image, Image)
        if not is_container_image(image) or not self._policy.scans_pushes_to(*event.key[:3]):
            return

        def change(old: ImageScan | None) -> ImageScan | None:
            return scans.requested(image, old, self._clock())

        await self._store.update(IMAGE_SCAN, event.key, change, "scan.requested.v1", cause=event.cause)

    async def on_image_deleted(self, event: Event) -> None:
        """An image went; unless it is there again by now."""
        if await fetch(self._bus, IMAGE, event.key) is None:
            await self._scans.forget(event.key)

    async def start_scan(self, request: StartScan) -> ScanStarted:
        """See contracts.rpc.scanner.StartScan."""
        key: Key = (request.account, request.region, request.repository, request.digest)
        image = await fetch(self._bus, IMAGE, key)
        if image is None:
            raise AwsError("ImageNotFoundException", f"The image {request.digest} does not exist")
        if not is_container_image(image):
            raise AwsError(
                "UnsupportedImageTypeException",
                f"The image {request.digest} is an index or an artifact: its manifests are scanned",
            )
        known = self._store.table(IMAGE_SCAN).record(*key)
        now, version = self._clock(), self._advisories.current.version
        if scans.over_quota(known, now, on_push=request.on_push, advisories=version):
            raise AwsError("LimitExceededException", "The scan quota per image has been exceeded. Wait and try again.")

        def change(old: ImageScan | None) -> ImageScan | None:
            return scans.asked_for(image, old, now)

        written = await self._store.update(IMAGE_SCAN, key, change, "scan.requested.v1")
        assert written is not None
        return ScanStarted(status=written.status, description=written.description)

    async def describe_findings(self, request: DescribeFindings) -> Findings:
        """See contracts.rpc.scanner.DescribeFindings."""
        key: Key = (request.account, request.region, request.repository, request.digest)
        scan = self._store.table(IMAGE_SCAN).record(*key)
        if scan is None:
            raise AwsError("ScanNotFoundException", f"The image {request.digest} was not scanned")
        if scan.status != "COMPLETE":
            return Findings(status=scan.status, description=scan.description)
        try:
            every = await self._suppressing.findings(scan)
            told = [each for each in every if request.enhanced or not each.suppressed]
            found, token = scans.page(told, request.max_results, request.next_token, whole=request.enhanced)
            ids = sorted({finding.advisory for finding in found}) if request.enhanced else []
            details = await self._scans.details(ids)
        except scans.BadToken as error:
            raise AwsError("InvalidParameterException", str(error)) from None
        except ScanFailed as error:
            raise AwsError("ServerException", str(error)) from None
        current = self._advisories.current
        return Findings(
            status=scan.status,
            description=scan.description,
            completed_at=scan.completed_at,
            advisories_at=current.newest if self._settled(scan) else scan.advisories_at,
            counts=suppressions.counted(every)["counts"],
            findings=found,
            next_token=token,
            requested_at=scan.requested_at,
            details=details,
        )

    async def judge_findings(self, request: JudgeFindings) -> OpenFindings:
        """See contracts.rpc.scanner.JudgeFindings."""
        scan = self._store.table(IMAGE_SCAN).record(request.account, request.region, request.repository, request.digest)
        if scan is None or scan.status != "COMPLETE":
            raise AwsError("ScanNotFoundException", f"The image {request.digest} was not scanned")
        try:
            return await self._suppressing.judged(scan)
        except ScanFailed as error:
            raise AwsError("ServerException", str(error)) from None
