"""Names: of repositories, digests and tags, and how a client's path, host or image reference leads to a repository.

A repository of the default account and region is `<registry>/<name>`, one of another account or region
`<registry>/<account>.<region>/<name>`, and by AWS' own host name `<account>.dkr.ecr.<region>.amazonaws.com/<name>`.
"""

from __future__ import annotations

import re

import msgspec

DEFAULT_ACCOUNT = "000000000000"
DEFAULT_REGION = "us-east-1"

# OCI distribution 1.1, "Pulling manifests"; ECR's own pattern and length (CreateRepository) are stricter.
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*\Z")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}\Z")
_UPLOAD = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_REGION = re.compile(r"[a-z]{2}(?:-[a-z]+)+-\d+\Z")
_SCOPE = re.compile(r"(\d{12})\.([a-z]{2}(?:-[a-z]+)+-\d+)\Z")
_AWS_HOST = re.compile(r"(\d{12})\.dkr\.ecr(?:-fips)?\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?(?::\d+)?\Z")
_ARN = re.compile(r"arn:aws[a-z-]*:ecr:([a-z0-9-]+):(\d{12}):repository/(.+)\Z", re.DOTALL)
_PRINCIPAL = re.compile(r"arn:aws[a-z-]*:iam::(\d{12}):(?:root|role/[!-~]+)\Z")
_PATHS = (
    ("upload", re.compile(r"(?P<name>.+)/blobs/uploads/(?P<reference>[^/]*)\Z", re.DOTALL)),
    ("uploads", re.compile(r"(?P<name>.+)/blobs/uploads\Z", re.DOTALL)),
    ("blob", re.compile(r"(?P<name>.+)/blobs/(?P<reference>[^/]+)\Z", re.DOTALL)),
    ("manifest", re.compile(r"(?P<name>.+)/manifests/(?P<reference>[^/]+)\Z", re.DOTALL)),
    ("referrers", re.compile(r"(?P<name>.+)/referrers/(?P<reference>[^/]+)\Z", re.DOTALL)),
    ("tags", re.compile(r"(?P<name>.+)/tags/list\Z", re.DOTALL)),
)


class RepositoryId(msgspec.Struct, frozen=True):
    """Which repository: of which account, in which region, with which name (valid or not)."""

    account: str
    region: str
    name: str

    @property
    def arn(self) -> str:
        """Its ARN."""
        return f"arn:aws:ecr:{self.region}:{self.account}:repository/{self.name}"

    @property
    def path(self) -> str:
        """Its name under the registry's own host: no prefix for the default account and region."""
        if (self.account, self.region) == (DEFAULT_ACCOUNT, DEFAULT_REGION):
            return self.name
        return f"{self.account}.{self.region}/{self.name}"


class Target(msgspec.Struct, frozen=True):
    """What a path under /v2/ means. kind: upload | uploads | blob | manifest | referrers | tags."""

    kind: str
    name: str
    reference: str = ""


class Reference(msgspec.Struct, frozen=True):
    """An image reference of this registry, taken apart; `suffix` is `:tag`, `@digest`, both or neither."""

    repository: RepositoryId
    suffix: str

    @property
    def meant(self) -> str:
        """The digest if there is one, else the tag, which is `latest` when none is given."""
        tag, _, digest = self.suffix.partition("@")
        return digest or tag.removeprefix(":") or "latest"


def valid_repository(name: str) -> bool:
    """Whether a repository may have this name: OCI's form, 2 to 256 characters, not like another account's prefix."""
    if not 2 <= len(name) <= 256 or _REPOSITORY.match(name) is None:
        return False
    first, slash, _ = name.partition("/")
    return not (slash and _SCOPE.match(first))


def valid_region(text: str) -> bool:
    """Whether this may be a region."""
    return _REGION.match(text) is not None


def valid_digest(text: str) -> bool:
    """Whether this is a digest of the one algorithm that is stored, SHA-256."""
    return _DIGEST.match(text) is not None


def valid_tag(text: str) -> bool:
    """Whether this may be a tag."""
    return _TAG.match(text) is not None


def valid_upload(text: str) -> bool:
    """Whether this may be the id of an upload."""
    return _UPLOAD.match(text) is not None


def parse_path(path: str) -> Target | None:
    """What a decoded path after `/v2/` means; None for a path that the distribution API does not have."""
    for kind, pattern in _PATHS:
        found = pattern.match(path)
        if found is not None:
            parts = found.groupdict()
            kind = "uploads" if kind == "upload" and not parts["reference"] else kind
            return Target(kind, parts["name"], parts.get("reference", ""))
    return None


def place_of(host: str) -> tuple[str, str] | None:
    """(account, region) of a host that is a registry of ECR; None for any other."""
    found = _AWS_HOST.match(host.lower())
    return (found[1], found[2]) if found is not None else None


def locate(host: str, name: str) -> RepositoryId:
    """The repository that a client means with this Host header and this name in its path. The name is not checked."""
    by_host = _AWS_HOST.match(host.lower())
    if by_host is not None:
        return RepositoryId(by_host[1], by_host[2], name)
    first, slash, rest = name.partition("/")
    scope = _SCOPE.match(first) if slash else None
    if scope is not None:
        return RepositoryId(scope[1], scope[2], rest)
    return RepositoryId(DEFAULT_ACCOUNT, DEFAULT_REGION, name)


def parse_reference(image: str, own_hosts: frozenset[str]) -> Reference | None:
    """An image reference as it stands in a task definition, if this registry answers for it; else None."""
    host, slash, rest = image.partition("/")
    if not slash or not (host in own_hosts or _AWS_HOST.match(host)):
        return None
    name, at, digest = rest.partition("@")
    slash_at = name.rfind("/")
    colon = name.find(":", slash_at + 1)
    tag = name[colon:] if colon >= 0 else ""
    return Reference(locate(host, name[:colon] if colon >= 0 else name), tag + at + digest)


def root_of(account: str) -> str:
    """The principal that is the account itself."""
    return f"arn:aws:iam::{account}:root"


def account_of(principal: str) -> str | None:
    """The account of a principal of IAM, by its ARN; None when it is none."""
    found = _PRINCIPAL.match(principal)
    return found[1] if found else None


def parse_arn(arn: str) -> RepositoryId | None:
    """The repository with this ARN, None if it is no repository's."""
    found = _ARN.match(arn)
    return RepositoryId(found[2], found[1], found[3]) if found else None
