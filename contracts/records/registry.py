"""What the registry stores: repositories, images and tags. Blobs and manifests themselves are files, by digest.

A push of a new manifest under a tag is two changes, each whole by itself: the image is in the repository
(`image.pushed.v1`), then the tag names it (`tag.moved.v1`). What stops between the two leaves an untagged image.
"""

import re
from typing import Any

import msgspec

from contracts.kinds import Kind


class LifecyclePreview(msgspec.Struct, kw_only=True, frozen=True):
    """What was asked to be previewed and when: the policy's text. The results follow from it and from the images."""

    policy: str
    started_at: float


class RepositoryKey(msgspec.Struct, kw_only=True, frozen=True):
    """What the content of a repository is sealed with: a data key, encrypted under a key of KMS (`wrapped`, base64),
    that the registry may have decrypted by a grant. `id` (32 hexadecimal digits) tells it from others."""

    id: str
    key_arn: str
    grant_id: str
    wrapped: str


class Repository(msgspec.Struct, kw_only=True, frozen=True):
    """A repository. `settings` is CreateRepository as it came, with the wire's names (mutability, scanning,
    encryption) and what the Put… operations changed since.

    `policy` and `lifecycle` are the texts of its repository policy and its lifecycle policy; empty: it has none. `key`
    is what its content is sealed with, None: the registry's own key. `lifecycle_evaluated_at` is when the lifecycle
    policy was last gone through, 0 for never."""

    account: str
    region: str
    name: str
    created_at: float
    settings: dict[str, Any] = {}
    tags: dict[str, str] = {}
    policy: str = ""
    lifecycle: str = ""
    lifecycle_evaluated_at: float = 0.0
    preview: LifecyclePreview | None = None
    key: RepositoryKey | None = None


class Descriptor(msgspec.Struct, kw_only=True, frozen=True):
    """What a manifest says of something that it names. `size` is in bytes; `external` content lies elsewhere (a
    layer with urls), so it need not be in the repository."""

    digest: str
    size: int
    media_type: str = ""
    external: bool = False


class Signing(msgspec.Struct, kw_only=True, frozen=True):
    """That an image is to be signed with a profile (an ARN), as the rules said when it was pushed: done when there is
    the digest of its `signature`, given up when there is a `failure_code`."""

    profile: str
    signature: str = ""
    failure_code: str = ""
    failure_reason: str = ""


class Image(msgspec.Struct, kw_only=True, frozen=True):
    """A manifest in a repository, by its digest; its tags are records of their own.

    `media_type` is the manifest's and `manifest_size` its bytes. `size` is what pulling it transfers: config and
    layers, or the largest of an index' manifests. An index has `manifests` and no layers. `subject` is the digest
    that it refers to (a signature's image).

    `pulled_at` is when it was last pulled, as far as that is recorded (0: never); pulls are written down now and then,
    not one by one. An archived image can't be pulled; `archived_at` and `activated_at` are the last time of each. A
    replica came by replication, and is not replicated again. `signings`: the profiles that it is to be signed with.
    An `attached` one was put by the platform itself, about its subject, and goes with it.
    """

    account: str
    region: str
    repository: str
    digest: str
    media_type: str
    manifest_size: int
    pushed_at: float
    size: int = 0
    config: Descriptor | None = None
    layers: list[Descriptor] = []
    manifests: list[Descriptor] = []
    subject: str | None = None
    artifact_type: str | None = None
    annotations: dict[str, str] = {}
    pulled_at: float = 0.0
    archived: bool = False
    archived_at: float = 0.0
    activated_at: float = 0.0
    replica: bool = False
    signings: list[Signing] = []
    attached: bool = False


class ImageTag(msgspec.Struct, kw_only=True, frozen=True):
    """A tag and the image it names since `tagged_at`. One whose image is gone names nothing."""

    account: str
    region: str
    repository: str
    tag: str
    digest: str
    tagged_at: float


