"""Images with packages in them, advisories on these, and a scanner beside a registry.

async with scanner_at(nats_platform, tmp_path) as scanner:
    await scanner.import_(advisories(tmp_path / "osv"))
"""

from __future__ import annotations

import contextlib
import gzip
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from contracts.records.scanner import IMAGE_SCAN, ImageScan
from services.scanner.app import ScannerApp
from services.scanner.settings import ScannerSettings
from services.shared.runner import Host, HttpServer, start_app, stop_app
from tests.builders.images import BuiltImage, Entry, image, tar_layer

CRITICAL = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"
MEDIUM = "CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N"
DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n'
STATUS = """Package: libssl3
Status: install ok installed
Source: openssl (3.0.9-1)
Version: 3.0.9-1
Description: Secure Sockets Layer toolkit
 more words: of them

Package: gone
Status: deinstall ok config-files
Version: 1

Package: bash
Status: install ok installed
Version: 5.2.15-2+b2
"""
RECORDS: list[dict[str, Any]] = [
    {
        "id": "DSA-1",
        "upstream": ["CVE-2023-0001"],
        "modified": "2023-08-01T00:00:00Z",
        "severity": [{"type": "CVSS_V3", "score": CRITICAL}],
        "affected": [
            {
                "package": {"ecosystem": "Debian:12", "name": "openssl"},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "3.0.10-1"}]}],
            }
        ],
    },
    {
        "id": "PYSEC-1",
        "aliases": ["CVE-2023-0002"],
        "summary": "Jinja does what it should not",
        "modified": "2023-09-01T00:00:00Z",
        "severity": [{"type": "CVSS_V3", "score": MEDIUM}],
        "affected": [
            {
                "package": {"ecosystem": "PyPI", "name": "jinja2"},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "3.0"}, {"fixed": "3.1.3"}]}],
            }
        ],
    },
    {
        "id": "NPM-1",
        "modified": "2023-07-01T00:00:00Z",
        "database_specific": {"severity": "LOW"},
        "affected": [
            {
                "package": {"ecosystem": "npm", "name": "left-pad"},
                "ranges": [{"type": "SEMVER", "events": [{"introduced": "0"}]}],
            }
        ],
    },
]
"""Advisories on what `packages` installs, in OSV's form."""


def packages() -> dict[str, Entry]:
    """Files that say: openssl and bash of Debian 12, Jinja2, left-pad."""
    return {
        "/etc/os-release": DEBIAN,
        "/var/lib/dpkg/status": STATUS,
        "/usr/lib/python3/site-packages/Jinja2-3.1.2.dist-info/METADATA": "Name: Jinja2\nVersion: 3.1.2\n\nName: no\n",
        "/app/node_modules/left-pad/package.json": '{"name": "left-pad", "version": "1.3.0"}',
    }


def packed_image(*layers: dict[str, Entry]) -> BuiltImage:
    """An image of these layers, to be scanned."""
    return image([tar_layer(each) for each in layers], command=["/nothing"])


def advisories(folder: Path, records: list[dict[str, Any]] | None = None) -> Path:
    """A folder of advisories."""
    folder.mkdir(exist_ok=True)
    lines = [json.dumps(record).encode() for record in (RECORDS if records is None else records)]
    (folder / "some.osv.jsonl.gz").write_bytes(gzip.compress(b"\n".join(lines)))
    return folder


class RunningScanner:
    """A scanner, and what it has."""

    def __init__(self, app: ScannerApp, port: int, data: Path) -> None:
        self.app = app
        self.base = f"http://127.0.0.1:{port}"
        self.files = data / "scanner"

    def scans(self) -> list[ImageScan]:
        """All scans."""
        return self.app._store.table(IMAGE_SCAN).records()

    def done(self, digest: str = "") -> list[ImageScan]:
        """Those that are not under way."""
        return [s for s in self.scans() if s.status != "IN_PROGRESS" and digest in ("", s.digest)]

    async def import_(self, folder: Path, **how: Any) -> dict[str, Any]:
        """Import advisories, as the door does."""
        return await self.app.advisories.import_from(folder, **how)

    @property
    def key(self) -> dict[str, str]:
        """The header that its door wants to see."""
        return {"Authorization": f"Bearer {(self.files / 'door.key').read_text()}"}


@contextlib.asynccontextmanager
async def scanner_at(
    nats_platform: Any, data: Path, *, clock: Callable[[], float] | None = None, **settings: Any
) -> AsyncIterator[RunningScanner]:
    """A scanner over this directory."""
    options = {"clock": clock} if clock else {}
    host = Host(await nats_platform.bus("scanner"), data, instance="t", **options)
    app = ScannerApp(host, ScannerSettings(**settings))
    server = HttpServer(app)
    server.bind()
    await start_app(app)
    port = await server.start()
    try:
        yield RunningScanner(app, port, data)
    finally:
        await server.stop()
        await stop_app(app)
        await host.bus.close()
