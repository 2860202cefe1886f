"""Python: what is installed, and what lock files name."""

from __future__ import annotations

import re
from collections.abc import Iterator

from services.scanner.decisions.bounds import Broken, Budget, member, members, name_of, parsed
from services.scanner.decisions.cataloguers.system import paragraphs
from services.scanner.decisions.packages import PYTHON, Package

_PINNED = re.compile(r"([A-Za-z0-9][\w.-]*)\s*(?:\[[^\]]*\])?\s*={2,3}\s*([\w.!+-]+)\s*(?:[;\\#]|--hash|\Z)")


def metadata(path: str, data: bytes, budget: Budget) -> Iterator[Package]:
    """Core metadata: headers up to the first empty line. https://packaging.python.org/specifications/core-metadata"""
    text = data.decode("utf-8", "replace")
    head = re.split(r"\r?\n\r?\n", text, maxsplit=1)[0].replace("\r", "")
    found = next(paragraphs(head, ("Name", "Version")), {})
    if found.get("Name") and found.get("Version"):
        yield Package(PYTHON, found["Name"], found["Version"])


def requirements(path: str, data: bytes, budget: Budget) -> Iterator[Package]:
    """The lines of a requirements file that pin one version (pip's requirements file format)."""
    for line in data.decode("utf-8", "replace").splitlines():
        found = _PINNED.match(line.strip()[:2048])
        if found is not None and name_of(found[1], found[2]):
            yield Package(PYTHON, found[1], found[2], declared=True)


def pipfile_lock(path: str, data: bytes, budget: Budget) -> Iterator[Package]:
    """Pipfile.lock: the `default` packages, not those of `develop`."""
    for name, told in member(parsed(data), "default").items():
        version = told.get("version") if isinstance(told, dict) else None
        if isinstance(version, str) and name_of(name, version.removeprefix("==")):
            yield Package(PYTHON, name, version.removeprefix("=="), declared=True)


def toml_lock(path: str, data: bytes, budget: Budget) -> Iterator[Package]:
    """poetry.lock and uv.lock: all that they name, but the project itself."""
    for told in members(toml(data), "package"):
        source = member(told, "source")
        if name_of(told.get("name"), told.get("version")) and not source.keys() & {"editable", "virtual"}:
            yield Package(PYTHON, told["name"], told["version"], declared=True)


def toml(data: bytes) -> dict[str, object]:
    """A TOML document. Raises Broken."""
    import tomllib

    try:
        return tomllib.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise Broken(f"it is no TOML: {str(error)[:80]}") from None
