"""Images that lie in files: OCI layouts (a directory or a tar) and what `docker save` writes.

https://github.com/opencontainers/image-spec/blob/main/image-layout.md. They are read as the scanner reads pushed
ones: by its worker processes, layer by layer, nothing unpacked.
"""

from __future__ import annotations

import asyncio
import json
import posixpath
import tarfile
import tempfile
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from services.scanner.adapters.workers import Workers
from services.scanner.decisions.configuration import LIMIT
from services.scanner.decisions.scans import completed
from services.scanner.decisions.tar import Limits
from services.scanner.handlers.inspecting import Problem
from services.scanner.ports import WorkerFailed

CHUNK = 1 << 18
DEPTH = 4
IMPORT_S = 3600.0


class CannotScan(Exception):
    """Why it is not known what is in an image."""


class LocalImage(NamedTuple):
    """An image of a file: its digest, and the members with its configuration and its layers."""

    digest: str
    config: str
    layers: list[str]


class Members:
    """The files of a directory or a tar. Raises CannotScan."""

    def __init__(self, path: Path) -> None:
        self._root = path
        try:
            self._tar = None if path.is_dir() else tarfile.open(path, "r:")  # noqa: SIM115 - closed with the process
        except (OSError, tarfile.TarError) as error:
            raise CannotScan(f"{path} is neither an OCI layout nor a tar of an image: {error}") from None

    def open(self, name: str) -> IO[bytes]:
        """A file of it; nothing outside of it, whatever its name."""
        name = posixpath.normpath("/" + name).lstrip("/")
        try:
            if self._tar is None:
                found = (self._root / name).resolve()
                if not found.is_relative_to(self._root.resolve()):
                    raise CannotScan(f"{name} leads out of {self._root}")
                return open(found, "rb")
            member = self._tar.extractfile(name)
        except (OSError, KeyError, tarfile.TarError) as error:
            raise CannotScan(f"{self._root} has no {name}: {error}") from None
        if member is None:
            raise CannotScan(f"{self._root} has no file {name}")
        return member

    def json(self, name: str) -> Any:
        """A small JSON file of it."""
        with self.open(name) as file:
            data = file.read(LIMIT + 1)
        try:
            if len(data) > LIMIT:
                raise ValueError("it is too large")
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise CannotScan(f"{name}: {error}") from None


def images(members: Members) -> list[LocalImage]:
    """The images that lie there. Raises CannotScan."""
    try:
        index = members.json("index.json")
    except CannotScan:
        return [_archived(each) for each in members.json("manifest.json")]
    return _indexed(members, index, DEPTH)


def _archived(told: Any) -> LocalImage:
    """An image of an old `docker save`, which has no manifest: the digest is its configuration's."""
    config = told["Config"]
    return LocalImage("sha256:" + config.removesuffix(".json").rpartition("/")[2], config, told["Layers"])


def _indexed(members: Members, index: Any, depth: int) -> list[LocalImage]:
    found = []
    for each in index["manifests"]:
        told = members.json(_blob(each["digest"]))
        if "manifests" in told and depth:
            found += _indexed(members, told, depth - 1)
        elif told.get("layers") and all(".tar" in layer["mediaType"] for layer in told["layers"]):
            layers = [_blob(layer["digest"]) for layer in told["layers"]]
            found.append(LocalImage(each["digest"], _blob(told["config"]["digest"]), layers))
    return found


def _blob(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/", 1)


def scan(path: Path, index: Path) -> list[dict[str, Any]]:
    """What is known of the images that lie at a path, as the scanner's door tells it. `index`: its index of advisories,
    or OSV records, which are imported for this once. Raises CannotScan."""
    return asyncio.run(_scan(path, index))


async def _scan(path: Path, advisories: Path) -> list[dict[str, Any]]:
    members = Members(path)
    try:
        found = images(members)
    except (LookupError, TypeError, AttributeError) as error:
        raise CannotScan(f"{path} is no image: {error!r}") from None
    if not found:
        raise CannotScan(f"there is no image in {path}")
    workers = Workers(2)
    with tempfile.TemporaryDirectory(prefix="roadstead-scan-") as folder:
        index = advisories
        if advisories.suffix != ".sqlite":
            index = Path(folder) / "advisories.sqlite"
            arguments = (str(advisories.resolve()), str(index), str(time.time()))
            _unrefused(await _ran(workers, "import", *arguments, timeout_s=IMPORT_S), str(advisories))
        if not index.exists():
            raise CannotScan(f"there are no advisories: {index} is not there (--advisories)")
        return [await _one(workers, members, path, each, index) for each in found]


async def _ran(workers: Workers, mode: str, *arguments: str, **more: Any) -> dict[str, Any]:
    try:
        return dict(json.loads(await workers.run(mode, *arguments, **more)))
    except (WorkerFailed, TimeoutError) as error:
        raise CannotScan(str(error) or "it took too long") from None


def _unrefused(answer: dict[str, Any], of: str) -> dict[str, Any]:
    why = answer.get("refused") or answer.get("unsupported")
    if why:
        raise CannotScan(f"{of}: {why}")
    return answer


async def _one(workers: Workers, members: Members, path: Path, image: LocalImage, index: Path) -> dict[str, Any]:
    told: dict[str, Any] = {"repository": path.name, "digest": image.digest, "error": "", "description": ""}
    empty: dict[str, Any] = {"packages": 0, "findings": [], "problems": []}
    try:
        reports = []
        for name in image.layers:
            limits = json.dumps(Limits()._asdict())
            feed = _chunks(members.open(name))
            report = _unrefused(await _ran(workers, "layer", limits, feed=feed), name)
            if name.startswith("blobs/") and _blob(report["digest"]) != name:
                raise CannotScan(f"{name}: its content has another digest")
            reports.append(report)
        with members.open(image.config) as file:
            config = file.read(LIMIT + 1)
        text = json.dumps([b64encode(config).decode(), *([each["digest"], each] for each in reports)]).encode()
        answer = await _ran(workers, "match", str(index.resolve()), feed=_whole(text))
    except CannotScan as error:
        return {**told, **empty, "error": str(error)}
    names = Problem.__struct_fields__
    return {
        **told,
        "description": completed(answer["note"]),
        "packages": answer["packages"],
        "findings": [{"suppressed": "", **each} for each in answer["report"]["findings"]],
        "problems": [dict(zip(names, each, strict=True)) for each in answer["bill"]["secrets"]],
    }


async def _chunks(file: IO[bytes]) -> AsyncIterator[bytes]:
    with file:
        while chunk := file.read(CHUNK):
            yield chunk


async def _whole(data: bytes) -> AsyncIterator[bytes]:
    yield data
