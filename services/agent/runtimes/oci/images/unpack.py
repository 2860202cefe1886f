"""A layer's tar becomes a directory that overlayfs takes as a lower one.

The tar is not trusted: every path is resolved by the kernel with the layer's directory as `/` (openat2,
RESOLVE_IN_ROOT), so `..`, absolute names and links that an earlier entry made lead nowhere else; device nodes are not
made (a container's /dev is its own). Whiteouts (OCI image-spec, layer.md) become overlayfs' (overlayfs.rst).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO

from services.agent.ports import CannotPullContainerError
from services.agent.runtimes.oci import syscalls

WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
OPAQUE_XATTR = "trusted.overlay.opaque"
CHUNK = 1 << 20
ZEROS = bytes(CHUNK)


def unpack(blob: Path, directory: Path, diff_id: str) -> None:
    """Unpack a layer blob into an empty directory; the uncompressed bytes must have this digest. When this
    returns, the files are on the disk.

    Blocks. Raises CannotPullContainerError; the directory is then in any state.
    """
    with blob.open("rb") as file:
        stream = _Hashing(_decompressed(file))
        try:
            with tarfile.open(fileobj=stream, mode="r|", bufsize=CHUNK) as tar:
                _Extraction(directory).run(tar)
            stream.drain()
        except (tarfile.TarError, zlib.error, EOFError) as error:
            raise CannotPullContainerError(f"failed to register layer {diff_id}: {error}") from error
        except OSError as error:
            raise CannotPullContainerError(f"failed to register layer {diff_id}: {error}") from error
    if stream.digest() != diff_id:
        raise CannotPullContainerError(f"layer does not match its diff id: expected {diff_id}, got {stream.digest()}")


class _Hashing:
    """A readable file over chunks that hashes what is read."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._hash = hashlib.sha256()
        self._buffer = b""
        self._offset = 0

    def read(self, size: int) -> bytes:
        while self._offset >= len(self._buffer):
            chunk = next(self._chunks, b"")
            if not chunk:
                return b""
            self._hash.update(chunk)
            self._buffer, self._offset = chunk, 0
        data = self._buffer[self._offset : self._offset + size]
        self._offset += len(data)
        return data

    def drain(self) -> None:
        """Read to the end: padding behind the archive belongs to the digest."""
        for chunk in self._chunks:
            self._hash.update(chunk)

    def digest(self) -> str:
        return "sha256:" + self._hash.hexdigest()


def _decompressed(file: BinaryIO) -> Iterator[bytes]:
    magic = file.read(4)
    file.seek(0)
    if magic[:2] == b"\x1f\x8b":
        yield from _gunzipped(file)
    elif magic == b"\x28\xb5\x2f\xfd":
        yield from _unzstd(file)
    else:
        while chunk := file.read(CHUNK):
            yield chunk


def _gunzipped(file: BinaryIO) -> Iterator[bytes]:
    member = zlib.decompressobj(31)
    data = file.read(CHUNK)
    while data:
        yield from filter(None, [member.decompress(data, CHUNK)])
        data = member.unconsumed_tail or member.unused_data or file.read(CHUNK)
        if member.eof and data:
            member = zlib.decompressobj(31)
    yield from filter(None, [member.flush()])
    if not member.eof:
        raise EOFError("the compressed data ends too early")


def _unzstd(file: BinaryIO) -> Iterator[bytes]:
    try:
        from compression import zstd  # Python 3.14
    except ImportError:
        raise CannotPullContainerError(
            "the image has a zstd-compressed layer, which needs Python 3.14; push it with gzip compression"
        ) from None
    with zstd.ZstdFile(file) as stream:
        while chunk := stream.read(CHUNK):
            yield chunk


