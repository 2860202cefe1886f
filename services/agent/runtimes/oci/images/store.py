"""The images of one machine: pulled and unpacked once, shared by every node on it and by several processes.

blobs/<digest>            manifests and configs
ingest/<digest>           layers on their way; what a broken connection left is continued
layers/<name>/            unpacked layers, overlayfs' lower directories, named by diff id
images/<digest>.json      what is here, written last: an image is visible only when all of it is
references/<hash>.json    what a name meant when it was pulled last
leases/<digest>/<owner>   who keeps an image from being removed
locks/                    between processes; a lock is let go when its holder dies
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import platform
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import aiohttp
import msgspec

from services.agent.ports import CannotPullContainerError, Image, RegistryAuth, RegistryAway, RuntimeFailure
from services.agent.runtimes.oci.addresses import locked
from services.agent.runtimes.oci.images import registry
from services.agent.runtimes.oci.images.reference import Reference, parse
from services.agent.runtimes.oci.images.unpack import unpack
from services.shared.waiting import together

Result = TypeVar("Result")

LAYERS_AT_ONCE = 3  # Docker's default; more only makes a slow line slower
INGEST_KEPT_S = 86400.0  # nobody goes on with it after that
INDEX_DEPTH = 3  # an index may name indexes (OCI image-spec, image-index.md)
MAX_LAYERS = 127  # so many names fit into one page of mount options, and Docker allows no more
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}


class StoredImage(msgspec.Struct, frozen=True):
    """An image that is here, with the names of its layer directories, lowest first."""

    image: Image
    config_digest: str
    layers: list[str]


class _Reference(msgspec.Struct, frozen=True):
    reference: str
    digest: str


class _Settings(msgspec.Struct, frozen=True):
    """`config` of an image's configuration: what is used of it, and what each must be (OCI image-spec, config.md)."""

    Entrypoint: list[str] | None = None
    Cmd: list[str] | None = None
    Env: list[str] | None = None
    WorkingDir: str | None = None
    User: str | None = None
    StopSignal: str | None = None


