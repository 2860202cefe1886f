"""What the scanner stores: the scan of each image, the gates that keep images from running, and what is let be.

Findings and bills of materials are files of the scanner's own, named by `ImageScan.report`.
"""

import msgspec

from contracts.kinds import Kind

SEVERITIES = ("UNDEFINED", "INFORMATIONAL", "LOW", "MEDIUM", "HIGH", "CRITICAL")
"""ECR's severities of findings, the worst last."""

EVERYWHERE = "*"


class FindingsChange(msgspec.Struct, kw_only=True, frozen=True):
    """What other advisories made of an image that was scanned before: findings that are new and that are gone, by
    severity, and some of them as `CVE package version`. A finding that only tells something else is in neither."""

    at: float
    added: dict[str, int] = {}
    gone: dict[str, int] = {}
    added_names: list[str] = []
    gone_names: list[str] = []


class ImageScan(msgspec.Struct, kw_only=True, frozen=True):
    """The newest scan of an image.

    status: IN_PROGRESS (asked for, or begun) | COMPLETE | FAILED | UNSUPPORTED_IMAGE, as ECR names them; `description`
    says why. `requested_at` is when this scan was asked for; `started_by` PUSH, or API (StartImageScan). `counts` are
    findings by severity, `fixable` those of them for which a fixed version is known; `named` gives the names of some of
    them, fixable ones first. `advisories` is the version of the index that it was matched with (empty: there was none),
    `advisories_at` its newest advisory; it is not written again when others find the same. `exploited` counts the
    findings that are known to be exploited. `report` is the SHA-256 of the file with the findings, `contents` that of
    the file with what was found in the image, whatever is known of it. `problems` counts
    the secrets and misconfigurations in it by severity. `change` is what the newest match found other
    than the one before it. `boms` are the digests of the manifests by which its bills of materials are its referrers,
    by format (cyclonedx, spdx); `boms_of` the `contents` that they tell of, empty when they are to be put (again)."""

    account: str
    region: str
    repository: str
    digest: str
    status: str
    requested_at: float
    started_by: str = "PUSH"
    description: str = ""
    completed_at: float = 0.0
    counts: dict[str, int] = {}
    fixable: dict[str, int] = {}
    named: dict[str, list[str]] = {}
    packages: int = 0
    advisories: str = ""
    advisories_at: float = 0.0
    report: str = ""
    contents: str = ""
    boms: dict[str, str] = {}
    boms_of: str = ""
    exploited: int = 0
    problems: dict[str, int] = {}
    change: FindingsChange | None = None


class ScanGate(msgspec.Struct, kw_only=True, frozen=True):
    """Images with findings of this severity or worse are not to run. scope: `*` (every repository), or
    `repository/<name>`, which goes before; beside either `cluster/<name>`, whose tasks must pass both (App Runner's
    services are the cluster `apprunner`). `fixable_only`: findings without a fixed version don't count. `secrets`:
    secrets and misconfiguration of that severity in an image count too."""

    account: str
    region: str
    scope: str
    severity: str
    fixable_only: bool = False
    set_at: float = 0.0
    secrets: bool = False


class GateOverride(msgspec.Struct, kw_only=True, frozen=True):
    """An image runs whatever gates say, until then (seconds since the epoch; 0: until it is removed). `reason` and `by`
    say why and who."""

    account: str
    region: str
    repository: str
    digest: str
    reason: str
    by: str
    at: float
    until: float = 0.0


class Suppression(msgspec.Struct, kw_only=True, frozen=True):
    """A finding that is not to count, and why. It is of the vulnerability `advisory` (a CVE, or another id of it), also
    known by `aliases`; of the package (or the source that it was built of) `package`, of this `version` and this type
    of package URL (`ecosystem`: deb, pypi, …); in `repository`; in the image `digest`. What is empty says nothing. At
    `until` it ends (seconds since the epoch; 0: never). `id` is made of what it is of. `source` is the OpenVEX document
    that said so."""

    account: str
    region: str
    id: str
    advisory: str
    reason: str
    by: str
    created_at: float
    aliases: list[str] = []
    package: str = ""
    version: str = ""
    ecosystem: str = ""
    repository: str = ""
    digest: str = ""
    until: float = 0.0
    source: str = ""


IMAGE_SCAN = Kind("scanner", "image_scan", ImageScan, ("account", "region", "repository", "digest"))
SCAN_GATE = Kind("scanner", "gate", ScanGate, ("account", "region", "scope"))
GATE_OVERRIDE = Kind("scanner", "gate_override", GateOverride, ("account", "region", "repository", "digest"))
SUPPRESSION = Kind("scanner", "suppression", Suppression, ("account", "region", "id"))

KINDS = (IMAGE_SCAN, SCAN_GATE, GATE_OVERRIDE, SUPPRESSION)
