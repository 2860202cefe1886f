"""What the scanner does for the registry, whose API tells of scans."""

import msgspec

from contracts.rpc.command import Command


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
    ScanNotFoundException, or InvalidParameterException for a token that was not given out."""

    account: str
    region: str
    repository: str
    digest: str
    max_results: int = 100
    next_token: str = ""


class Finding(msgspec.Struct, kw_only=True, frozen=True):
    """A vulnerability of one package. `name` is the CVE's, or the advisory's own. `package` is what is installed,
    `source` what it was built of (the name that distributions' advisories use). `fixed` is empty when no fixed
    version is known. `layer` is the digest of the layer that brought it, `path` the file that says so."""

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


class Findings(msgspec.Struct, kw_only=True, frozen=True):
    """A page of findings. Without a COMPLETE scan there are none. `next_token` is empty at the end."""

    status: str
    description: str = ""
    completed_at: float = 0.0
    advisories_at: float = 0.0
    counts: dict[str, int] = {}
    findings: list[Finding] = []
    next_token: str = ""


START_SCAN = Command("scanner", "start_scan", StartScan, ScanStarted)
DESCRIBE_FINDINGS = Command("scanner", "describe_findings", DescribeFindings, Findings)

COMMANDS = (START_SCAN, DESCRIBE_FINDINGS)
