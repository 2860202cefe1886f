"""Hostile layers, gates that wait, a scanner that is killed: nothing hangs, nothing passes that should not."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import os
import signal
import sys
import tarfile
from pathlib import Path

import pytest

from contracts.records.scanner import SCAN_GATE, ScanGate
from contracts.rpc.registry import ISSUE_PULL_TOKEN, IssuePullToken
from services.scanner.adapters.workers import Workers
from services.scanner.handlers import scanning
from services.shared.bus import CommandRefused
from tests.builders.images import tar_layer
from tests.builders.registry import ACCOUNT, REGION, registry_at, small_image
from tests.builders.scanner import advisories, packages, packed_image, scanner_at
from tests.builders.waiting import until

SOON = 30.0
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
async def registry(nats_platform, tmp_path):
    async with registry_at(nats_platform, tmp_path / "data", gate_wait_s=1.0) as running:
        await running.aws("CreateRepository", repositoryName="shop")
        yield running


async def scan_of(registry, image):
    """Push it; its scan, when it is over."""
    assert (await registry.push_image("shop", image, "1")).status == 201
    where = (ACCOUNT, REGION, "shop", image.digest)
    await until(lambda: (registry.app.gates.scans.record(*where) or _RUNS).status != "IN_PROGRESS", SOON)
    return registry.app.gates.scans.record(*where)


class _RUNS:
    status = "IN_PROGRESS"


MIB = 1 << 20


@pytest.mark.parametrize(
    ("layer", "status", "why"),
    [
        (gzip.compress(tar_layer({"/zeros": b"\0" * (3 * MIB)})), "FAILED", "unpacks to more than 2097152 bytes"),
        (gzip.compress(tar_layer({"/a": "b"}))[:60], "FAILED", "gzip stream"),
        (b"\x1f\x8b\x08\0rubbish", "FAILED", "gzip stream"),
        (b"this is no tar at all, but long enough to be taken for one" * 20, "FAILED", "no tar"),
        (tar_layer({"/var/lib/dpkg/status": b"x" * (MIB + 1)}), "FAILED", "/var/lib/dpkg/status has 1048577 bytes"),
        (tar_layer({f"/{n}": "" for n in range(101)}), "FAILED", "more than 100 entries"),
        (b"\x28\xb5\x2f\xfd" + b"\0" * 600, "FAILED", "zstd stream"),
        (b"BZh9" + b"\0" * 600, "UNSUPPORTED_IMAGE", "bzip2"),
    ],
    ids=["bomb", "short gzip", "bad gzip", "no tar", "giant file", "entries", "zstd", "bzip2"],
)
async def test_a_layer_that_can_not_be_read_fails_the_scan_and_says_so(
    registry, nats_platform, tmp_path, layer, status, why
):
    limits = {"layer_unpacked_mib": 2, "layer_file_mib": 1, "layer_entries": 100}
    async with scanner_at(nats_platform, tmp_path / "data", **limits):
        image = small_image((layer,))
        scan = await scan_of(registry, image)
        assert (scan.status, why in scan.description) == (status, True), scan.description


async def test_a_worker_that_needs_too_much_memory_is_ended_and_the_next_scan_goes_on(
    registry, nats_platform, tmp_path
):
    many = "\n".join(f"Package: p{n}\nVersion: 1\n" for n in range(200_000))
    async with scanner_at(nats_platform, tmp_path / "data", worker_memory_mib=64):
        scan = await scan_of(registry, packed_image({"/var/lib/dpkg/status": many}))
        assert scan.status == "FAILED"
        assert (await scan_of(registry, packed_image({"/x": "y"}))).status == "COMPLETE"


async def test_a_worker_reads_no_module_of_the_directory_it_was_started_in(tmp_path, monkeypatch):
    for name in ("resource", "packaging", "services"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not ours')\n")
    monkeypatch.chdir(tmp_path)
    assert b"nothing was judged" in await Workers(1).run("match", feed=_nothing())


async def _nothing():
    yield b'["e30="]'


async def test_an_image_whose_layers_tell_too_much_is_not_held_in_memory(
    registry, nats_platform, tmp_path, monkeypatch
):
    monkeypatch.setattr(scanning, "REPORTS_LIMIT", 1000)
    async with scanner_at(nats_platform, tmp_path / "data"):
        hidden = (tar_layer({f"/.wh.{name}{number:090d}": "" for number in range(6)}) for name in "ab")
        scan = await scan_of(registry, small_image(tuple(hidden)))
    assert (scan.status, "more than" in scan.description) == ("FAILED", True)


async def test_nothing_is_written_outside_of_the_scanners_directory(registry, nats_platform, tmp_path):
    async with scanner_at(nats_platform, tmp_path / "data") as scanner:
        evil = f"/usr/lib/../../../../../../../../tmp/roadstead-evil-{os.getpid()}/node_modules/x/package.json"
        scan = await scan_of(registry, packed_image({evil: '{"name": "x", "version": "1"}'}))
        assert (scan.status, scan.packages) == ("COMPLETE", 1)
        assert not Path(f"/tmp/roadstead-evil-{os.getpid()}").exists()
        assert {p.name for p in scanner.files.iterdir()} == {"layers", "reports", "bills", "door.key"}


async def gate(scanner, severity="CRITICAL", **members):
    record = ScanGate(account=ACCOUNT, region=REGION, scope="*", severity=severity, **members)
    await scanner.app._store.put(SCAN_GATE, record, "gate.set.v1")


async def leave(nats_platform, image, *, to_run=True):
    """Ask for leave to pull, as an agent does; the refusal's words, or the token."""
    if not hasattr(nats_platform, "agent"):
        nats_platform.agent = await nats_platform.bus("agent")
    request = IssuePullToken(
        image=f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{image}", account=ACCOUNT, region=REGION, to_run=to_run
    )
    try:
        return await nats_platform.agent.call(ISSUE_PULL_TOKEN, request, timeout=30)
    except CommandRefused as refused:
        assert refused.code == "ScanGate"
        return refused.message


