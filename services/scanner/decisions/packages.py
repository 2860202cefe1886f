"""Which files say what is installed, and who reads them.

A cataloguer is a module of `cataloguers/`, loaded when the first file of its kind is met: a worker process that sees
none of them must not wait for it.
"""

from __future__ import annotations

import re
from importlib import import_module
from typing import NamedTuple

from services.scanner.decisions.bounds import ARCHIVE_LIMIT, LOCK_LIMIT, Broken, Budget

DPKG, APK, RPM = "deb", "apk", "rpm"
PYTHON, NODE, JAVA, GO, RUBY, RUST, PHP = "pypi", "npm", "maven", "golang", "gem", "cargo", "composer"
"""Kinds of packages: the types of their purls."""
OS_RELEASE = "os-release"
PROGRAM = "program"
"""The kind of a file that is known by how it begins, not by its name (tar.Entry.program)."""


class Package(NamedTuple):
    """An installed package. kind: deb | apk | rpm | pypi | npm | maven | golang | gem | cargo | composer.

    `name` is as OSV names it: `group:artifact` of Java, `@scope/name` of Node. `source` is what it was built of, where
    that has another name or version: what distributions' advisories speak of. `arch` is the package manager's word.
    `declared`: a lock file names it, which does not put it there. `inside` is where in the file, of a jar in a jar.
    """

    kind: str
    name: str
    version: str
    source: str = ""
    source_version: str = ""
    arch: str = ""
    declared: bool = False
    inside: str = ""


_FIXED = {
    "var/lib/dpkg/status": DPKG,
    "lib/apk/db/installed": APK,
    "usr/lib/apk/db/installed": APK,
    "etc/os-release": OS_RELEASE,
    "usr/lib/os-release": OS_RELEASE,
}
_RPM_FOLDERS = ("var/lib/rpm/", "usr/lib/sysimage/rpm/", "usr/share/rpm/")
_NAMED = {
    "package.json": NODE,
    "package-lock.json": "npm-lock",
    "npm-shrinkwrap.json": "npm-lock",
    "yarn.lock": "yarn-lock",
    "pnpm-lock.yaml": "pnpm-lock",
    "poetry.lock": "toml-lock",
    "uv.lock": "toml-lock",
    "Pipfile.lock": "pipfile-lock",
    "Cargo.lock": "cargo-lock",
    "Gemfile.lock": "gemfile-lock",
    "composer.lock": "composer-lock",
    "METADATA": PYTHON,
    "PKG-INFO": PYTHON,
    "rpmdb.sqlite": "rpm-sqlite",
    "Packages.db": "rpm-ndb",
    "Packages": "rpm-bdb",
}
_ENDINGS = {
    ".egg-info": PYTHON,
    ".jar": JAVA,
    ".war": JAVA,
    ".ear": JAVA,
    ".par": JAVA,
    ".sar": JAVA,
    ".jpi": JAVA,
    ".hpi": JAVA,
    ".gemspec": RUBY,
    ".txt": "requirements",
    "/composer/installed.json": PHP,
}
_ENDS = tuple(_ENDINGS)
_PYTHON = re.compile(r"(?:\.dist-info/METADATA|\.egg-info/PKG-INFO|\.egg-info|/EGG-INFO/PKG-INFO)\Z")
_ALL_LOCKS = ("npm-lock", "yarn-lock", "pnpm-lock", "toml-lock", "pipfile-lock", "cargo-lock", "gemfile-lock")
LOCKS = frozenset({*_ALL_LOCKS, "composer-lock", "requirements"})

READERS = {
    DPKG: ("system", "dpkg"),
    APK: ("system", "apk"),
    "rpm-sqlite": ("rpm", "sqlite"),
    "rpm-ndb": ("rpm", "ndb"),
    "rpm-bdb": ("rpm", "berkeley"),
    PYTHON: ("python", "metadata"),
    "requirements": ("python", "requirements"),
    "pipfile-lock": ("python", "pipfile_lock"),
    "toml-lock": ("python", "toml_lock"),
    NODE: ("node", "package_json"),
    "npm-lock": ("node", "package_lock"),
    "yarn-lock": ("node_locks", "yarn_lock"),
    "pnpm-lock": ("node_locks", "pnpm_lock"),
    JAVA: ("java", "archive"),
    RUBY: ("ruby", "gemspec"),
    "gemfile-lock": ("ruby", "gemfile_lock"),
    "cargo-lock": ("rust", "cargo_lock"),
    PHP: ("php", "installed"),
    "composer-lock": ("php", "lock"),
    PROGRAM: ("programs", "program"),
}
"""Kind of a file -> module of `cataloguers` and function: (path, data, budget) -> packages."""


def kind_of(path: str) -> str | None:
    """What a file of this path says, None for nothing that is looked at."""
    kind = _FIXED.get(path)
    if kind is not None:
        return kind
    if path.startswith("var/lib/dpkg/status.d/"):  # distroless images have a file a package
        return None if path.endswith(".md5sums") else DPKG
    base = path[path.rfind("/") + 1 :]
    kind = _NAMED.get(base)
    if kind is None:
        if not path.endswith(_ENDS):
            return None
        kind = next(kind for ending, kind in _ENDINGS.items() if path.endswith(ending))
    return kind if _belongs(kind, path, base) else None


def _belongs(kind: str, path: str, base: str) -> bool:
    if kind == PYTHON:
        return _PYTHON.search(path) is not None
    if kind.startswith("rpm-"):
        return path[: -len(base)] in _RPM_FOLDERS
    if kind == RUBY:
        return "/specifications/" in path
    if kind == "requirements":
        return "requirements" in base
    if kind in ("npm-lock", "yarn-lock", "pnpm-lock"):  # a dependency's own says nothing of what is installed
        return not path.startswith("node_modules/") and "/node_modules/" not in path
    return True


def most_of(kind: str) -> int | None:
    """How many bytes of a file of this kind are read; larger ones are passed over and told of. None: of what the whole
    image is judged by (a distribution's packages), a larger one is refused."""
    if kind in LOCKS:
        return LOCK_LIMIT
    return ARCHIVE_LIMIT if kind == JAVA else None


def catalogue(kind: str, data: bytes, path: str = "", budget: Budget | None = None) -> tuple[list[Package], str]:
    """(the packages that a file tells of, why there are no more of them). What can't be read in it is passed over: one
    bad entry hides no other."""
    module, function = READERS[kind]
    reader = getattr(import_module(f"services.scanner.decisions.cataloguers.{module}"), function)
    found: list[Package] = []
    try:
        for package in reader(path, data, budget or Budget()):
            found.append(package)
    except Broken as broken:
        return found, str(broken)
    except (MemoryError, RecursionError):
        if kind in (DPKG, APK):
            raise  # an image is not judged without these
        return found, "reading it takes more memory than it may"
    return found, ""


def os_release(data: bytes) -> dict[str, str]:
    """os-release(5): ID, VERSION_ID and the like, without their quotes."""
    found = {}
    for line in data.decode("utf-8", "replace").splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and name in ("ID", "VERSION_ID", "VERSION_CODENAME", "PRETTY_NAME"):
            found[name] = value.strip("\"'")
    return found


def normalised(name: str) -> str:
    """A Python project's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()
