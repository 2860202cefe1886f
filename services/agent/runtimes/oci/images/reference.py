"""Image names as people write them, completed as Docker does (`nginx` is `docker.io/library/nginx:latest`)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from services.agent.ports import CannotPullContainerError

_PATH = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*\Z")
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::\d{1,5})?\Z")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class Reference:
    """`host/path:tag@digest`; with a digest the tag says nothing."""

    host: str
    path: str
    tag: str
    digest: str = ""

    @property
    def version(self) -> str:
        """What to ask the registry for: the digest, else the tag."""
        return self.digest or self.tag

    @property
    def is_local(self) -> bool:
        """Whether the host is this machine, which Docker, too, speaks plain HTTP with."""
        name = self.host.rpartition(":")[0] if ":" in self.host and not self.host.endswith("]") else self.host
        return name in ("localhost", "[::1]") or name.endswith(".localhost") or name.startswith("127.")

    def __str__(self) -> str:
        return f"{self.host}/{self.path}" + (f"@{self.digest}" if self.digest else f":{self.tag}")


def parse(text: str) -> Reference:
    """A complete reference. Raises CannotPullContainerError when it is none
    (https://github.com/distribution/reference, grammar)."""
    rest, _, digest = text.partition("@")
    first, slash, path = rest.partition("/")
    if slash and (first == "localhost" or "." in first or ":" in first):
        host = first
    else:
        host, path = "docker.io", rest
    path, colon, tag = path.rpartition(":") if ":" in path.rpartition("/")[2] else (path, "", "")
    if host in ("docker.io", "index.docker.io"):
        host, path = "docker.io", path if "/" in path else f"library/{path}"
    named = _HOST.match(host) and _PATH.match(path)
    valid = named and (not colon or _TAG.match(tag)) and ("@" not in text or _DIGEST.match(digest))
    if not valid or len(path) > 255:
        raise CannotPullContainerError(f"invalid reference format: {text!r}")
    return Reference(host, path, tag or "latest", digest)
