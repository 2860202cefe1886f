"""Container images made here, without a registry or a network: busybox and whatever a test wants in it.

    image = busybox_image({"/app/hello": File("#!/bin/sh\necho hello\n", mode=0o755)}, command=["/app/hello"])
    image.write_oci_layout(tmp_path / "hello", tag="1")     # skopeo copy oci:…/hello:1 docker://…
    image.write_docker_archive(tmp_path / "hello.tar", "hello:1")

Pure Python and deterministic: the same input gives the same digests on every machine with the same busybox.
Needs the static busybox (Debian: busybox-static).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"

PASSWD = """root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/false
app:x:1000:1000:app:/home/app:/bin/sh
"""
GROUP = "root:x:0:\nnogroup:x:65534:\napp:x:1000:\nextra:x:2000:app\n"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class File:
    """A regular file. Text becomes UTF-8."""

    data: bytes | str = b""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True)
class Directory:
    """A directory, for when its mode or owner matters; parents of files are made by themselves."""

    mode: int = 0o755
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True)
class Symlink:
    """A symbolic link."""

    target: str


Entry = File | Directory | Symlink | bytes | str


def digest_of(data: bytes) -> str:
    """`sha256:<hex>`, as OCI writes digests."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def tar_layer(entries: Mapping[str, Entry]) -> bytes:
    """An uncompressed layer with these entries (absolute or relative paths), parents included, times zero."""
    made: set[str] = set()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, entry in sorted(entries.items()):
            name = path.strip("/")
            for parent in reversed([str(each) for each in Path(name).parents][:-1]):
                if parent not in made and entries.get("/" + parent, entries.get(parent)) is None:
                    _add(tar, parent, Directory())
                made.add(parent)
            _add(tar, name, entry)
            made.add(name)
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, entry: Entry) -> None:
    info = tarfile.TarInfo(name)
    if isinstance(entry, bytes | str):
        entry = File(entry)
    if isinstance(entry, Symlink):
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, entry.target, 0o777
        tar.addfile(info)
        return
    info.mode, info.uid, info.gid = entry.mode, entry.uid, entry.gid
    if isinstance(entry, Directory):
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
        return
    data = entry.data.encode() if isinstance(entry.data, str) else entry.data
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


@dataclass(frozen=True)
class BuiltImage:
    """An image in memory. `manifest` is what its digest is of; `blobs` holds config and layers by digest."""

    manifest: bytes
    media_type: str
    config: bytes
    layers: tuple[bytes, ...]
    blobs: dict[str, bytes] = field(repr=False)

    @property
    def digest(self) -> str:
        """The digest of the manifest."""
        return digest_of(self.manifest)

    def write_oci_layout(self, directory: Path, tag: str = "latest") -> Path:
        """An OCI image layout, which skopeo reads as `oci:<directory>:<tag>`. Returns the directory."""
        for digest, data in {**self.blobs, self.digest: self.manifest}.items():
            path = directory / "blobs" / digest.replace(":", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        descriptor = _descriptor(self.media_type, self.manifest)
        descriptor["annotations"] = {"org.opencontainers.image.ref.name": tag}
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor]}
        (directory / "index.json").write_bytes(_json(index))
        (directory / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))
        return directory

    def write_docker_archive(self, path: Path, name: str) -> Path:
        """A tar as `docker save` writes it, for `docker load` and `docker-archive:`. Returns the path."""
        layers = {f"{hashlib.sha256(layer).hexdigest()}/layer.tar": layer for layer in self.layers}
        config_name = hashlib.sha256(self.config).hexdigest() + ".json"
        listing = [{"Config": config_name, "RepoTags": [name], "Layers": list(layers)}]
        path.write_bytes(tar_layer({config_name: self.config, "manifest.json": _json(listing), **layers}))
        return path


