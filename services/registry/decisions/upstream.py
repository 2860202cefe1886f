"""Which rule or template holds for a repository, and what it is called upstream.

https://docs.aws.amazon.com/AmazonECR/latest/userguide/pull-through-cache.html
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping

import msgspec

ROOT = "ROOT"
FRESH_S = 24 * 3600.0
"""How long a tag is believed before it is looked up upstream again."""

ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
"""The media types of manifests that are taken."""

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


class Source(msgspec.Struct, frozen=True):
    """Another registry: its host (with a port if need be), and the ARN of the secret with the login that it wants,
    empty for none. A registry of ECR is asked in the role `role_arn`, or if there is none in the name of `account`."""

    host: str
    credential_arn: str = ""
    role_arn: str = ""
    account: str = ""


class Login(msgspec.Struct, frozen=True, rename="camel"):
    """A login as ECR wants it in a secret."""

    username: str
    access_token: str

    def __repr__(self) -> str:
        """Without what is secret, wherever it is shown."""
        return "Login(…)"

    @property
    def basic(self) -> str:
        """Its Authorization header (RFC 7617)."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.access_token}".encode()).decode()


def read_login(secret: bytes) -> Login | None:
    """The login in a secret: a JSON object with a `username` and an `accessToken`; None when it is none.
    https://docs.aws.amazon.com/AmazonECR/latest/userguide/pull-through-cache-creating-secret.html"""
    try:
        login = msgspec.json.decode(secret, type=Login)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return login if login.username and login.access_token and ":" not in login.username else None


def may_have_login(source: Source, realm: str) -> bool:
    """Whether a login may be sent to the token service that a registry names: never in clear, but on this machine."""
    return realm.startswith("https://") or base_url(source.host).startswith("http://")


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
