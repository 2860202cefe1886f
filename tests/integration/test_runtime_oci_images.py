"""Images of the oci runtime: pulled whole or not at all, shared, and never trusted. Needs root (whiteouts)."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import stat
import tarfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from services.agent.ports import CannotPullContainerError, RegistryAuth, RuntimeFailure
from services.agent.runtimes.oci import syscalls
from services.agent.runtimes.oci.images.store import ImageStore, layer_name
from services.agent.runtimes.oci.images.unpack import unpack
from tests.builders.images import (
    DOCKER_INDEX,
    OCI_INDEX,
    OCI_MANIFEST,
    BuiltImage,
    busybox_image,
    digest_of,
    image,
    index,
    native_architecture,
    tar_layer,
)
from tests.fakes.image_registry import ImageRegistry

pytestmark = pytest.mark.root


@pytest.fixture
async def registry() -> AsyncIterator[ImageRegistry]:
    async with ImageRegistry() as registry:
        yield registry


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ImageStore]:
    store = ImageStore(tmp_path / "images")
    store.prepare()
    yield store
    await store.aclose()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    syscalls.mount("tmpfs", disk, "tmpfs", 0, "size=8m")
    yield disk
    syscalls.unmount(disk)


def small(text: str = "hello", **config: object) -> BuiltImage:
    return image([tar_layer({"/file": text}), tar_layer({"/other": text})], command=["x"], **config)


def layers_of(built: BuiltImage) -> list[str]:
    return [digest for digest in built.blobs if digest != digest_of(built.config)]


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for member, data in members:
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def member(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", data: bytes = b""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, 0o755
    return info, data


def unpacked(tmp_path: Path, layer: bytes) -> Path:
    blob, directory = tmp_path / "blob", tmp_path / "layer"
    blob.write_bytes(layer)
    directory.mkdir()
    unpack(blob, directory, digest_of(layer))
    return directory


@pytest.mark.parametrize("kind", ["oci", "docker", "plain"])
async def test_oci_docker_and_uncompressed_images_are_pulled(
    store: ImageStore, registry: ImageRegistry, kind: str
) -> None:
    built = small(docker=kind == "docker", compression="none" if kind == "plain" else "gzip")
    pulled = await store.pull(registry.push("a/b", "1", built), None, True)
    assert (pulled.digest, pulled.command) == (built.digest, ["x"])
    stored = store.get(built.digest)
    assert [(store.layers / name).is_dir() for name in stored.layers] == [True, True]
    assert (store.layers / stored.layers[0] / "file").read_text() == "hello"


@pytest.mark.parametrize("docker", [False, True])
async def test_an_index_gives_the_image_of_this_machine(
    store: ImageStore, registry: ImageRegistry, docker: bool
) -> None:
    mine, other = small("mine"), small("other", architecture="s390x")
    for built in (mine, other):
        registry.push("multi", built.digest[7:], built)
    media_type = DOCKER_INDEX if docker else OCI_INDEX
    both = index({"s390x": other, native_architecture(): mine}, docker=docker)
    reference = registry.push_manifest("multi", "1", media_type, both)
    assert (await store.pull(reference, None, True)).digest == mine.digest
    reference = registry.push_manifest("multi", "2", media_type, index({"s390x": other}, docker=docker))
    with pytest.raises(CannotPullContainerError, match=r"platform 'linux/.*it has linux/s390x"):
        await store.pull(reference, None, True)


async def test_an_index_may_keep_its_platform_to_itself_and_name_another_index(
    store: ImageStore, registry: ImageRegistry
) -> None:
    built = small()
    registry.push("a", "1", built)
    signature = {"mediaType": OCI_MANIFEST, "digest": digest_of(b"s"), "size": 1, "artifactType": "application/x.sig"}
    image_of = {"mediaType": OCI_MANIFEST, "digest": built.digest, "size": len(built.manifest)}
    inner = msgspec.json.encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [signature, image_of]})
    entry = {"mediaType": OCI_INDEX, "digest": digest_of(inner), "size": len(inner)}
    outer = msgspec.json.encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]})
    registry.push_manifest("a", "inner", OCI_INDEX, inner)
    pulled = await store.pull(registry.push_manifest("a", "outer", OCI_INDEX, outer), None, True)
    assert pulled.digest == built.digest


async def test_a_layer_that_is_here_is_not_sent_again(store: ImageStore, registry: ImageRegistry) -> None:
    await store.pull(registry.push("a", "1", small()), None, True)
    sent = registry.requests["blob"]
    again = image([tar_layer({"/file": "hello"}), tar_layer({"/more": "x"})], command=["y"])
    await store.pull(registry.push("a", "2", again), None, True)
    assert registry.requests["blob"] == sent + 2  # a config and one layer


async def test_pulls_at_the_same_time_share_the_work(
    store: ImageStore, registry: ImageRegistry, tmp_path: Path
) -> None:
    built = busybox_image()
    reference = registry.push("a", "1", built)
    other = ImageStore(tmp_path / "images")
    pulls = [each.pull(reference, None, True) for each in (store, store, store, other)]
    assert {pulled.digest for pulled in await asyncio.gather(*pulls)} == {built.digest}
    await other.aclose()
    assert [registry.requests[digest] for digest in layers_of(built)] == [1]
    assert registry.requests["manifest"] == 2


async def test_a_broken_connection_is_continued(store: ImageStore, registry: ImageRegistry) -> None:
    built = busybox_image()
    registry.cut.update(layers_of(built))
    assert (await store.pull(registry.push("a", "1", built), None, True)).digest == built.digest
    assert [registry.requests[digest] for digest in layers_of(built)] == [2]


async def test_other_bytes_than_promised_are_refused(store: ImageStore, registry: ImageRegistry) -> None:
    built = small()
    reference = registry.push("a", "1", built)
    for digest in [digest_of(built.config), layers_of(built)[0]]:
        good = built.blobs[digest]
        registry.broken[digest] = bytes([good[0] ^ 1]) + good[1:]
        with pytest.raises(CannotPullContainerError, match="digest mismatch"):
            await store.pull(reference, None, True)
        del registry.broken[digest]
    with pytest.raises(CannotPullContainerError, match="not on this node"):
        store.get(built.digest)
    assert (await store.pull(reference, None, True)).digest == built.digest


async def test_a_layer_that_is_not_what_its_config_says_is_refused(store: ImageStore, registry: ImageRegistry) -> None:
    built = small()
    config = msgspec.json.decode(built.config)
    config["rootfs"]["diff_ids"][0] = "sha256:" + "0" * 64
    lying = msgspec.json.encode(config)
    manifest = built.manifest.replace(digest_of(built.config).encode(), digest_of(lying).encode())
    registry.push("a", "1", built)
    registry._blobs[digest_of(lying)] = lying
    with pytest.raises(CannotPullContainerError, match="does not match its diff id"):
        await store.pull(registry.push_manifest("a", "2", OCI_MANIFEST, manifest), None, True)
    assert not (store.layers / layer_name("sha256:" + "0" * 64)).exists()
    async with asyncio.timeout(30):  # the image's other layers may still be on their way
        while list(store.layers.glob(".new-*")):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_nonsense_from_a_registry_is_an_error_of_the_pull(store: ImageStore, registry: ImageRegistry) -> None:
    for number, body in enumerate([b"not json", b"[]", b"{}", b'{"schemaVersion":2,"config":{},"layers":[]}']):
        with pytest.raises(CannotPullContainerError):
            await store.pull(registry.push_manifest("a", str(number), OCI_MANIFEST, body), None, True)


async def test_a_full_disk_fails_the_pull_and_is_not_full_afterwards(registry: ImageRegistry, small_disk: Path) -> None:
    store = ImageStore(small_disk / "images")
    store.prepare()
    compressed = image([tar_layer({"/file": os.urandom(12 << 20)})])
    unpacked = image([tar_layer({"/file": b"x" * (12 << 20)})])
    fits = image([tar_layer({"/file": os.urandom(2 << 20)})])
    for number, built in enumerate([compressed, unpacked]):
        with pytest.raises(CannotPullContainerError, match="No space left on device"):
            await store.pull(registry.push("a", str(number), built), None, True)
    assert (await store.pull(registry.push("a", "fits", fits), None, True)).digest == fits.digest
    await store.aclose()


async def test_a_layer_that_nobody_goes_on_with_is_dropped(store: ImageStore) -> None:
    old, fresh = (store.directory / "ingest" / name for name in ("old", "fresh"))
    for path in (old, fresh):
        path.touch()
    os.utime(old, (0, 0))
    store.prepare()
    assert list((store.directory / "ingest").iterdir()) == [fresh]


@pytest.mark.parametrize("oddity", [{"Cmd": "echo hi"}, {"Env": "A=B"}, {"User": 0}, {"Entrypoint": [1]}])
async def test_a_configuration_of_other_types_is_refused_before_it_is_kept(
    store: ImageStore, registry: ImageRegistry, oddity: dict[str, object]
) -> None:
    built = small()
    odd = msgspec.json.encode(msgspec.json.decode(built.config) | {"config": oddity})
    registry.push("a", "1", built)
    registry._blobs[digest_of(odd)] = odd
    manifest = built.manifest.replace(digest_of(built.config).encode(), digest_of(odd).encode())
    with pytest.raises(CannotPullContainerError, match="no valid image"):
        await store.pull(registry.push_manifest("a", "odd", OCI_MANIFEST, manifest), None, True)
    assert list((store.directory / "images").iterdir()) == []


async def test_an_endpoint_of_ones_own_stands_for_a_host(tmp_path: Path) -> None:
    async with ImageRegistry(("AWS", "token")) as registry:
        registry.push("app", "1", small())
        store = ImageStore(tmp_path / "images", {"*.dkr.ecr.*.amazonaws.com": f"http://{registry.host}"})
        store.prepare()
        name = "123456789012.dkr.ecr.us-east-1.amazonaws.com/app:1"
        assert (await store.pull(name, RegistryAuth("AWS", "token"), True)).reference == name
        await store.aclose()


async def test_images_that_nobody_used_for_long_go_the_longest_idle_first(
    store: ImageStore, registry: ImageRegistry
) -> None:
    pulled = [
        await store.pull(registry.push("sweep/app", tag, small(tag)), None, True)
        for tag in ("old", "older", "leased", "new")
    ]
    old, older, leased, new = (each.digest for each in pulled)
    store.lease(leased, "container-1")
    for digest, hours in ((old, 2), (older, 3), (leased, 4)):
        at = time.time() - hours * 3600
        os.utime(store.directory / "images" / f"{digest}.json", (at, at))
    assert store.sweep(3600, 1) == [older]
    assert store.sweep(3600, 5) == [old]
    assert store.get(new) and store.get(leased)
    store.release(leased, "container-1")
    assert store.sweep(3600, 5) == []  # it was used until just now
    again = await store.pull(pulled[0].reference, None, False)
    assert store.get(again.digest)


async def test_an_image_in_use_stays_and_layers_of_others_stay(store: ImageStore, registry: ImageRegistry) -> None:
    first = await store.pull(registry.push("a", "1", small()), None, True)
    second = await store.pull(registry.push("a", "2", image([tar_layer({"/file": "hello"})])), None, True)
    store.lease(first.digest, "node-c1")
    with pytest.raises(RuntimeFailure, match="is used by a container"):
        store.remove(first.digest)
    store.release(first.digest, "node-c1")
    store.remove(first.digest)
    store.remove(first.digest)
    assert sorted(os.listdir(store.layers)) == store.get(second.digest).layers
    store.remove(second.digest)
    left = [str(path) for path in store.directory.rglob("*") if path.is_file() and path.parent.name != "locks"]
    assert (left, os.listdir(store.layers)) == ([], [])


def test_whiteouts_become_those_of_overlayfs(tmp_path: Path) -> None:
    layer = tar(
        member("dir", tarfile.DIRTYPE),
        member("dir/.wh..wh..opq"),
        member("dir/new", data=b"x"),
        member(".wh.gone"),
        member("sub/.wh.deep"),
        member(".wh..wh.aufs"),
    )
    directory = unpacked(tmp_path, layer)
    assert os.getxattr(directory / "dir", "trusted.overlay.opaque") == b"y"
    for name in ("gone", "sub/deep"):
        found = (directory / name).lstat()
        assert (stat.S_ISCHR(found.st_mode), found.st_rdev) == (True, 0)
    assert sorted(os.listdir(directory)) == ["dir", "gone", "sub"]


HOSTILE = {
    "dots": [member("../../../escaped", data=b"x"), member("a/../../escaped", data=b"x")],
    "absolute": [member("/escaped", data=b"x")],
    "link to a directory": [member("out", tarfile.SYMTYPE, "{outside}"), member("out/escaped", data=b"x")],
    "link up": [member("out", tarfile.SYMTYPE, "../../.."), member("out/escaped", data=b"x")],
    "link, then the file itself": [member("f", tarfile.SYMTYPE, "{outside}/victim"), member("f", data=b"x")],
    "hard link out": [member("hard", tarfile.LNKTYPE, "{outside}/victim"), member("hard", data=b"x")],
    "hard link up": [member("hard", tarfile.LNKTYPE, "../../victim")],
    "hard link through a link": [member("l", tarfile.SYMTYPE, "{outside}"), member("h", tarfile.LNKTYPE, "l/victim")],
    "whiteout out": [member("l", tarfile.SYMTYPE, "{outside}"), member("l/.wh.victim")],
    "whiteout of the parent": [member("a/.wh...")],
    "opaque out": [member("l", tarfile.SYMTYPE, "{outside}"), member("l/.wh..wh..opq")],
    "directory over a link": [
        member("l", tarfile.SYMTYPE, "{outside}"),
        member("l", tarfile.DIRTYPE),
        member("l/escaped"),
    ],
    "parent replaced": [member("d/x"), member("d", tarfile.SYMTYPE, "{outside}"), member("d/escaped", data=b"x")],
}


@pytest.mark.parametrize("attack", list(HOSTILE))
def test_a_hostile_layer_touches_nothing_outside(tmp_path: Path, attack: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("untouched")
    members = []
    for info, data in HOSTILE[attack]:
        copy = tarfile.TarInfo(info.name)
        copy.type, copy.mode, copy.linkname = info.type, 0o4777, info.linkname.format(outside=outside)
        members.append((copy, data))
    try:
        unpacked(tmp_path, tar(*members))
    except CannotPullContainerError as error:
        assert "failed to register layer" in error.reason
    assert os.listdir(outside) == ["victim"]
    status = (outside / "victim").stat()
    assert ((outside / "victim").read_text(), status.st_nlink, stat.S_IMODE(status.st_mode)) == ("untouched", 1, 0o644)
    assert sorted(os.listdir(tmp_path)) == ["blob", "layer", "outside"]
    assert "trusted.overlay.opaque" not in os.listxattr(outside)
    assert not Path("/escaped").exists()


def test_a_layer_makes_no_device_and_no_overlay_attribute(tmp_path: Path) -> None:
    info, _ = member("disk", tarfile.BLKTYPE)
    info.devmajor, info.devminor = 8, 0
    marked, _ = member("dir", tarfile.DIRTYPE)
    marked.pax_headers = {"SCHILY.xattr.trusted.overlay.redirect": "/etc", "SCHILY.xattr.user.kept": "yes"}
    directory = unpacked(tmp_path, tar((info, b""), (marked, b"")))
    assert os.listdir(directory) == ["dir"]
    assert os.listxattr(directory / "dir") == ["user.kept"]


def gnu_sparse(name: str, size: int, data: bytes) -> bytes:
    """A tar of one file (GNU's old form) that is a hole of this size, with data at its end."""
    header = bytearray(tarfile.TarInfo(name).tobuf(tarfile.GNU_FORMAT))
    header[156:157] = tarfile.GNUTYPE_SPARSE
    number = lambda value: b"%011o\0" % value if value < 8**11 else b"\x80" + value.to_bytes(11, "big")  # noqa: E731
    header[124:136] = number(len(data))
    header[386:410] = number(size - len(data)) + number(len(data))
    header[483:495] = number(size)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data.ljust(512, b"\0") + bytes(1024)


def test_a_sparse_file_takes_no_space_and_no_time(tmp_path: Path) -> None:
    directory = unpacked(tmp_path, gnu_sparse("lastlog", 1 << 40, b"the end"))
    status = (directory / "lastlog").stat()
    assert (status.st_size, status.st_blocks <= 16) == (1 << 40, True)
    with (directory / "lastlog").open("rb") as file:
        file.seek(-8, os.SEEK_END)
        assert file.read() == b"\0the end"


def test_zeros_become_holes_and_all_else_stays(tmp_path: Path) -> None:
    data = b"begin" + bytes(5 << 20) + b"middle" + bytes(3 << 20)
    directory = unpacked(tmp_path, tar(member("file", data=data)))
    assert (directory / "file").read_bytes() == data
    assert (directory / "file").stat().st_blocks * 512 < 4 << 20


def test_owners_modes_links_and_times_are_kept(tmp_path: Path) -> None:
    plain, data = member("bin/su", data=b"x")
    plain.mode, plain.uid, plain.gid, plain.mtime = 0o4755, 12, 34, 1000
    directory = unpacked(
        tmp_path,
        tar((plain, data), member("bin/hard", tarfile.LNKTYPE, "bin/su"), member("s", tarfile.SYMTYPE, "/bin/su")),
    )
    found = (directory / "bin/su").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, found.st_mtime, found.st_nlink) == (
        0o4755,
        12,
        34,
        1000,
        2,
    )
    assert os.readlink(directory / "s") == "/bin/su"


@pytest.mark.parametrize("cut", [0.3, 0.9])
def test_a_layer_that_ends_too_early_is_refused(tmp_path: Path, cut: float) -> None:
    layer = gzip.compress(tar_layer({"/file": os.urandom(50000)}))
    (tmp_path / "blob").write_bytes(layer[: int(len(layer) * cut)])
    (tmp_path / "layer").mkdir()
    with pytest.raises(CannotPullContainerError, match="failed to register layer"):
        unpack(tmp_path / "blob", tmp_path / "layer", "sha256:" + "0" * 64)


async def test_a_cancelled_pull_holds_its_layer_until_the_thread_that_unpacks_it_is_done(store: ImageStore) -> None:
    started, finish = threading.Event(), threading.Event()

    def unpack() -> None:
        started.set()
        finish.wait(10)

    working = asyncio.create_task(store._to_the_end(unpack))
    await asyncio.to_thread(started.wait, 10)
    working.cancel()
    await asyncio.sleep(0.05)
    assert not working.done()
    finish.set()
    with pytest.raises(asyncio.CancelledError):
        await working
