"""200,000 advisories into the index; 10,000 images held against advisories that changed, up to the write of each
record.

The advisories are made up, in the sizes of OSV's: their kinds, words, references, ranges and scores. The images have
200 packages each: one of 20 base systems, and Node packages of which some are had by many images. SPREAD is how many
packages there are for one that advisories speak of: 6 gives an image some 30 findings, 1 some 250.

What is measured: a worker alone (no records are written); the scanner, until the last record is written; and that when
every finding of every image changes, which is the worst that an update can do."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import resource
import secrets
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from contracts.grants import OPERATOR, USERS
from contracts.records.scanner import IMAGE_SCAN, ImageScan
from services.scanner.adapters.importing import import_files
from services.scanner.adapters.index import Index
from services.scanner.adapters.workers import PROGRAM, Workers
from services.scanner.controllers.rematching import BATCH
from services.scanner.decisions.bills import bill_of, report_of
from services.scanner.decisions.layers import Contents, Installed
from services.scanner.decisions.matching import match, remembering, summary
from services.scanner.decisions.packages import Package
from services.scanner.handlers.scanning import once
from services.shared.nats_server import NatsServer
from services.shared.provision import provision
from tests.bench.figures import Figure, at_most
from tests.builders.platform import ROOT
from tests.builders.scanner import scanner_at
from tests.builders.waiting import until
from tests.integration.conftest import Platform

ADVISORIES = int(os.environ.get("ROADSTEAD_BENCH_ADVISORIES", 200_000))
IMAGES = int(os.environ.get("ROADSTEAD_BENCH_IMAGES", 10_000))
SPREAD = int(os.environ.get("ROADSTEAD_BENCH_SPREAD", 6))
PACKAGES = 200
NAMES = 20_000
VULNERABILITIES = 150_000
WAIT_S = 600.0
KINDS = (("Debian:12", 0.3), ("npm", 0.35), ("PyPI", 0.2), ("Maven", 0.1), ("Go", 0.05))
RELEASE = {"ID": "debian", "VERSION_ID": "12", "PRETTY_NAME": "Debian GNU/Linux 12 (bookworm)"}


def run() -> list[Figure]:
    """Import, then match again."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("ROADSTEAD_BENCH_DIR")) as folder:
        root = Path(folder)
        seconds, resident, size = _imported(root)
        again = asyncio.run(_again(root))
    return [
        at_most(f"import of {ADVISORIES:,} advisories", seconds, "s", 120),
        at_most("… resident at most", resident, "MiB", 300),
        Figure("… index", size, "MiB"),
        *again,
    ]


def _imported(root: Path) -> tuple[float, float, float]:
    """(seconds, MiB resident at most, MiB of the index), in a process of its own, as the scanner does it."""
    path, index = root / "all.zip", root / "index.sqlite"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for record in _records(ADVISORIES):
            archive.writestr(f"{record['id']}.json", json.dumps(record))
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "import", str(path), str(index), str(time.time())],
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdout is not None
    told = json.loads(process.stdout.read())
    _, _, used = os.wait4(process.pid, 0)
    process.returncode = 0
    if told.get("used") != ADVISORIES:
        raise RuntimeError(f"not all were imported: {told}")
    return time.monotonic() - began, used.ru_maxrss / 1024, index.stat().st_size / (1 << 20)


def _records(count: int) -> Iterator[dict[str, Any]]:
    dice = random.Random(7)
    words = [
        f"{a}{b}" for a in ("over", "under", "heap", "use", "cross", "path") for b in ("flow", "site", "write", "y")
    ]
    kinds, weights = zip(*KINDS, strict=True)
    for number in range(count):
        (kind,) = dice.choices(kinds, weights)
        vector = "/".join(
            f"{m}:{dice.choice(v)}" for m, v in (("AV", "NALP"), ("AC", "LH"), ("PR", "NLH"), ("UI", "NR"))
        )
        vector = f"CVSS:3.1/{vector}/S:{dice.choice('UC')}/" + "/".join(f"{m}:{dice.choice('NLH')}" for m in "CIA")
        yield {
            "id": f"BENCH-{number}",
            "modified": f"2024-{1 + number % 12:02d}-01T00:00:00Z",
            "published": "2023-01-01T00:00:00Z",
            "aliases": [f"CVE-2024-{number % VULNERABILITIES:05d}"],
            "summary": " ".join(dice.choices(words, k=8)),
            "details": " ".join(dice.choices(words, k=dice.randrange(30, 250))),
            "severity": [{"type": "CVSS_V3", "score": vector}] if dice.random() < 0.8 else [],
            "references": [
                {"type": "WEB", "url": f"https://example.com/{number}/{n}"} for n in range(dice.randrange(2, 8))
            ],
            "affected": [_affected(kind, f"{kind[0].lower()}{dice.randrange(NAMES)}", f"{dice.randrange(1, 9)}.2")],
        }


