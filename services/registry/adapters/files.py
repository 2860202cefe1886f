"""Where the files of the blob store lie, and the few durable steps that it is made of. All of it blocks.

    blobs/sha256/ab/abcd…                          content, once
    repositories/<account>/<region>/<name>/blobs/abcd…       a hard link to it: this repository has it
    repositories/<account>/<region>/<name>/manifests/abcd…   the same, for manifests
    repositories/<account>/<region>/<name>/uploads/<id>      content on its way

So a repository has a blob if and only if the link is there; nothing else need agree with it. A file in `blobs` with
one link is in no repository and may be freed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from threading import Lock

from services.registry.decisions.names import RepositoryId
from services.registry.ports import Shelf, StorageFull

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_LONGEST = 180


@contextlib.contextmanager
def room_needed() -> Iterator[None]:
    """Turn "no space" and "no quota" into StorageFull."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull(os.strerror(error.errno)) from error
        raise


def sync_directory(path: Path) -> None:
    """Make what was made, renamed or removed in a directory survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make a file's content survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Make a directory and its parents, durably; nothing to do when it is there."""
    if path.is_dir():
        return
    make_directory(path.parent)
    with contextlib.suppress(FileExistsError):
        path.mkdir()
    sync_directory(path.parent)


def touch(path: Path) -> None:
    """Renew the ctime of content, by which the sweep goes: any change of the inode does. Raises FileNotFoundError."""
    found = path.stat()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


class Layout:
    """The paths under one root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.blobs = root / "blobs" / "sha256"
        self.repositories = root / "repositories"
        self.trash = root / "trash"
        self.guard = Lock()
        """Held for the moment in which somebody finds or links content, or looks whether it may go and takes it: what a
        push was just told is there must not go a moment later."""

    def content(self, digest: str) -> Path:
        """Where content lies, whoever has it."""
        text = hex_of(digest)
        return self.blobs / text[:2] / text

    def repository(self, repository: RepositoryId) -> Path:
        """A repository's directory."""
        return self.repositories.joinpath(*place_of(repository))

    def link(self, repository: RepositoryId, digest: str, shelf: Shelf) -> Path:
        """A repository's link to content."""
        return self.repository(repository) / shelf / hex_of(digest)

    def upload(self, repository: RepositoryId, upload_id: str) -> Path:
        """An upload's file."""
        if not upload_id or "/" in upload_id or upload_id.startswith("."):
            raise ValueError(f"{upload_id!r} can't be an upload")
        return self.repository(repository) / "uploads" / upload_id

    def adopt(self, file: Path, digest: str, link: Path) -> None:
        """Make a synced file the content of its digest, and link it: visible only with the last step.

        The file is moved, never shared: an upload that a crash left behind must not be able to reach the content.
        """
        content = self.content(digest)
        make_directory(content.parent)
        try:
            self.add_link(content, link)
        except FileNotFoundError:
            file.rename(content)
            sync_directory(content.parent)
            self.add_link(content, link)

    def add_link(self, content: Path, link: Path) -> None:
        """Link content into a repository, durably. Raises FileNotFoundError when the content is gone."""
        make_directory(link.parent)
        with self.guard:
            try:
                os.link(content, link)
            except FileExistsError:
                touch(link)  # an old link, that nobody may need: now somebody does
        sync_directory(link.parent)

    def remove_tree(self, path: Path) -> None:
        """Remove a directory: at once for readers, then its files."""
        self.trash.mkdir(exist_ok=True)
        away = self.trash / os.urandom(8).hex()
        try:
            path.rename(away)
        except FileNotFoundError:
            return
        sync_directory(path.parent)
        shutil.rmtree(away, ignore_errors=True)

    def empty_trash(self) -> None:
        """Remove what a crash left there."""
        shutil.rmtree(self.trash, ignore_errors=True)


def hex_of(digest: str) -> str:
    """The digest without its algorithm. Raises ValueError."""
    algorithm, _, text = digest.partition(":")
    if algorithm != "sha256" or len(text) != 64 or not set(text) <= set("0123456789abcdef"):
        raise ValueError(f"{digest!r} is not a SHA-256 digest")
    return text


def place_of(repository: RepositoryId) -> tuple[str, str, str]:
    """Account, region and name as parts of a path. Names may be longer than a file's name may be, and have slashes.
    Raises ValueError."""
    name = repository.name.replace("/", "+")
    if len(name) > _LONGEST:
        name = f"{name[:_LONGEST]}~{sha256(repository.name.encode()).hexdigest()[:32]}"
    for part in (repository.account, repository.region, name):
        if not part or part.startswith(".") or "/" in part or "\0" in part:
            raise ValueError(f"{part!r} can't be part of a path")
    return repository.account, repository.region, name
