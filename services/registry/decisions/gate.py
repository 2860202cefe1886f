"""Whether an image may run, by the account's scan gates and what its scans found."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from contracts.records.registry import Image, is_container_image
from contracts.records.scanner import EVERYWHERE, SEVERITIES, GateOverride, ImageScan, ScanGate
from contracts.rpc.scheduler import WORKLOADS_CLUSTER

DEPTH = 4
"""How far indexes of indexes are followed; beyond, an image is not let through."""


class Verdict(NamedTuple):
    """Why an image may not run; empty: it may. `wait`: that may change by itself, its scan being under way. `unscanned`
    are the digests that nobody asked to scan. `found`: it is for its findings, of which some may not count."""

    why: str = ""
    wait: bool = False
    unscanned: tuple[str, ...] = ()
    found: bool = False


def judged(image: Image, find: Callable[[str], Image | None], depth: int = DEPTH) -> list[Image]:
    """The images that may run when this one is asked for: itself, or those of an index, all of them. What an index has
    of attestations, with no layer of files, is passed over: no runtime unpacks it."""
    if not image.manifests:
        return [image]
    if not depth:
        return [image]
    found: list[Image] = []
    for child in image.manifests:
        known = find(child.digest)
        if known is not None and (known.manifests or not _attests(known)):
            found += judged(known, find, depth - 1)
    return found


def _attests(image: Image) -> bool:
    return bool(image.layers) and not any(".tar" in layer.media_type for layer in image.layers)


def judge_all(gates: list[ScanGate], scans: list[tuple[Image, ImageScan | None]]) -> Verdict:
    """Whether images may run by all of some gates. The refusal tells of the gate's scope, and what shows more."""
    verdicts = [(gate, judge(gate, scans)) for gate in gates]
    refused = [each for each in verdicts if each[1].why]
    if not refused:
        return Verdict()
    gate, verdict = next((each for each in refused if not each[1].wait), refused[0])
    return verdict._replace(why=f"refused by the scan gate of {_of(gate.scope)}: {verdict.why}")


def _of(scope: str) -> str:
    known = {EVERYWHERE: "every repository", f"cluster/{WORKLOADS_CLUSTER}": "App Runner"}
    return known.get(scope, scope.replace("/", " ", 1))


def judge(gate: ScanGate, scans: list[tuple[Image, ImageScan | None]]) -> Verdict:
    """Whether images may run. What is not known is not let through, and what was found goes before what is not known
    yet: waiting would not change it."""
    verdicts = [_judge(gate, image, scan) for image, scan in scans]
    for verdict in verdicts:
        if verdict.why and not verdict.wait:
            return verdict
    waiting = [verdict for verdict in verdicts if verdict.wait]
    if not waiting:
        return Verdict()
    return Verdict(waiting[0].why, True, tuple(d for verdict in waiting for d in verdict.unscanned))


def is_overridden(override: GateOverride | None, now: float) -> bool:
    """Whether an image is to run whatever gates say."""
    return override is not None and (not override.until or override.until > now)


def _judge(gate: ScanGate, image: Image, scan: ImageScan | None) -> Verdict:
    if not is_container_image(image):
        return Verdict(f"{image.digest} is no image that can be scanned")
    if scan is None:
        return Verdict(f"{image.digest} is not scanned yet", True, (image.digest,))
    if scan.status == "IN_PROGRESS":
        return Verdict(f"{image.digest} is not scanned yet", True)
    if scan.status != "COMPLETE":
        return Verdict(f"{image.digest} could not be scanned: {scan.description}")
    if not scan.advisories:
        # Advisories that were just imported are being held against it.
        why = f"{image.digest} was scanned without advisories; `roadstead advisories import` brings them"
        return Verdict(why, wait=True)
    why = "; ".join(filter(None, (_findings(gate, scan), _problems(gate, scan))))
    return Verdict(why, found=bool(why))


def _problems(gate: ScanGate, scan: ImageScan) -> str:
    if not gate.secrets:
        return ""
    counted = sum(scan.problems.get(severity, 0) for severity in SEVERITIES[SEVERITIES.index(gate.severity) :])
    many = "s" if counted != 1 else ""
    return f"{counted} secret{many} or misconfiguration{many} of severity {gate.severity} or worse" if counted else ""


def _findings(gate: ScanGate, scan: ImageScan) -> str:
    counts = scan.fixable if gate.fixable_only else scan.counts
    told = []
    for severity in reversed(SEVERITIES[SEVERITIES.index(gate.severity) :]):
        count = counts.get(severity, 0)
        if not count:
            continue
        names = scan.named.get(severity, [])[:count]
        more = ", …" if count > len(names) else ""
        named = f" ({', '.join(names)}{more})" if names else ""
        told.append(f"{count} {severity} finding{'s' if count != 1 else ''}{named}")
    return "; ".join(told)
