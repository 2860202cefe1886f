"""What the scanner does for the registry, whose API tells of scans."""

import msgspec

from contracts.rpc.command import Command

PACKAGE_TYPES = {
    "PyPI": "pypi",
    "npm": "npm",
    "Maven": "maven",
    "Go": "golang",
    "RubyGems": "gem",
    "crates.io": "cargo",
    "Packagist": "composer",
    "NuGet": "nuget",
    "Debian": "deb",
    "Ubuntu": "deb",
    "Alpine": "apk",
    "Wolfi": "apk",
    "Chainguard": "apk",
}
"""Types of package URLs by a finding's ecosystem, without its release; others are `rpm`."""


class StartScan(msgspec.Struct, kw_only=True, frozen=True):
    """Scan an image now. Refused with LimitExceededException when it was scanned for the API within a day, and with
    UnsupportedImageTypeException when it is no image of layers."""

    account: str
    region: str
    repository: str
    digest: str
    on_push: bool = False


class ScanStarted(msgspec.Struct, kw_only=True, frozen=True):
    """The scan is asked for; durable."""

    status: str
    description: str = ""


class DescribeFindings(msgspec.Struct, kw_only=True, frozen=True):
    """The findings of an image's newest scan, the worst first, at most `max_results`. Refused with
    ScanNotFoundException, or InvalidParameterException for a token that was not given out. `enhanced`: with what the
    advisories say in words, and with suppressed findings too, which are left out else."""

    account: str
    region: str
    repository: str
    digest: str
    max_results: int = 100
    next_token: str = ""
    enhanced: bool = False


class JudgeFindings(msgspec.Struct, kw_only=True, frozen=True):
    """What of an image's findings counts now: those that no suppression in force covers. Refused with
    ScanNotFoundException without a COMPLETE scan."""

    account: str
    region: str
    repository: str
    digest: str


class OpenFindings(msgspec.Struct, kw_only=True, frozen=True):
    """Findings that count, as ImageScan counts and names them; and how many don't."""

    counts: dict[str, int] = {}
    fixable: dict[str, int] = {}
    named: dict[str, list[str]] = {}
    suppressed: int = 0


class CvssScore(msgspec.Struct, kw_only=True, frozen=True):
    """A CVSS base score: `version` of the vector (`2.0`, `3.1`, `4.0`), `base` 0.0 to 10.0."""

    version: str
    base: float
    vector: str


class AdvisoryDetail(msgspec.Struct, kw_only=True, frozen=True):
    """What an advisory says in words. Times are RFC 3339, empty when they are not known."""

    summary: str = ""
    published: str = ""
    modified: str = ""
    scores: list[CvssScore] = []
    references: list[str] = []


class Finding(msgspec.Struct, kw_only=True, frozen=True):
    """A vulnerability of one package. `name` is the CVE's, or the advisory's own. `package` is what is installed,
    `source` what it was built of (the name that distributions' advisories use). `fixed` is empty when no fixed version
    is known. `aliases` are the ids of the advisories that tell of it, and their other names; `exploited` is the day
    (YYYY-MM-DD) on which it became known to be exploited. `layer` is the digest of the layer that brought it, `path`
    the file that says so. `suppressed` is the reason for which it does not count; empty: it does."""

    name: str
    severity: str
    package: str
    version: str
    ecosystem: str
    advisory: str = ""
    description: str = ""
    uri: str = ""
    fixed: str = ""
    source: str = ""
    layer: str = ""
    path: str = ""
    score: float = 0.0
    vector: str = ""
    aliases: list[str] = []
    exploited: str = ""
    suppressed: str = ""


class Findings(msgspec.Struct, kw_only=True, frozen=True):
    """A page of findings. Without a COMPLETE scan there are none. `next_token` is empty at the end. `details` are the
    advisories of the findings by their ids, when they were asked for; `requested_at` is when the scan was asked for."""

    status: str
    description: str = ""
    completed_at: float = 0.0
    advisories_at: float = 0.0
    counts: dict[str, int] = {}
    findings: list[Finding] = []
    next_token: str = ""
    requested_at: float = 0.0
    details: dict[str, AdvisoryDetail] = {}


START_SCAN = Command("scanner", "start_scan", StartScan, ScanStarted)
DESCRIBE_FINDINGS = Command("scanner", "describe_findings", DescribeFindings, Findings)

JUDGE_FINDINGS = Command("scanner", "judge_findings", JudgeFindings, OpenFindings)

COMMANDS = (START_SCAN, DESCRIBE_FINDINGS, JUDGE_FINDINGS)