def image(
    layers: list[bytes],
    *,
    entry_point: list[str] | None = None,
    command: list[str] | None = None,
    environment: Mapping[str, str] | None = None,
    working_directory: str = "",
    user: str = "",
    stop_signal: str = "",
    labels: Mapping[str, str] | None = None,
    exposed_ports: list[str] | None = None,
    docker: bool = False,
    compression: str = "gzip",
    architecture: str = "",
) -> BuiltImage:
    """An image of these uncompressed layers. `docker` gives Docker's media types instead of OCI's;
    compression is `gzip` or `none`."""
    variables = [f"{key}={value}" for key, value in (environment or {}).items()]
    settings: dict[str, Any] = {"Env": [PATH, *variables]}
    optional = {
        "Entrypoint": entry_point,
        "Cmd": command,
        "WorkingDir": working_directory,
        "User": user,
        "StopSignal": stop_signal,
        "Labels": dict(labels or {}),
        "ExposedPorts": {port: {} for port in exposed_ports or []},
    }
    settings.update({key: value for key, value in optional.items() if value})
    config = _json(
        {
            "created": "1970-01-01T00:00:00Z",
            "architecture": architecture or native_architecture(),
            "os": "linux",
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
            "history": [{"created_by": "tests/builders/images.py"} for _ in layers],
        }
    )
    packed = [_zipped(layer) if compression == "gzip" else layer for layer in layers]
    layer_type = DOCKER_LAYER + ".gzip" if docker else OCI_LAYER + ("+gzip" if compression == "gzip" else "")
    manifest = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST if docker else OCI_MANIFEST,
        "config": _descriptor(DOCKER_CONFIG if docker else OCI_CONFIG, config),
        "layers": [_descriptor(layer_type, layer) for layer in packed],
    }
    blobs = {digest_of(blob): blob for blob in [config, *packed]}
    return BuiltImage(_json(manifest), manifest["mediaType"], config, tuple(layers), blobs)


def busybox_image(files: Mapping[str, Entry] | None = None, **config: Any) -> BuiltImage:
    """busybox with all its applets, users `root`, `app` (1000, also in group `extra` 2000) and `nobody`,
    and `files` in a layer of their own. `config` is what `image` takes."""
    layers = [busybox_layer()]
    if files:
        layers.append(tar_layer(files))
    config.setdefault("command", ["sh"])
    return image(layers, **config)


@lru_cache(maxsize=1)
def busybox_layer() -> bytes:
    """The base layer, uncompressed (about 2 MB)."""
    found = shutil.which("busybox")
    if found is None:
        raise RuntimeError("busybox is missing: apt-get install busybox-static")
    listing = subprocess.run([found, "--list"], check=True, capture_output=True, text=True).stdout.split()
    entries: dict[str, Entry] = {f"/bin/{applet}": Symlink("busybox") for applet in listing}
    entries |= {
        "/bin/busybox": File(Path(found).read_bytes(), mode=0o755),
        "/etc/passwd": PASSWD,
        "/etc/group": GROUP,
        "/home/app": Directory(uid=1000, gid=1000),
        "/root": Directory(mode=0o700),
        "/tmp": Directory(mode=0o1777),
        "/usr/bin": Directory(),
        "/var/log": Directory(),
    }
    return tar_layer(entries)


def index(images: Mapping[str, BuiltImage], *, docker: bool = False) -> bytes:
    """An image index (manifest list) of images by architecture, as its bytes."""
    manifests = []
    for architecture, built in images.items():
        descriptor = _descriptor(built.media_type, built.manifest)
        descriptor["platform"] = {"architecture": architecture, "os": "linux"}
        manifests.append(descriptor)
    media_type = DOCKER_INDEX if docker else OCI_INDEX
    return _json({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests})


def native_architecture() -> str:
    """This machine's architecture as Go and OCI name it."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


@lru_cache(maxsize=4)
def _zipped(layer: bytes) -> bytes:
    return gzip.compress(layer, 6, mtime=0)


def _descriptor(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
