"""Settings of the registry (`ROADSTEAD_REGISTRY_…`)."""

from typing import Literal

import msgspec


class RegistrySettings(msgspec.Struct, kw_only=True, frozen=True):
    """`advertised` is the host (and port) under which clients reach it: it is in repositoryUri; empty, it is
    localhost and the port it listens on. `pull_host` is the
    same for agents; empty, it is what is advertised. `own_hosts` are further hosts whose images are this registry's
    (comma-separated).

    `storage` is where blobs lie: `files` on this node's disk, or in the `bucket` of the S3 that `ROADSTEAD_S3_…`
    names, under `bucket_prefix`, which is one registry's. `redirect` sends clients that fetch a blob to S3 itself.
    `sealed`: content of AES256 repositories is sealed with the registry's own key; without it lies as it is, for a
    disk or an S3 that encrypts by itself, and only so can it be redirected to. What is for keys of KMS is sealed in
    any case. `content_key_file` has that key, 32 random bytes; empty, it is `registry/content.key` in the data
    directory. Another registry over the same storage needs it.

    Times are seconds: an upload nobody went on with is dropped after `upload_life_s`; blobs that no image names are
    dropped `sweep_grace_s` after they were last pushed or asked for (more than the ten minutes in which asking again
    leaves no mark), looked for every `sweep_every_s`. `manifest_cache_mib` bounds the manifests that are kept in
    memory. `gate_wait_s` is how long a task whose image is being scanned is kept waiting where a scan gate is set. A
    change of a repository is followed by its lifecycle policy after `lifecycle_delay_s`; when images were pulled is
    written down every `pull_times_every_s`.

    With `https_port` (0: a free one) all of it is served over TLS too, at the same host: with the certificate (PEM, its
    chain behind it) and key in the files `tls_certificate` and `tls_key`; without these, with one of an authority of
    its own, `registry/tls/ca.pem` in the data directory, for this machine's names and `tls_names` (comma-separated
    names and addresses).
    """

    advertised: str = ""
    pull_host: str = ""
    own_hosts: str = ""
    storage: Literal["files", "s3"] = "files"
    bucket: str = ""
    bucket_prefix: str = ""
    redirect: bool = False
    sealed: bool = True
    content_key_file: str = ""
    upload_life_s: float = 24 * 3600.0
    sweep_grace_s: float = 24 * 3600.0
    sweep_every_s: float = 3600.0
    manifest_cache_mib: int = 32
    gate_wait_s: float = 20.0
    lifecycle_delay_s: float = 10.0
    pull_times_every_s: float = 60.0
    https_port: int | None = None
    tls_certificate: str = ""
    tls_key: str = ""
    tls_names: str = ""
