"""Tells of scans, as EventBridge would be told: a durable consumer of the event log, one event a scan that is over.

https://docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-eventbridge.html
"""

from __future__ import annotations

from contracts.records.events import told
from contracts.records.scanner import IMAGE_SCAN, ImageScan
from services.registry.decisions.names import RepositoryId
from services.registry.handlers.images import Images
from services.shared.aws_events import tell
from services.shared.bus import Bus
from services.shared.consumers import Consumer, Event

SOURCE, IMAGE_SCANNED = "aws.ecr", "ECR Image Scan"


class Telling:
    """Hears of scans that are over, and of findings that other advisories changed."""

    def __init__(self, bus: Bus, images: Images) -> None:
        self._bus = bus
        self._images = images

    def consumer(self) -> Consumer:
        """What calls it."""
        names = ("image.scanned.v1", "findings.changed.v1", "scan.failed.v1")
        return Consumer(self._bus, "telling", (IMAGE_SCAN,), {name: self.on_scan for name in names})

    async def on_scan(self, event: Event) -> None:
        """A scan is over, or there are other findings."""
        scan = event.record
        assert isinstance(scan, ImageScan)
        repository = RepositoryId(scan.account, scan.region, scan.repository)
        detail = {
            "scan-status": scan.status,
            "repository-name": scan.repository,
            "finding-severity-counts": scan.counts,
            "image-digest": scan.digest,
            "image-tags": self._images.tags_of(repository, scan.digest),
        }
        origin = f"{event.kind.subject(event.key)} {event.sequence}"
        where = (scan.account, scan.region)
        await tell(
            self._bus, told(SOURCE, IMAGE_SCANNED, where, event.at, [repository.arn], detail, origin, IMAGE_SCANNED)
        )
