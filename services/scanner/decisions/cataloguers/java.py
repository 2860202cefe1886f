"""Java archives: jars, wars and ears, and those that lie in them.

What an archive is, is said by the pom.properties that Maven puts into it, else by its manifest
(https://docs.oracle.com/en/java/javase/21/docs/specs/jar/jar.html) and its file's name. Further pom.properties are of
libraries that were copied into it.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from services.scanner.decisions.bounds import DEPTH, MEMBERS_LIMIT, Broken, Budget, name_of
from services.scanner.decisions.packages import JAVA, Package

_TEXT_LIMIT = 1 << 20
_MANIFEST = "META-INF/MANIFEST.MF"
_ARCHIVES = (".jar", ".war", ".ear", ".par", ".sar", ".jpi", ".hpi")
_FILE = re.compile(r"(?P<name>.+?)(?:[-_](?P<version>v?\d[\w.+~-]*))?\.[a-z]+\Z", re.IGNORECASE)
_VERSIONS = ("Implementation-Version", "Bundle-Version", "Specification-Version", "Plugin-Version")
_NAMES = ("Implementation-Title", "Short-Name", "Extension-Name", "Bundle-Name")
_GROUP = re.compile(r"[a-z][\w-]*(?:\.[\w-]+)+\Z")


class Artifact(NamedTuple):
    """Coordinates; the group may be unknown."""

    group: str
    artifact: str
    version: str


def archive(path: str, data: bytes, budget: Budget) -> Iterator[Package]:
    """An archive and all that lie in it. Raises Broken for one that can't be opened; nested ones that can't are passed
    over, as what is beside them still counts."""
    yield from _archive(path.rpartition("/")[2], "", data, budget, 1)


def _archive(file: str, inside: str, data: bytes, budget: Budget, depth: int) -> Iterator[Package]:
    opened = _open(data)
    poms, nested, manifest = [], [], ""
    for info in opened.infolist():
        name = info.filename
        if name.startswith("META-INF/maven/") and name.endswith("/pom.properties"):
            poms.append(_pom(_text(opened, info, budget)))
        elif name == _MANIFEST:
            manifest = _text(opened, info, budget)
        elif name.lower().endswith(_ARCHIVES):
            nested.append(info)
    for each in _artifacts(file, _main(manifest), [pom for pom in poms if pom is not None]):
        name = f"{each.group}:{each.artifact}" if each.group else each.artifact
        if name_of(name, each.version):
            yield Package(JAVA, name, each.version, inside=inside)
    for info in nested if depth < DEPTH else ():
        where = f"{inside}!{info.filename}" if inside else info.filename
        content = _content(opened, info, budget)
        try:
            yield from _archive(info.filename.rpartition("/")[2], where, content, budget, depth + 1)
        except Broken:
            continue


def _open(data: bytes) -> zipfile.ZipFile:
    if data.count(b"PK\1\2") > MEMBERS_LIMIT:
        raise Broken(f"it has more than {MEMBERS_LIMIT} members")
    try:
        return zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, EOFError) as error:
        raise Broken(f"it is no archive: {str(error)[:80]}") from None


def _content(opened: zipfile.ZipFile, info: zipfile.ZipInfo, budget: Budget) -> bytes:
    """A member's bytes, as many as it says, taken from the budget before they are there. b"" for a broken one."""
    budget.spend(info.file_size)
    try:
        with opened.open(info) as member:
            return member.read(info.file_size)
    except (zipfile.BadZipFile, zlib.error, ValueError, NotImplementedError, RuntimeError, OSError, EOFError):
        return b""


def _text(opened: zipfile.ZipFile, info: zipfile.ZipInfo, budget: Budget) -> str:
    return _content(opened, info, budget).decode("utf-8", "replace") if info.file_size <= _TEXT_LIMIT else ""


def _pom(text: str) -> Artifact | None:
    told = dict(line.strip().partition("=")[::2] for line in text.splitlines() if not line.startswith("#"))
    found = Artifact(*(told.get(name, "").strip() for name in ("groupId", "artifactId", "version")))
    return found if found.artifact and found.version and "${" not in found.version else None


def _main(text: str) -> dict[str, str]:
    """The main section of a manifest; a line that begins with a space goes on with the one before."""
    head = re.split(r"\r?\n\r?\n", text, maxsplit=1)[0]
    lines = re.sub(r"\r?\n ", "", head).splitlines()
    return {name: value.strip() for name, colon, value in (line.partition(":") for line in lines) if colon}


def _artifacts(file: str, manifest: dict[str, str], poms: list[Artifact]) -> Iterator[Artifact]:
    """What the archive is, then what was copied into it."""
    named = _FILE.match(file)
    name, version = (named["name"], named["version"] or "") if named is not None else ("", "")
    own = next((pom for pom in poms if pom.artifact == name), None)
    if own is None and len(poms) == 1 and (name.startswith(poms[0].artifact) or poms[0].artifact.startswith(name)):
        own = poms[0]
    if own is None and manifest:
        artifact = name or next((manifest[each] for each in _NAMES if manifest.get(each)), "")
        told = version or next((manifest[each] for each in _VERSIONS if manifest.get(each)), "")
        own = Artifact(_group(manifest, artifact), artifact, told)
    if own is not None and own.artifact and own.version:
        yield own
    yield from (pom for pom in dict.fromkeys(poms) if pom != own)


def _group(manifest: dict[str, str], artifact: str) -> str:
    """The group that a manifest hints at; "" when it does not: a wrong one would find wrong advisories."""
    symbolic = manifest.get("Bundle-SymbolicName", "").partition(";")[0].strip()
    if symbolic.endswith("." + artifact):
        return symbolic.removesuffix("." + artifact)
    vendor = manifest.get("Implementation-Vendor-Id", "")
    return vendor if _GROUP.match(vendor) else ""