class RegistrySettings(msgspec.Struct, kw_only=True, frozen=True):
    """What holds for a whole registry, an account's in a region. `scanning` is RegistryScanningConfiguration with the
    wire's names; {}: as it is from the beginning. `policy` is the text of the registry policy, empty for none.
    `replication` are the rules of ReplicationConfiguration, set at `replication_at`: they hold for what is pushed
    later, and what they said before already since then: `replication_since`, by account/region/prefix.
    `pull_exclusions`: principals whose pulls are not recorded, and since when each is one. `signing` are the rules of
    SigningConfiguration, None when there is no configuration. `account_settings`: what PutAccountSetting set, by
    name."""

    account: str
    region: str
    scanning: dict[str, Any] = {}
    policy: str = ""
    pull_exclusions: dict[str, float] = {}
    replication: list[dict[str, Any]] = []
    replication_at: float = 0.0
    replication_since: dict[str, float] = {}
    account_settings: dict[str, str] = {}
    signing: list[dict[str, Any]] | None = None


class Backfill(msgspec.Struct, kw_only=True, frozen=True):
    """A replication backfill: what was pushed before `started_at` is brought to the destination. `status` is in ECR's
    words; `total` how many replications it was found to be, an image and a tag being one; -1 until that is known."""

    account: str
    region: str
    id: str
    to_account: str
    to_region: str
    started_at: float
    status: str = "PREPARING"
    failure_code: str = ""
    total: int = -1
    ended_at: float = 0.0


class BackfillResult(msgspec.Struct, kw_only=True, frozen=True):
    """What became of one image in a backfill: the code of the failure by tag, empty for one that was replicated. An
    image without tags has one entry, of the empty tag."""

    account: str
    region: str
    backfill: str
    repository: str
    digest: str
    outcomes: dict[str, str]


class Place(msgspec.Struct, frozen=True):
    """A registry: an account's in a region."""

    account: str
    region: str


class Peer(msgspec.Struct, kw_only=True, frozen=True):
    """Another installation, to which images are sent: the registries that are its `destinations` are there and not
    here. `url` is its registry over HTTPS. `ca` (PEM) is whom its certificate is to be of; empty: whoever this machine
    trusts. `sealed_key` is the key that it gave out, sealed by the registry and base64."""

    name: str
    url: str
    destinations: list[Place]
    sealed_key: str
    added_at: float
    ca: str = ""


class PeerGrant(msgspec.Struct, kw_only=True, frozen=True):
    """Another installation, which may come here: with a key of which there is the SHA-256 (hex) alone, in the name of
    these accounts."""

    name: str
    accounts: list[str]
    key_digest: str
    granted_at: float


class ImageReplication(msgspec.Struct, kw_only=True, frozen=True):
    """What became of an image's replication to a registry of another installation, or to one where its deletion is to
    be replicated: COMPLETE or FAILED, in ECR's words; none while it is on its way. It is about the image that was
    pushed at `pushed_at`, and about the installation `peer` (empty: this one). `tags` are those that were brought, or
    failed, with the time since when each named the image."""

    account: str
    region: str
    repository: str
    digest: str
    to_account: str
    to_region: str
    status: str
    pushed_at: float
    ended_at: float
    peer: str = ""
    tags: dict[str, float] = {}
    failure_code: str = ""
    failure_reason: str = ""


class PullThroughRule(msgspec.Struct, kw_only=True, frozen=True):
    """Repositories `<prefix>/…` of a registry are a cache of another registry. `upstream` is its host (and port),
    `upstream_name` its name among those that ECR has names for, if any. What follows the prefix is looked for there
    behind `upstream_prefix`. `ROOT` stands for no prefix, on either side. `credential_arn` is the secret with the login
    that the upstream wants, `role_arn` the role in which another registry of ECR is asked; empty for none."""

    account: str
    region: str
    prefix: str
    upstream: str
    created_at: float
    updated_at: float
    upstream_name: str = ""
    upstream_prefix: str = "ROOT"
    credential_arn: str = ""
    role_arn: str = ""