def _affected(kind: str, name: str, fixed: str) -> dict[str, Any]:
    events = [{"introduced": "0"}, {"fixed": fixed}]
    return {"package": {"ecosystem": kind, "name": name}, "ranges": [{"type": "ECOSYSTEM", "events": events}]}


def _spread(number: int) -> int:
    """Of SPREAD numbers one is of a package that advisories speak of."""
    return number + NAMES * (number % SPREAD)


def _contents(number: int) -> Contents:
    dice = random.Random(number % 20)
    system = [
        ("deb", f"d{dice.randrange(NAMES * SPREAD)}", f"{dice.randrange(1, 9)}.{n}-1") for n in range(PACKAGES // 2)
    ]
    system.append(("deb", "everywhere", "1.0-1"))
    dice = random.Random(number)
    rest = PACKAGES - len(system)
    own = [
        (
            "npm",
            f"n{_spread(int(dice.paretovariate(0.6)) % NAMES)}",
            f"{dice.randrange(1, 9)}.{n}.0",
        )
        for n in range(rest)
    ]
    layers = (f"sha256:{number % 20:064x}", f"sha256:{number:064x}")
    found = [Installed(Package(*each), "var/lib/dpkg/status", layers[0]) for each in system]
    found += [Installed(Package(*each), f"app/node_modules/{each[1]}/package.json", layers[1]) for each in own]
    return Contents(found, RELEASE)


def _stored(root: Path, index: Index) -> Iterator[ImageScan]:
    """Images that were scanned: their bills and reports as files, and their records."""
    ask = remembering(index.lookup)
    for number in range(IMAGES):
        contents = _contents(number)
        matched = match(contents, ask)
        names = []
        for folder, told in (("bills", bill_of(contents)), ("reports", report_of(matched, "", index.version))):
            data = json.dumps(told, separators=(",", ":")).encode()
            names.append(hashlib.sha256(data).hexdigest())
            (root / folder / f"{names[-1]}.json").write_bytes(data)
        yield ImageScan(
            account="000000000000",
            region="us-east-1",
            repository="bench",
            digest=f"sha256:{number:064x}",
            status="COMPLETE",
            requested_at=1.0,
            packages=PACKAGES,
            contents=names[0],
            report=names[1],
            advisories=index.version,
            **summary(matched.findings),
        )


async def _again(root: Path) -> list[Figure]:
    passwords = {user: secrets.token_hex(8) for user in (OPERATOR, *USERS)}
    server = NatsServer(root / "nats", passwords)
    await server.start()
    platform = Platform(server, passwords)
    try:
        await provision(await platform.bus(OPERATOR))
        files = root / "data" / "scanner"
        for folder in ("bills", "reports"):
            (files / folder).mkdir(parents=True)
        (root / "index.sqlite").rename(files / "advisories.sqlite")
        async with scanner_at(platform, root / "data", update_minutes=0, sbom=False) as scanner:
            store = scanner.app._store
            told = list(_stored(files, Index(files / "advisories.sqlite")))
            with scanner.app.host.bus.patient(WAIT_S):
                for start in range(0, IMAGES, 64):
                    batch = told[start : start + 64]
                    await asyncio.gather(*(store.put(IMAGE_SCAN, scan, "image.scanned.v1") for scan in batch))
            findings = sum(sum(scan.counts.values()) for scan in told) / IMAGES
            rematching = scanner.app.rematching
            await until(lambda: not rematching._new, WAIT_S)
            passes = rematching.passes
            rematching.wake()
            await until(lambda: rematching.passes > passes, WAIT_S)
            alone = await _alone(root, files, {scan.contents: scan.report for scan in told})
            every = await _changed(root, scanner, "everywhere", "2.0-1")
            again = await _changed(root, scanner, "everywhere", "2.0-2")
            nowhere = await _changed(root, scanner, "nowhere", "2.0-1")
            worst = await _held_against(scanner, _exploited(root))
    finally:
        await platform.close()
    return [
        Figure("findings of an image", findings, ""),
        Figure(
            f"an advisory on a package of all {IMAGES:,} images: matched again, with new reports",
            IMAGES / alone[0],
            "images/s",
            bar="≥ 2000 images/s",
            holds=IMAGES / alone[0] >= 2000,
        ),
        Figure("… by the time of a processor", IMAGES / alone[1], "images/s"),
        Figure("… and each record written, durably", IMAGES / every, "images/s"),
        Figure("… one that tells another fixed version, the same", IMAGES / again, "images/s"),
        Figure("every finding of every image changes, each record written", IMAGES / worst, "images/s"),
        Figure("an advisory that touches no image: until it is known that it does not", nowhere * 1000, "ms"),
    ]


async def _alone(root: Path, files: Path, reports: dict[str, str]) -> tuple[float, float]:
    """(seconds by the clock, seconds of a processor) that workers take for an advisory that touches every image, with
    copies of the scanner's files, asked as the scanner asks them."""
    apart = root / "apart"
    apart.mkdir()
    for name in ("advisories.sqlite", "bills.sqlite"):
        with closing(sqlite3.connect(files / name)) as one, closing(sqlite3.connect(apart / name)) as other:
            one.backup(other)
    (apart / "bills").symlink_to(files / "bills")
    shutil.copytree(files / "reports", apart / "reports", copy_function=os.link)
    import_files(apart / "advisories.sqlite", _advisory(root, "everywhere", "2.0-1"), time.time())
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    due = (await _worker("touched", apart, {}))["due"]
    done: list[Any] = []
    for start in range(0, len(due), BATCH):
        batch = due[start : start + BATCH]
        told = await _worker(
            "rematch", apart, {"done": done, "bills": [[bill, reports[bill], None, False] for bill in batch]}
        )
        if len(told["changed"]) != len(batch):
            raise RuntimeError("not all images changed")
        done = [[told["revision"], batch]]
    await _worker("rematch", apart, {"done": done})
    seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if len(due) != len(reports):
        raise RuntimeError(f"{len(due)} bills were due, of {len(reports)}")
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


async def _worker(mode: str, root: Path, request: dict[str, Any]) -> Any:
    paths = (root / "advisories.sqlite", root / "bills.sqlite", root)
    return json.loads(await Workers(1).run(mode, *map(str, paths), feed=once(json.dumps(request).encode())))


def _advisory(root: Path, name: str, fixed: str) -> Path:
    record = {"id": f"NEW-{name}", "modified": f"2025-01-01T00:00:00.{fixed[-1]}Z"}
    path = root / f"{name}.json"
    path.write_text(json.dumps(record | {"affected": [_affected("Debian:12", name, fixed)]}))
    return path


def _exploited(root: Path) -> Path:
    """All vulnerabilities are told to be exploited."""
    entries = [{"cveID": f"CVE-2024-{number:05d}", "dateAdded": "2025-01-01"} for number in range(VULNERABILITIES)]
    path = root / "exploited.json"
    path.write_text(json.dumps({"vulnerabilities": entries}))
    return path


async def _changed(root: Path, scanner: Any, name: str, fixed: str) -> float:
    return await _held_against(scanner, _advisory(root, name, fixed))


async def _held_against(scanner: Any, path: Path) -> float:
    """Seconds from the end of an import to the write of the last record that it changes."""
    await scanner.import_(path)
    began = time.monotonic()
    current = scanner.app.advisories.current.version
    await until(lambda: scanner.app.rematching.reached == current, WAIT_S)
    return time.monotonic() - began


if __name__ == "__main__":
    from tests.bench.figures import table

    print(table(run()))