async def test_a_gate_refuses_by_findings_and_waits_for_the_scan(registry, nats_platform, tmp_path):
    async with scanner_at(nats_platform, tmp_path / "data") as scanner:
        await scanner.import_(advisories(tmp_path / "osv"))
        await gate(scanner)
        await until(lambda: registry.app.gates._gates.records(), SOON)
        registry.app.gates._wait_s = SOON
        bad, good = packed_image(packages()), packed_image({"/etc/motd": "hello"})
        await registry.push_image("shop", good, "good")
        token = await leave(nats_platform, "shop:good")
        assert token.pinned.endswith(f"@{good.digest}")
        await registry.push_image("shop", bad, "bad")
        told = await leave(nats_platform, "shop:bad")
        name = f"shop@{bad.digest}"
        assert told == (
            f"{name} refused by the scan gate of every repository: 1 CRITICAL finding (CVE-2023-0001);"
            f" `roadstead scan {name}` shows all"
        )
        assert (await leave(nats_platform, "shop:bad", to_run=False)).pinned


async def test_a_gate_without_advisories_lets_nothing_through(registry, nats_platform, tmp_path):
    async with scanner_at(nats_platform, tmp_path / "data") as scanner:
        await gate(scanner)
        await until(lambda: registry.app.gates._gates.records(), SOON)
        await scan_of(registry, packed_image({"/etc/motd": "hello"}))
        assert "without advisories" in await leave(nats_platform, "shop:1")


async def test_while_a_task_waits_for_a_scan_others_are_answered(registry, nats_platform, tmp_path):
    async with scanner_at(nats_platform, tmp_path / "data") as scanner:
        await gate(scanner)
        await until(lambda: registry.app.gates._gates.records(), SOON)
    registry.app.gates._wait_s = SOON
    await registry.push_image("shop", packed_image({"/etc/motd": "hello"}), "1")
    waiting = asyncio.ensure_future(leave(nats_platform, "shop:1"))
    await until(lambda: registry.app.gates._waiting, SOON)
    assert (await leave(nats_platform, "other/image:1")).local
    assert not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_a_scan_that_nobody_makes_is_waited_for_only_so_long(registry, nats_platform, tmp_path):
    async with scanner_at(nats_platform, tmp_path / "data") as scanner:
        await gate(scanner)
        await until(lambda: registry.app.gates._gates.records(), SOON)
    await registry.push_image("shop", packed_image({"/etc/motd": "hello"}), "1")
    assert "is not scanned yet" in await leave(nats_platform, "shop:1")