class CreationTemplate(msgspec.Struct, kw_only=True, frozen=True):
    """How repositories `<prefix>/…` are made where nobody makes them by hand. `settings`, `tags`, `policy` and
    `lifecycle` become the repository's; `applied_for` says for what it holds, in the wire's words. `role_arn` is
    the role in which it is done, empty for none."""

    account: str
    region: str
    prefix: str
    created_at: float
    updated_at: float
    applied_for: list[str]
    description: str = ""
    settings: dict[str, Any] = {}
    tags: dict[str, str] = {}
    policy: str = ""
    lifecycle: str = ""
    role_arn: str = ""


class SigningProfile(msgspec.Struct, kw_only=True, frozen=True):
    """What stands for a signing profile of AWS Signer: a key of its own. `sealed_key` is the private key (PKCS #8),
    sealed by the registry and base64, `certificate` what it is verified with: X.509, self-signed, DER, base64."""

    account: str
    region: str
    name: str
    created_at: float
    sealed_key: str
    certificate: str


CONFIGS = frozenset(
    {
        "",
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
    }
)
"""The media types of the configs of images that can be run."""


def is_container_image(image: Image) -> bool:
    """Whether it can be run: it has a config of an image, and layers of files if any. Signatures, bills of materials
    and the like are manifests too."""
    if image.manifests or image.config is None or image.config.media_type not in CONFIGS:
        return False
    return not image.layers or any(".tar" in layer.media_type for layer in image.layers)


def scan_frequency(rules: list[dict[str, Any]], name: str) -> tuple[str, list[dict[str, str]]]:
    """What RegistryScanningConfiguration's rules come to: (the frequency at which a repository is scanned, the filters
    of the registry's rules that say so)."""
    for frequency in ("CONTINUOUS_SCAN", "SCAN_ON_PUSH"):
        found = [
            each
            for rule in rules
            if rule["scanFrequency"] == frequency
            for each in rule["repositoryFilters"]
            if _filter_matches(each["filter"], name)
        ]
        if found:
            return frequency, found
    return "MANUAL", []


def _filter_matches(pattern: str, name: str) -> bool:
    """A filter without a wildcard matches all names that have it in them, as ECR's documentation of filters says."""
    if "*" not in pattern:
        return pattern in name
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name, re.DOTALL) is not None


REPOSITORY = Kind("registry", "repository", Repository, ("account", "region", "name"))
IMAGE = Kind("registry", "image", Image, ("account", "region", "repository", "digest"))
IMAGE_TAG = Kind("registry", "tag", ImageTag, ("account", "region", "repository", "tag"))

REGISTRY_SETTINGS = Kind("registry", "settings", RegistrySettings, ("account", "region"))

PULL_THROUGH_RULE = Kind("registry", "pull_through_rule", PullThroughRule, ("account", "region", "prefix"))
CREATION_TEMPLATE = Kind("registry", "creation_template", CreationTemplate, ("account", "region", "prefix"))

SIGNING_PROFILE = Kind("registry", "signing_profile", SigningProfile, ("account", "region", "name"))

BACKFILL = Kind("registry", "backfill", Backfill, ("account", "region", "id"))
BACKFILL_RESULT = Kind(
    "registry", "backfill_result", BackfillResult, ("account", "region", "backfill", "repository", "digest")
)

PEER = Kind("registry", "peer", Peer, ("name",))
PEER_GRANT = Kind("registry", "peer_grant", PeerGrant, ("name",))
IMAGE_REPLICATION = Kind(
    "registry",
    "replication",
    ImageReplication,
    ("account", "region", "repository", "digest", "to_account", "to_region"),
)

KINDS = (
    REPOSITORY,
    IMAGE,
    IMAGE_TAG,
    REGISTRY_SETTINGS,
    PULL_THROUGH_RULE,
    CREATION_TEMPLATE,
    SIGNING_PROFILE,
    BACKFILL,
    BACKFILL_RESULT,
    PEER,
    PEER_GRANT,
    IMAGE_REPLICATION,
)