class _Extraction:
    """One tar into one directory."""

    def __init__(self, directory: Path) -> None:
        self._root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._parent_path: str | None = None
        self._parent = -1
        self._directory_times: list[tuple[str, float]] = []

    def run(self, tar: tarfile.TarFile) -> None:
        try:
            for member in tar:
                self._entry(tar, member)
            for path, mtime in reversed(self._directory_times):
                self._set_times(path, mtime)
            # Else a power cut could leave a layer that is visible, and hollow for ever.
            syscalls.sync_file_system(self._root)
        finally:
            self._forget_parent()
            os.close(self._root)

    def _entry(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        path = os.path.normpath("/" + member.name.lstrip("/")).lstrip("/")
        if not path:
            if member.isdir():
                self._attributes(member, self._root, ".")
            return
        above, _, name = path.rpartition("/")
        parent = self._open_parent(above)
        if name == OPAQUE:
            os.setxattr(f"/proc/self/fd/{parent}", OPAQUE_XATTR, b"y")
        elif name.startswith(WHITEOUT + WHITEOUT):
            return  # bookkeeping of AUFS
        elif name.startswith(WHITEOUT):
            self._whiteout(parent, name.removeprefix(WHITEOUT))
        elif member.isdir():
            self._directory(member, parent, name, path)
        else:
            self._not_a_directory(tar, member, parent, name)

    def _open_parent(self, above: str) -> int:
        if above != self._parent_path:
            self._forget_parent()
            self._parent = syscalls.make_directories(self._root, above or ".")
            self._parent_path = above
        return self._parent

    def _forget_parent(self) -> None:
        if self._parent >= 0:
            os.close(self._parent)
        self._parent, self._parent_path = -1, None

    def _whiteout(self, parent: int, name: str) -> None:
        if not name or name in (".", ".."):
            raise tarfile.TarError("a whiteout without a name")
        try:
            os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=parent)
        except FileExistsError:
            # This layer makes the name anew; then only what lies below must not shine through.
            if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                os.setxattr(f"/proc/self/fd/{parent}/{name}", OPAQUE_XATTR, b"y", follow_symlinks=False)

    def _directory(self, member: tarfile.TarInfo, parent: int, name: str, path: str) -> None:
        existing = _mode(parent, name)
        if existing is None or not stat.S_ISDIR(existing):
            hides = existing is not None and stat.S_ISCHR(existing)
            self._clear(parent, name, existing)
            os.mkdir(name, 0o700, dir_fd=parent)
            if hides:
                os.setxattr(f"/proc/self/fd/{parent}/{name}", OPAQUE_XATTR, b"y", follow_symlinks=False)
        self._attributes(member, parent, name)
        self._directory_times.append((path, member.mtime))

    def _not_a_directory(self, tar: tarfile.TarFile, member: tarfile.TarInfo, parent: int, name: str) -> None:
        if member.ischr() or member.isblk():
            return
        self._clear(parent, name, _mode(parent, name))
        if member.isreg():
            self._file(tar, member, parent, name)
        elif member.issym():
            os.symlink(member.linkname, name, dir_fd=parent)
        elif member.islnk():
            self._hard_link(member, parent, name)
            return
        elif member.isfifo():
            os.mkfifo(name, 0o600, dir_fd=parent)
        else:
            return
        self._attributes(member, parent, name)
        os.utime(name, (member.mtime, member.mtime), dir_fd=parent, follow_symlinks=False)

    def _file(self, tar: tarfile.TarFile, member: tarfile.TarInfo, parent: int, name: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(name, flags, 0o600, dir_fd=parent), "wb") as target:
            source = tar.extractfile(member)
            if source is not None and member.sparse is None:
                _copy(source, target, member.size)
            elif source is not None:
                for offset, size in member.sparse:
                    source.raw.seek(offset)  # the buffer in front of it asks for a stream that can go back
                    target.seek(offset)
                    _copy(source.raw, target, size)
            target.truncate(member.size)

    def _hard_link(self, member: tarfile.TarInfo, parent: int, name: str) -> None:
        target = os.path.normpath("/" + member.linkname.lstrip("/")).lstrip("/")
        above, _, last = target.rpartition("/")
        directory = syscalls.open_in_root(self._root, above or ".", os.O_PATH | os.O_DIRECTORY)
        try:
            if stat.S_ISDIR(os.stat(last, dir_fd=directory, follow_symlinks=False).st_mode):
                raise tarfile.TarError(f"a hard link to the directory {target}")
            os.link(last, name, src_dir_fd=directory, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(directory)

    def _clear(self, parent: int, name: str, mode: int | None) -> None:
        """A later entry replaces an earlier one of the same name."""
        if mode is None:
            return
        if stat.S_ISDIR(mode):
            self._parent_path = None  # the directory that is open may be going
            shutil.rmtree(name, dir_fd=parent)
        else:
            os.unlink(name, dir_fd=parent)

    def _attributes(self, member: tarfile.TarInfo, parent: int, name: str) -> None:
        os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
        if member.issym():
            return
        os.chmod(name, member.mode & 0o7777, dir_fd=parent)
        for key, value in member.pax_headers.items():
            attribute = key.removeprefix("SCHILY.xattr.")
            # trusted.* is overlayfs' own, and an image has no say in it.
            if attribute != key and attribute.startswith(("user.", "security.")):
                _set_xattr(f"/proc/self/fd/{parent}/{name}", attribute, value)

    def _set_times(self, path: str, mtime: float) -> None:
        try:
            descriptor = syscalls.open_in_root(self._root, path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            return  # a later entry replaced it
        try:
            os.utime(descriptor, (mtime, mtime))
        finally:
            os.close(descriptor)


def _copy(source: IO[bytes], target: IO[bytes], size: int) -> None:
    """Holes stay holes, and long runs of zeros become some: a sparse file is often as large as no disk."""
    while size > 0 and (chunk := source.read(min(size, CHUNK))):
        size -= len(chunk)
        if chunk == (ZEROS if len(chunk) == CHUNK else bytes(len(chunk))):
            target.seek(len(chunk), os.SEEK_CUR)
        else:
            target.write(chunk)


def _mode(parent: int, name: str) -> int | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return None


def _set_xattr(path: str, name: str, value: str) -> None:
    try:
        os.setxattr(path, name, value.encode(errors="surrogateescape"), follow_symlinks=False)
    except OSError as error:
        if error.errno not in (95, 1):  # EOPNOTSUPP, EPERM: this file system or SELinux has no such attribute
            raise
