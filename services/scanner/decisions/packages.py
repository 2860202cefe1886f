"""The files that say which packages are installed, and what they say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

DPKG, APK, PYTHON, NODE, OS_RELEASE = "deb", "apk", "pypi", "npm", "os-release"

_FIXED = {
    "var/lib/dpkg/status": DPKG,
    "lib/apk/db/installed": APK,
    "usr/lib/apk/db/installed": APK,
    "etc/os-release": OS_RELEASE,
    "usr/lib/os-release": OS_RELEASE,
}
_ENDINGS = ("/METADATA", "/PKG-INFO", ".egg-info", "/package.json")
_PYTHON = re.compile(r"(?:\.dist-info/METADATA|\.egg-info/PKG-INFO|\.egg-info)\Z")
_NODE = re.compile(r"(?:\A|/)node_modules/(?:@[^/]+/)?[^/]+/package\.json\Z")
_GONE = ("not-installed", "config-files")


class Package(NamedTuple):
    """An installed package. kind: deb | apk | pypi | npm. `source` is what it was built of, where that has another
    name or version: what distributions' advisories speak of."""

    kind: str
    name: str
    version: str
    source: str = ""
    source_version: str = ""


def kind_of(path: str) -> str | None:
    """What a file of this path says, None for nothing that is looked at."""
    kind = _FIXED.get(path)
    if kind is not None:
        return kind
    if path.startswith("var/lib/dpkg/status.d/"):  # distroless images have a file a package
        return None if path.endswith(".md5sums") else DPKG
    if path.endswith(_ENDINGS):
        if _PYTHON.search(path):
            return PYTHON
        if _NODE.search(path):
            return NODE
    return None


def read(kind: str, data: bytes) -> list[Package]:
    """The packages that a file tells of. What can't be read in it is passed over: one bad entry hides no other."""
    text = data.decode("utf-8", "replace")
    if kind == DPKG:
        return list(_dpkg(text))
    if kind == APK:
        return list(_apk(text))
    if kind == PYTHON:
        return list(_python(text))
    return list(_node(data)) if kind == NODE else []


def _dpkg(text: str) -> Iterator[Package]:
    """deb-control(5) paragraphs, with the Status of /var/lib/dpkg/status (dpkg-query(1))."""
    for fields in _paragraphs(text, ("Package", "Version", "Source", "Status")):
        name, version, source = fields.get("Package", ""), fields.get("Version", ""), fields.get("Source", "")
        if not name or not version or fields.get("Status", "").endswith(_GONE):
            continue
        source_name, _, told = source.partition(" ")
        yield Package(DPKG, name, version, source_name or name, told.strip("() ") or version)


def _paragraphs(text: str, wanted: tuple[str, ...]) -> Iterator[dict[str, str]]:
    fields: dict[str, str] = {}
    for line in text.split("\n"):
        if not line.strip():
            if fields:
                yield fields
            fields = {}
        elif line[0] not in " \t":
            name, _, value = line.partition(":")
            if name in wanted:
                fields[name] = value.strip()
    if fields:
        yield fields


def _apk(text: str) -> Iterator[Package]:
    """https://wiki.alpinelinux.org/wiki/Apk_spec#Installed_Database_V2"""
    for fields in _paragraphs(text, ("P", "V", "o")):
        if fields.get("P") and fields.get("V"):
            yield Package(APK, fields["P"], fields["V"], fields.get("o") or fields["P"], fields["V"])


def _python(text: str) -> Iterator[Package]:
    """Core metadata: headers up to the first empty line. https://packaging.python.org/specifications/core-metadata"""
    head = re.split(r"\r?\n\r?\n", text, maxsplit=1)[0].replace("\r", "")
    found = next(_paragraphs(head, ("Name", "Version")), {})
    if found.get("Name") and found.get("Version"):
        yield Package(PYTHON, found["Name"], found["Version"])


def _node(data: bytes) -> Iterator[Package]:
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(told, dict):
        return
    name, version = told.get("name"), told.get("version")
    if isinstance(name, str) and isinstance(version, str) and name and version:
        yield Package(NODE, name, version)


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
