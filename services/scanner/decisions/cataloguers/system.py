"""The package databases of Debian and Alpine."""

from __future__ import annotations

from collections.abc import Iterator

from services.scanner.decisions.bounds import Budget
from services.scanner.decisions.packages import APK, DPKG, Package

_GONE = ("not-installed", "config-files")


def dpkg(path: str, data: bytes, budget: Budget) -> Iterator[Package]:
    """deb-control(5) paragraphs, with the Status of /var/lib/dpkg/status (dpkg-query(1))."""
    wanted = ("Package", "Version", "Source", "Status", "Architecture")
    for fields in paragraphs(data.decode("utf-8", "replace"), wanted):
        name, version, source = fields.get("Package", ""), fields.get("Version", ""), fields.get("Source", "")
        if not name or not version or fields.get("Status", "").endswith(_GONE):
            continue
        source_name, _, told = source.partition(" ")
        arch = fields.get("Architecture", "")
        yield Package(DPKG, name, version, source_name or name, told.strip("() ") or version, arch)


def apk(path: str, data: bytes, budget: Budget) -> Iterator[Package]:
    """https://wiki.alpinelinux.org/wiki/Apk_spec#Installed_Database_V2"""
    for fields in paragraphs(data.decode("utf-8", "replace"), ("P", "V", "o", "A")):
        if fields.get("P") and fields.get("V"):
            name, version = fields["P"], fields["V"]
            yield Package(APK, name, version, fields.get("o") or name, version, fields.get("A", ""))


def paragraphs(text: str, wanted: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """The fields of these names, paragraph by paragraph."""
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