class ImageStore:
    """The images under one directory. `endpoints` sends a registry's host (or a pattern like
    `*.dkr.ecr.*.amazonaws.com`) to a base URL of one's own."""

    def __init__(self, directory: Path, endpoints: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self.layers = directory / "layers"
        self._endpoints = dict(endpoints or {})
        self._pulls: dict[tuple[str, RegistryAuth | None, bool], asyncio.Task[Image]] = {}
        self._layers_at_once = asyncio.Semaphore(LAYERS_AT_ONCE)
        self._threads = ThreadPoolExecutor(max_workers=2 * LAYERS_AT_ONCE, thread_name_prefix="images")
        # Locks have threads of their own, because they may wait for another process.
        self._lockers = ThreadPoolExecutor(max_workers=8, thread_name_prefix="image-lock")

    def prepare(self) -> None:
        """Make the directories, and clear what a crash left half-made."""
        for name in ("blobs", "ingest", "layers", "images", "references", "leases", "locks"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        with locked(self.directory / "locks" / "store"):
            for path in self.layers.glob(".new-*"):
                if not _alive(path.name.split("-")[1]):
                    shutil.rmtree(path, ignore_errors=True)
            for path in self.directory.glob("ingest/*"):
                if path.stat().st_mtime < time.time() - INGEST_KEPT_S:
                    path.unlink(missing_ok=True)

    async def pull(self, reference: str, auth: RegistryAuth | None, always: bool) -> Image:
        """See `Runtime.pull`. Pulls of the same share one task, which goes on when one who waits is cancelled."""
        name = parse(reference)
        if not always or name.digest:
            known = await self._run(self._known, name)
            if known is not None:
                return msgspec.structs.replace(known, reference=reference)
        key = (str(name), auth, always)
        task = self._pulls.get(key)
        if task is None:
            task = self._pulls[key] = asyncio.create_task(self._pull(name, reference, auth))
            task.add_done_callback(lambda _: self._pulls.pop(key, None))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)

    async def aclose(self) -> None:
        """End pulls that are under way; what they have stays for the next attempt."""
        tasks = list(self._pulls.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._lockers.shutdown(wait=False)
        self._threads.shutdown(wait=False)

    def get(self, digest: str) -> StoredImage:
        """Raises CannotPullContainerError when it is not here."""
        try:
            return msgspec.json.decode(self._image(digest).read_bytes(), type=StoredImage)
        except FileNotFoundError:
            raise CannotPullContainerError(f"image {digest} is not on this node") from None

    def lease(self, digest: str, owner: str) -> StoredImage:
        """Keep an image for a container. Raises CannotPullContainerError when it is gone."""
        with locked(self.directory / "locks" / "store"):
            stored = self.get(digest)
            path = self.directory / "leases" / digest / owner
            path.parent.mkdir(exist_ok=True)
            path.touch()
        return stored

    def release(self, digest: str, owner: str) -> None:
        """The container is gone."""
        (self.directory / "leases" / digest / owner).unlink(missing_ok=True)
        self._used(digest)

    def _used(self, digest: str) -> None:
        """The file of an image says by its time when somebody last asked for it or let go of it."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self._image(digest))

    def _image(self, digest: str) -> Path:
        return self.directory / "images" / f"{digest}.json"

    def sweep(self, idle_s: float, most: int) -> list[str]:
        """Drop the images that nobody asked for and no container used in so many seconds, the longest idle first; the
        digests of those that went, at most `most`."""
        before, gone = time.time() - idle_s, []
        aged = sorted((path.stat().st_mtime, path.stem) for path in self.directory.glob("images/*.json"))
        for used_at, digest in aged:
            if used_at > before or len(gone) == most:
                break
            with contextlib.suppress(RuntimeFailure):
                gone += [digest] * self.remove(digest, idle_since=before)
        return gone

    def leases(self, prefix: str) -> list[tuple[str, str]]:
        """What owners with this prefix hold: (digest, owner)."""
        return [(path.parent.name, path.name) for path in self.directory.glob(f"leases/*/{prefix}*")]

    def remove(self, digest: str, idle_since: float | None = None) -> bool:
        """Drop an image and the layers no other image has, unless it was used since; whether it went. Raises
        RuntimeFailure while containers use it."""
        with locked(self.directory / "locks" / "store"):
            try:
                stored = self.get(digest)
            except CannotPullContainerError:
                return False
            if idle_since is not None and self._image(digest).stat().st_mtime > idle_since:
                return False
            leases = self.directory / "leases" / digest
            if leases.is_dir() and any(leases.iterdir()):
                raise RuntimeFailure(f"image {digest} is used by a container")
            self._image(digest).unlink()
            shutil.rmtree(leases, ignore_errors=True)
            others = [self.get(path.stem) for path in self.directory.glob("images/*.json")]
            kept = {layer for other in others for layer in other.layers}
            doomed = [self._doom(layer) for layer in stored.layers if layer not in kept]
            if stored.config_digest not in {other.config_digest for other in others}:
                self._blob(stored.config_digest).unlink(missing_ok=True)
            self._blob(digest).unlink(missing_ok=True)
            for file in self.directory.glob("references/*.json"):
                if msgspec.json.decode(file.read_bytes(), type=_Reference).digest == digest:
                    file.unlink(missing_ok=True)
        for path in filter(None, doomed):
            shutil.rmtree(path, ignore_errors=True)
        return True

    async def _run(self, work: Callable[..., Result], *arguments: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    async def _to_the_end(self, work: Callable[..., Result], *arguments: object) -> Result:
        """As `_run`, but who is cancelled still waits.

        A thread can't be stopped, and a layer's lock must be held as long as one works on it, or the next pull unpacks
        over it.
        """
        running = asyncio.ensure_future(self._run(work, *arguments))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait({running})
            raise

    def _doom(self, layer: str) -> Path | None:
        """Out of sight in one step; deleting takes many."""
        path = self.layers / f".new-{os.getpid()}-doomed-{layer}"
        try:
            (self.layers / layer).rename(path)
        except FileNotFoundError:
            return None
        return path

    def _known(self, name: Reference) -> Image | None:
        digest = name.digest
        try:
            file = self.directory / "references" / f"{_key(str(name))}.json"
            digest = msgspec.json.decode(file.read_bytes(), type=_Reference).digest
            image = self.get(digest).image
            self._used(digest)
            return image
        except (FileNotFoundError, CannotPullContainerError):
            return None

    async def _pull(self, name: Reference, reference: str, auth: RegistryAuth | None) -> Image:
        async with registry.session() as session:
            source = registry.Registry(session, name, auth, self._endpoints, self._run)
            try:
                stored = await self._fetch(source, name, reference)
            except (msgspec.DecodeError, KeyError, TypeError, AttributeError) as error:
                raise CannotPullContainerError(f"{name}: the registry sent no valid image: {error!r}") from error
            except aiohttp.ClientError as error:
                raise RegistryAway(f"{name}: {error or type(error).__name__}") from error
            except OSError as error:
                raise CannotPullContainerError(f"{name}: {error or type(error).__name__}") from error
        await self._run(self._publish, name, stored)
        return stored.image

    async def _fetch(self, source: registry.Registry, name: Reference, reference: str) -> StoredImage:
        digest, media_type, body = await source.manifest(name.version)
        manifest = msgspec.json.decode(body)
        machine = platform.machine()
        for _ in range(INDEX_DEPTH):
            if media_type not in registry.INDEXES and "manifests" not in manifest:
                break
            digest = registry.choose_platform(manifest, ARCHITECTURES.get(machine, machine), name)
            digest, media_type, body = await source.manifest(digest)
            manifest = msgspec.json.decode(body)
        if manifest.get("schemaVersion") != 2 or "config" not in manifest:
            raise CannotPullContainerError(f"{name}: unsupported manifest type {media_type!r}")
        config_digest = manifest["config"]["digest"]
        config = await self._config(source, config_digest)
        diff_ids, layers = config["rootfs"]["diff_ids"], manifest["layers"]
        for layer in layers:  # what scanners pass over as no files must not become files here
            if ".tar" not in layer["mediaType"]:
                raise CannotPullContainerError(f"{name}: unsupported layer type {layer['mediaType']!r}")
        if len(diff_ids) != len(layers) or len(layers) > MAX_LAYERS:
            counts = f"{len(layers)} layers and {len(diff_ids)} diff ids"
            raise CannotPullContainerError(f"{name}: {counts}; they must be as many, and at most {MAX_LAYERS}")
        pairs = dict(zip(diff_ids, layers, strict=True))
        await together(self._layer(source, diff_id, layer) for diff_id, layer in pairs.items())
        await self._run(_write_new, self._blob(digest), body)
        size = len(body) + manifest["config"]["size"] + sum(layer["size"] for layer in layers)
        image = _image(reference, digest, size, config.get("config") or {})
        return StoredImage(image, config_digest, [layer_name(diff_id) for diff_id in diff_ids])

    async def _config(self, source: registry.Registry, digest: str) -> dict:
        path = self._blob(digest)
        if not path.exists():
            await self._run(_write_new, path, await source.small_blob(digest))
        return msgspec.json.decode(path.read_bytes())

    async def _layer(self, source: registry.Registry, diff_id: str, descriptor: dict) -> None:
        target = self.layers / layer_name(diff_id)
        if target.exists():
            return
        async with self._locked(target.name), self._layers_at_once:
            if target.exists():
                return
            blob = self.directory / "ingest" / _hex(descriptor["digest"])
            await source.blob(descriptor["digest"], descriptor["size"], blob)
            await self._to_the_end(self._unpack, blob, target, diff_id)

    def _unpack(self, blob: Path, target: Path, diff_id: str) -> None:
        fresh = Path(tempfile.mkdtemp(prefix=f".new-{os.getpid()}-", dir=self.layers))
        try:
            fresh.chmod(0o755)
            unpack(blob, fresh, diff_id)
            fresh.rename(target)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        finally:
            blob.unlink(missing_ok=True)

    def _publish(self, name: Reference, stored: StoredImage) -> None:
        with locked(self.directory / "locks" / "store"):
            missing = [layer for layer in stored.layers if not (self.layers / layer).is_dir()]
            if missing:
                raise CannotPullContainerError(f"{name}: removed by another while it was pulled")
            _write_new(self._image(stored.image.digest), msgspec.json.encode(stored))
            known = _Reference(str(name), stored.image.digest)
            _write_new(self.directory / "references" / f"{_key(str(name))}.json", msgspec.json.encode(known))

    @asynccontextmanager
    async def _locked(self, name: str):
        loop = asyncio.get_running_loop()
        lock = locked(self.directory / "locks" / name)
        entering = loop.run_in_executor(self._lockers, lock.__enter__)
        try:
            await asyncio.shield(entering)
        except asyncio.CancelledError:
            entering.add_done_callback(lambda done: done.exception() or lock.__exit__(None, None, None))
            raise
        try:
            yield
        finally:
            lock.__exit__(None, None, None)

    def _blob(self, digest: str) -> Path:
        return self.directory / "blobs" / _hex(digest)


def layer_name(diff_id: str) -> str:
    """26 characters that name a layer: short, because all names must fit into one page of mount options."""
    return base64.b32encode(bytes.fromhex(_hex(diff_id))[:16]).decode().rstrip("=").lower()


def _image(reference: str, digest: str, size: int, config: dict) -> Image:
    """Raises msgspec.ValidationError for members of other types: they must not come as far as a file of ours."""
    settings = msgspec.convert(config, _Settings)
    variables = (entry.partition("=") for entry in settings.Env or [])
    return Image(
        reference=reference,
        digest=digest,
        size_bytes=size,
        entry_point=settings.Entrypoint or [],
        command=settings.Cmd or [],
        environment={key: value for key, _, value in variables},
        working_directory=settings.WorkingDir or "",
        user=settings.User or "",
        stop_signal=settings.StopSignal or "",
    )


def _hex(digest: str) -> str:
    algorithm, _, value = digest.partition(":")
    if algorithm != "sha256" or len(value) != 64 or not all(each in "0123456789abcdef" for each in value):
        raise CannotPullContainerError(f"unsupported digest {digest!r}")
    return value


def _key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _write_new(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_native_id()}")
    try:
        fresh.write_bytes(data)
        fresh.rename(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def _alive(pid: str) -> bool:
    return pid.isdigit() and Path("/proc", pid).exists()
