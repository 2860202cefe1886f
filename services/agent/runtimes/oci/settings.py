"""How an oci runtime may be set up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class OciSettings:
    """`endpoints` maps registry hosts (or patterns: `*.dkr.ecr.*.amazonaws.com`) to base URLs to pull from.

    run_directory: what does not outlive a boot, and what all agents of a machine share (subnets, host ports).
    dns: `address:port` of what answers sandboxes at port 53 of their gateway; empty: they ask the node's resolvers.
    runtime: `runc` or another of its command line. log_bytes: a container's log begins anew at this size.
    """

    runtime: str = "runc"
    run_directory: Path = Path("/run/roadstead")
    cgroup: str = "roadstead"
    endpoints: Mapping[str, str] = field(default_factory=dict)
    seccomp: bool = True
    log_bytes: int = 64 << 20
    threads: int = 16
    execs: int = 32
    dns: str = ""