async def test_an_image_from_before_the_scanner_is_scanned_when_it_is_to_run(registry, nats_platform, tmp_path):
    await registry.push_image("shop", packed_image({"/etc/motd": "hello"}), "1")
    async with scanner_at(nats_platform, tmp_path / "data") as scanner:
        await scanner.import_(advisories(tmp_path / "osv"))
        await gate(scanner)
        await until(lambda: registry.app.gates._gates.records(), SOON)
        registry.app.gates._wait_s = SOON
        assert (await leave(nats_platform, "shop:1")).pinned
        assert [scan.status for scan in scanner.scans()] == ["COMPLETE"]


def slow_layer(mebibytes: int) -> bytes:
    """A small layer of packages behind so many MiB of nothing: reading it takes a second or two, to be killed in."""
    zeros = tarfile.TarInfo("zeros")
    zeros.size = mebibytes * MIB
    return b"".join(
        [
            gzip.compress(zeros.tobuf()),
            gzip.compress(b"\0" * MIB, 1) * mebibytes,
            gzip.compress(tar_layer(packages())),
        ]
    )


@contextlib.asynccontextmanager
async def scanner_process(nats_platform, data):
    """The scanner as a process of its own."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "ROADSTEAD_PORT": "0",
        "ROADSTEAD_NATS_URL": nats_platform.server.url,
        "ROADSTEAD_NATS_PASSWORD": nats_platform.passwords["scanner"],
        "ROADSTEAD_DATA": str(data),
        "ROADSTEAD_INSTANCE": "scanner",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.scanner", env=environment, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def test_a_scanner_killed_in_the_middle_of_a_scan_does_it_when_it_is_back(registry, nats_platform, tmp_path):
    image = small_image((slow_layer(1024),))
    where = (ACCOUNT, REGION, "shop", image.digest)
    async with scanner_process(nats_platform, tmp_path / "data") as process:
        await until((tmp_path / "data" / "scanner" / "door.key").exists, SOON)
        await registry.push_image("shop", image, "1")
        await until(lambda: registry.app.gates.scans.record(*where), SOON)
        process.send_signal(signal.SIGKILL)
        await process.wait()
    assert registry.app.gates.scans.record(*where).status == "IN_PROGRESS"
    async with scanner_process(nats_platform, tmp_path / "data"):
        await until(lambda: registry.app.gates.scans.record(*where).status == "COMPLETE", 60)
    assert registry.app.gates.scans.record(*where).packages == 4


async def test_a_push_while_the_scanner_was_away_is_scanned_when_it_is_back(registry, nats_platform, tmp_path):
    async with scanner_at(nats_platform, tmp_path / "data"):
        pass
    image = packed_image(packages())
    await registry.push_image("shop", image, "1")
    async with scanner_at(nats_platform, tmp_path / "data") as scanner:
        await until(lambda: scanner.done(image.digest), SOON)
        assert scanner.scans()[0].packages == 4


async def test_a_registry_that_is_away_is_waited_for(nats_platform, tmp_path):
    image = packed_image(packages())
    async with registry_at(nats_platform, tmp_path / "data") as registry:
        await registry.aws("CreateRepository", repositoryName="shop")
        async with scanner_at(nats_platform, tmp_path / "data"):
            pass
        await registry.push_image("shop", image, "1")
    async with scanner_at(nats_platform, tmp_path / "data") as scanner:
        await until(lambda: scanner.app._controller._tries, SOON)
        assert scanner.scans()[0].status == "IN_PROGRESS"
        async with registry_at(nats_platform, tmp_path / "data"):
            await until(lambda: scanner.done(image.digest), SOON)
            assert scanner.scans()[0].status == "COMPLETE"
