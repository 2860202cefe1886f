"""Which rule or template holds for a repository, and what it is called upstream.

https://docs.aws.amazon.com/AmazonECR/latest/userguide/pull-through-cache.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

ROOT = "ROOT"
FRESH_S = 24 * 3600.0
"""How long a tag is believed before it is looked up upstream again."""

_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*(?::\d{1,5})?\Z")
_LOOPBACK = frozenset({"localhost", "127.0.0.1"})
WELL_KNOWN: Mapping[str, str] = {
    "public.ecr.aws": "ecr-public",
    "quay.io": "quay",
    "registry.k8s.io": "k8s",
    "registry-1.docker.io": "docker-hub",
    "ghcr.io": "github-container-registry",
    "registry.gitlab.com": "gitlab-container-registry",
    "cgr.dev": "chainguard",
}
"""What ECR calls the registry at a host."""


def valid_host(text: str) -> bool:
    """Whether this may be the host of a registry, with a port or without."""
    return _HOST.match(text) is not None


def base_url(host: str) -> str:
    """Where its API begins. A registry of one's own machine is asked without TLS, as Docker does it."""
    return f"http://{host}" if host.partition(":")[0] in _LOOPBACK else f"https://{host}"


def longest_prefix(name: str, prefixes: Iterable[str]) -> str | None:
    """The longest of the prefixes under which a repository's name lies, whole parts of it; `ROOT` is under all."""
    fitting = [each for each in prefixes if each == ROOT or name.startswith(each.rstrip("/") + "/")]
    return max(fitting, key=lambda each: 0 if each == ROOT else len(each), default=None)


def upstream_name(name: str, prefix: str, upstream_prefix: str) -> str:
    """What a repository under `prefix` is called upstream."""
    rest = name if prefix == ROOT else name[len(prefix.rstrip("/")) + 1 :]
    return rest if upstream_prefix == ROOT else f"{upstream_prefix.rstrip('/')}/{rest}"
