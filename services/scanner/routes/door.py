"""The scanner's own door: gates, advisories, whole reports. For a person of this machine, and `roadstead`.

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

from contracts.records.scanner import IMAGE_SCAN, SCAN_GATE, ImageScan, ScanGate
from services.scanner.adapters.files import Files
from services.scanner.decisions import gates
from services.scanner.handlers.advisories import Advisories, ImportFailed
from services.scanner.handlers.documents import MEDIA_TYPES, Documents
from services.scanner.ports import NotNow, ScanFailed
from services.shared.clock import Clock
from services.shared.door_key import shows_key
from services.shared.errors import AwsError
from services.shared.http import Handler, Query, Route, answer, bind
from services.shared.metrics import Metrics
from services.shared.state import Store


class Refused(msgspec.Struct, frozen=True):
    """Why not."""

    error: str


class GateList(msgspec.Struct, frozen=True):
    """All gates."""

    gates: list[ScanGate]


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


class Door:
    """The routes."""

    def __init__(self, store: Store, files: Files, advisories: Advisories, documents: Documents, clock: Clock) -> None:
        self._store = store
        self._files = files
        self._advisories = advisories
        self._documents = documents
        self._clock = clock
        self._key = files.door_key()

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

    def locked(self, handler: Handler) -> Handler:
        """The handler, for those who show the key."""

        async def checked(request: web.Request) -> web.StreamResponse:
            if not shows_key(request, self._key):
                return _refusal(401, f"show the key of {self._files.key} (Authorization: Bearer …)")
            try:
                return await handler(request)
            except gates.BadGate as error:
                return _refusal(400, str(error))
            except AwsError as error:
                return _refusal(503, error.message)

        return checked

    async def list_gates(self, request: web.Request) -> web.Response:
        """All gates."""
        return answer(GateList(sorted(self._store.table(SCAN_GATE).records(), key=SCAN_GATE.key_of)))

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
            return _refusal(404, f"there is no gate of {gate.scope} in {gate.account}, {gate.region}")
        await self._store.delete(SCAN_GATE, key, "gate.removed.v1")
        return answer(known)

    async def show_advisories(self, request: web.Request) -> web.Response:
        """What the index in force says of itself; {} when there is none."""
        return answer(self._advisories.current.told)

    async def import_advisories(self, request: web.Request) -> web.Response:
        """Import the advisories under {"path"} of this machine; every image is matched anew then. 422 with the reason
        when nothing could be imported; what was there stays."""
        try:
            told = msgspec.json.decode(await request.read(), type=ImportFrom)
        except msgspec.DecodeError as error:
            return _refusal(400, f"path: the file or folder to import is missing ({error})")
        try:
            return answer(await self._advisories.import_from(Path(told.path), replace=told.replace))
        except ImportFailed as error:
            return _refusal(422, str(error))

    async def update_advisories(self, request: web.Request) -> web.Response:
        """Take in what is new in a feed, or in all; a feed that can't be read has the reason in its answer."""
        try:
            told = msgspec.json.decode(await request.read() or b"{}", type=UpdateFrom)
        except msgspec.DecodeError as error:
            return _refusal(400, str(error))
        return answer(Updates(await self._advisories.update([told.feed] if told.feed else [])))

    async def list_scans(self, request: web.Request) -> web.Response:
        """The newest scan of each image."""
        return answer(ScanList(sorted(self._store.table(IMAGE_SCAN).records(), key=IMAGE_SCAN.key_of)))

    async def show_report(self, request: web.Request) -> web.Response:
        """All that was found in an image: packages with their layers, findings."""
        names = (request.match_info[name] for name in ("account", "region", "repository", "digest"))
        scan = self._store.table(IMAGE_SCAN).record(*names)
        if scan is None or not scan.report:
            return _refusal(404, "no report: the image was not scanned")
        report, bill = await asyncio.gather(
            asyncio.to_thread(self._files.report, scan.report), asyncio.to_thread(self._files.bill, scan.contents)
        )
        if report is None or bill is None:
            return _refusal(404, "the report is lost: scan the image again")
        return answer({**msgspec.json.decode(report), **msgspec.json.decode(bill)})

    async def show_sbom(self, request: web.Request) -> web.Response:
        """The bill of materials of an image in `format`: cyclonedx (without one) or spdx."""
        names = [request.match_info[name] for name in ("account", "region", "repository", "reference")]
        wanted = request.query.get("format", "cyclonedx")
        if wanted not in MEDIA_TYPES:
            return _refusal(400, f"format: one of {', '.join(MEDIA_TYPES)}")
        try:
            made = await self._documents.of(*names)
        except (NotNow, ScanFailed, AwsError) as error:
            return _refusal(503, str(error))
        if made is None:
            return _refusal(
                404, "no bill of materials: there is no such image, or it was not scanned (indexes are not)"
            )
        return web.Response(body=made[wanted], content_type=MEDIA_TYPES[wanted])


def _refusal(status: int, why: str) -> web.Response:
    return answer(Refused(why), status)


_LOCK = {401: "the key is missing or wrong", 503: "NATS is away"}
ROUTES = (
    Route("GET", "/gates", "list_gates", GateList, "All gates."),
    Route(
        "PUT",
        "/gates",
        "set_gate",
        ScanGate,
        "Set a gate, or another one in its place.",
        errors={400: "a member is wrong; says which", **_LOCK},
        problem=Refused,
        body=gates.Wire,
        locked=True,
    ),
    Route(
        "DELETE",
        "/gates",
        "remove_gate",
        ScanGate,
        "Remove the gate of a scope; what it was.",
        errors={400: "a member is wrong; says which", 404: "there is none", **_LOCK},
        problem=Refused,
        body=gates.Wire,
        locked=True,
    ),
    Route("GET", "/advisories", "show_advisories", dict, "What the index in force says of itself; {} without one."),
    Route(
        "POST",
        "/advisories",
        "import_advisories",
        dict,
        "Import advisories; every image is matched anew then.",
        errors={400: "the path is missing", 422: "nothing could be imported; what was there stays", **_LOCK},
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
        errors={400: "a member is wrong; says which", **_LOCK},
        problem=Refused,
        body=UpdateFrom,
        locked=True,
    ),
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
