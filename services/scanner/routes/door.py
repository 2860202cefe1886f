"""The scanner's own door: advisories, whole reports. For a person of this machine, and `roadstead`.

Reading is open to whoever reaches the port, as it is with the other services. What changes something takes the key that
lies in the scanner's directory: a container that reaches the host's loopback must not open its own gate.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from contracts.records.scanner import IMAGE_SCAN, ImageScan
from services.scanner.adapters.files import Files
from services.scanner.handlers.advisories import Advisories, ImportFailed
from services.scanner.handlers.documents import MEDIA_TYPES, Documents
from services.scanner.handlers.isolation import Confinement, Isolation
from services.scanner.handlers.suppressing import Suppressing
from services.scanner.ports import NotNow, ScanFailed
from services.scanner.routes.locked import LOCK, Locked, Refused, refusal
from services.shared.errors import AwsError
from services.shared.http import Query, Route, answer, bind
from services.shared.metrics import Metrics
from services.shared.state import Store


class ScanList(msgspec.Struct, frozen=True):
    """The newest scan of each image."""

    scans: list[ImageScan]


class ImportFrom(msgspec.Struct, frozen=True):
    """The file or folder of this machine to import; `replace`: what came from elsewhere goes."""

    path: str
    replace: bool = False


class UpdateFrom(msgspec.Struct, frozen=True):
    """The feed to take in what is new of: a folder of this machine or a URL. Empty: all that were ever named."""

    feed: str = ""


class Updates(msgspec.Struct, frozen=True):
    """What came of each feed."""

    updates: list[dict[str, Any]]


class Door(Locked):
    """The routes."""

    def __init__(
        self,
        store: Store,
        files: Files,
        advisories: Advisories,
        documents: Documents,
        isolation: Isolation,
        suppressing: Suppressing,
    ) -> None:
        super().__init__(files)
        self._store = store
        self._advisories = advisories
        self._documents = documents
        self._isolation = isolation
        self._suppressing = suppressing

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """All of them."""
        return bind(ROUTES, self)

    def measure(self, metrics: Metrics) -> None:
        """Tell Prometheus how many scans and findings there are."""
        metrics.observed("scans", "Images by the status of their scan", ("status",), self._count_scans)
        metrics.observed("findings", "Findings in all scanned images", ("severity",), self._count_findings)

    def _count_scans(self) -> dict[tuple[str, ...], float]:
        return dict(Counter((scan.status,) for scan in self._store.table(IMAGE_SCAN).records()))

    def _count_findings(self) -> dict[tuple[str, ...], float]:
        counted: Counter[tuple[str, ...]] = Counter()
        for scan in self._store.table(IMAGE_SCAN).records():
            counted.update({(severity,): count for severity, count in scan.counts.items()})
        return dict(counted)

    async def show_confinement(self, request: web.Request) -> web.Response:
        """What workers could not give up."""
        return answer(self._isolation.told)

    async def show_advisories(self, request: web.Request) -> web.Response:
        """What the index in force says of itself; {} when there is none."""
        return answer(self._advisories.current.told)

    async def import_advisories(self, request: web.Request) -> web.Response:
        """Import the advisories under {"path"} of this machine; every image is matched anew then. 422 with the reason
        when nothing could be imported; what was there stays."""
        try:
            told = msgspec.json.decode(await request.read(), type=ImportFrom)
        except msgspec.DecodeError as error:
            return refusal(f"path: the file or folder to import is missing ({error})", 400)
        try:
            return answer(await self._advisories.import_from(Path(told.path), replace=told.replace))
        except ImportFailed as error:
            return refusal(str(error), 422)

    async def update_advisories(self, request: web.Request) -> web.Response:
        """Take in what is new in a feed, or in all; a feed that can't be read has the reason in its answer."""
        try:
            told = msgspec.json.decode(await request.read() or b"{}", type=UpdateFrom)
        except msgspec.DecodeError as error:
            return refusal(str(error), 400)
        return answer(Updates(await self._advisories.update([told.feed] if told.feed else [])))

    async def list_scans(self, request: web.Request) -> web.Response:
        """The newest scan of each image."""
        return answer(ScanList(sorted(self._store.table(IMAGE_SCAN).records(), key=IMAGE_SCAN.key_of)))

    async def show_report(self, request: web.Request) -> web.Response:
        """All that was found in an image: packages with their layers, findings."""
        names = (request.match_info[name] for name in ("account", "region", "repository", "digest"))
        scan = self._store.table(IMAGE_SCAN).record(*names)
        if scan is None or not scan.report:
            return refusal("no report: the image was not scanned", 404)
        report, bill = await asyncio.gather(
            asyncio.to_thread(self._files.report, scan.report), asyncio.to_thread(self._files.bill, scan.contents)
        )
        if report is None or bill is None:
            return refusal("the report is lost: scan the image again", 404)
        told = {**msgspec.json.decode(report), **msgspec.json.decode(bill)}
        for finding, whole in zip(await self._suppressing.findings(scan), told["findings"], strict=True):
            whole["suppressed"] = finding.suppressed
        return answer(told)

    async def show_sbom(self, request: web.Request) -> web.Response:
        """The bill of materials of an image in `format`: cyclonedx (without one) or spdx."""
        names = [request.match_info[name] for name in ("account", "region", "repository", "reference")]
        wanted = request.query.get("format", "cyclonedx")
        if wanted not in MEDIA_TYPES:
            return refusal(f"format: one of {', '.join(MEDIA_TYPES)}", 400)
        try:
            made = await self._documents.of(*names)
        except (NotNow, ScanFailed, AwsError) as error:
            return refusal(str(error), 503)
        if made is None:
            return refusal("no bill of materials: there is no such image, or it was not scanned (indexes are not)", 404)
        return web.Response(body=made[wanted], content_type=MEDIA_TYPES[wanted])


ROUTES = (
    Route("GET", "/advisories", "show_advisories", dict, "What the index in force says of itself; {} without one."),
    Route(
        "POST",
        "/advisories",
        "import_advisories",
        dict,
        "Import advisories; every image is matched anew then.",
        errors={400: "the path is missing", 422: "nothing could be imported; what was there stays", **LOCK},
        problem=Refused,
        body=ImportFrom,
        locked=True,
    ),
    Route(
        "GET",
        "/sboms/{account}/{region}/{reference}/{repository:.+}",
        "show_sbom",
        dict,
        "The bill of materials of an image, by digest or tag.",
        (Query("format", "cyclonedx, or spdx"),),
        errors={400: "there is no such format", 404: "the image was not scanned", 503: "it can't be made now"},
        problem=Refused,
    ),
    Route(
        "POST",
        "/advisories/update",
        "update_advisories",
        Updates,
        "Take in what is new in a feed, or in all feeds.",
        errors={400: "a member is wrong; says which", **LOCK},
        problem=Refused,
        body=UpdateFrom,
        locked=True,
    ),
    Route("GET", "/workers", "show_confinement", Confinement, "What workers keep that they should not."),
    Route("GET", "/scans", "list_scans", ScanList, "The newest scan of each image."),
    Route(
        "GET",
        "/scans/{account}/{region}/{digest}/{repository:.+}",
        "show_report",
        dict,
        "All that was found in an image: packages with their layers, findings.",
        errors={404: "the image was not scanned"},
        problem=Refused,
    ),
)
