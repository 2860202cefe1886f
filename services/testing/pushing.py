"""A push of an image that lies in a file, over the OCI distribution protocol (v1.1), with the standard library."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urljoin

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
REF_NAME = "org.opencontainers.image.ref.name"
TIMEOUT_S = 60.0
CHUNK = 1024 * 1024


class PushFailed(Exception):
    """The image can't be read, or the registry refused it; says which and why."""


class OciWriter(Protocol):
    """An image that is made in memory: it can write itself as an OCI layout, and says where."""

    def write_oci_layout(self, path: Path, *, tag: str) -> Path: ...


def push_image(image: str | Path | OciWriter, repository_uri: str, tag: str, login: str) -> str:
    """Push to `host:port/name` under a tag; the manifest's digest. `login` is `user:password`. Raises PushFailed."""
    with tempfile.TemporaryDirectory(prefix="roadstead-push-") as directory:
        layout = _layout(image, Path(directory) / "image", tag)
        return _Push(layout, repository_uri, login).run(tag)


def _layout(image: str | Path | OciWriter, scratch: Path, tag: str) -> Path:
    if not isinstance(image, str | Path):
        return image.write_oci_layout(scratch, tag=tag)
    path = Path(image)
    if path.is_file():
        try:
            with tarfile.open(path) as tar:
                tar.extractall(scratch, filter="data")
        except (tarfile.TarError, OSError) as error:
            raise PushFailed(f"{path}: no tar of an image: {error}") from error
        path = scratch
    if not (path / "index.json").is_file():
        if not (path / "manifest.json").is_file():
            raise PushFailed(f"{image}: neither an OCI layout nor what `docker save` writes")
        _convert(path)
    return path


def _convert(folder: Path) -> None:
    """Make an OCI layout of what older `docker save` wrote, in place."""
    listed = json.loads((folder / "manifest.json").read_text())
    if len(listed) != 1:
        raise PushFailed(f"the archive holds {len(listed)} images: save one at a time")
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)

    def blob(name: str, media_type: str) -> dict[str, Any]:
        source = _inside(folder, name)
        digest = _digest(source)
        target = blobs / digest.partition(":")[2]
        if not target.exists():
            target.hardlink_to(source)
        return {"mediaType": media_type, "digest": digest, "size": source.stat().st_size}

    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": blob(listed[0]["Config"], OCI_CONFIG),
        "layers": [blob(n, OCI_LAYER + ("+gzip" if _is_gzip(_inside(folder, n)) else "")) for n in listed[0]["Layers"]],
    }
    data = json.dumps(manifest).encode()
    digest = hashlib.sha256(data).hexdigest()
    (blobs / digest).write_bytes(data)
    described = {"mediaType": OCI_MANIFEST, "digest": f"sha256:{digest}", "size": len(data)}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [described]}))


def _inside(folder: Path, name: str) -> Path:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise PushFailed(f"the archive names {name}, and does not hold it")
    return path


def _is_gzip(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


class _Push:
    def __init__(self, layout: Path, repository_uri: str, login: str) -> None:
        self._layout = layout
        host, _, name = repository_uri.partition("/")
        self._base = f"http://{host}/v2/{name}/"
        self._login = "Basic " + base64.b64encode(login.encode()).decode()

    def run(self, tag: str) -> str:
        described = self._wanted(json.loads((self._layout / "index.json").read_text()).get("manifests", []), tag)
        self._put(described, tag)
        return described["digest"]

    def _wanted(self, manifests: list[dict[str, Any]], tag: str) -> dict[str, Any]:
        named = [m for m in manifests if m.get("annotations", {}).get(REF_NAME) == tag]
        if len(named) == 1 or len(manifests) == 1:
            return (named or manifests)[0]
        names = [m.get("annotations", {}).get(REF_NAME, "?") for m in manifests]
        raise PushFailed(f"the layout holds {len(manifests)} images ({', '.join(names)}), and none alone is {tag!r}")

    def _put(self, described: dict[str, Any], reference: str) -> None:
        """Put a manifest after all that it names; of an index, the manifests that are in the layout."""
        data = self._blob(described["digest"]).read_bytes()
        manifest = json.loads(data)
        for child in manifest.get("manifests", []):
            self._put(child, child["digest"])
        for part in (manifest.get("config"), *manifest.get("layers", [])):
            if part is not None:
                self._upload(part["digest"])
        media_type = described.get("mediaType") or manifest.get("mediaType") or OCI_MANIFEST
        with self._ask("PUT", f"manifests/{reference}", data, {"Content-Type": media_type}):
            pass

    def _upload(self, digest: str) -> None:
        path = self._blob(digest)
        with contextlib.suppress(_NotThere), self._ask("HEAD", f"blobs/{digest}"):
            return
        with self._ask("POST", "blobs/uploads/", b"") as answer:
            place = answer.headers["Location"]
        place = f"{place}{'&' if '?' in place else '?'}digest={digest}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(path.stat().st_size)}
        with open(path, "rb") as file, self._ask("PUT", place, iter(lambda: file.read(CHUNK), b""), headers):
            pass

    def _blob(self, digest: str) -> Path:
        algorithm, _, name = digest.partition(":")
        path = self._layout / "blobs" / algorithm / name
        if not path.is_file():
            raise PushFailed(f"the layout does not hold {digest}")
        return path

    @contextlib.contextmanager
    def _ask(self, method: str, place: str, body: Any = None, headers: dict[str, str] | None = None) -> Iterator[Any]:
        url = urljoin(self._base, place)
        sent = {"Authorization": self._login, "User-Agent": "roadstead-testing", **(headers or {})}
        request = urllib.request.Request(url, data=body, method=method, headers=sent)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                yield answer
        except urllib.error.HTTPError as error:
            with error:
                if method == "HEAD" and error.code == 404:
                    raise _NotThere from None
                said = error.read(2000).decode(errors="replace")
            raise PushFailed(f"{method} {url}: {error.code} {said}") from None
        except OSError as error:
            raise PushFailed(f"{method} {url}: {error}") from error


class _NotThere(Exception):
    pass
