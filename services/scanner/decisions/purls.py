"""Package URLs. https://github.com/package-url/purl-spec, with the types' own rules (types/*.json there)."""

from __future__ import annotations

from urllib.parse import quote

from services.scanner.decisions.packages import APK, DPKG, GO, JAVA, NODE, PHP, PYTHON, RPM, Package, normalised

_VENDORS = {DPKG: "debian", APK: "alpine"}
"""Who makes packages of a system that does not say what it is."""


def purl(package: Package, release: dict[str, str]) -> str:
    """A package's URL; those of a distribution carry what os-release says of it."""
    if package.kind in (DPKG, APK, RPM):
        return _of_system(package, release)
    name, version = package.name, package.version
    namespace, _, last = name.rpartition(":" if package.kind == JAVA else "/")
    if package.kind in (GO, PHP):
        namespace, last = namespace.lower(), last.lower()
    elif package.kind == PYTHON:
        namespace, last = "", normalised(name)
    elif package.kind not in (JAVA, NODE):
        namespace, last = "", name
    parts = [_quoted(part) for part in (*namespace.split("/"), last) if part]
    return f"pkg:{package.kind}/{'/'.join(parts)}@{_quoted(version)}"


def _of_system(package: Package, release: dict[str, str]) -> str:
    system = release.get("ID", "") or _VENDORS.get(package.kind, "")
    version, qualifiers = package.version, {"arch": package.arch}
    if release.get("ID") and release.get("VERSION_ID"):
        qualifiers["distro"] = f"{release['ID']}-{release['VERSION_ID']}"
    epoch, colon, rest = version.partition(":")
    if package.kind == RPM and colon:
        version, qualifiers["epoch"] = rest, epoch
    if (package.source or package.name, package.source_version or package.version) != (package.name, package.version):
        same = package.source_version in ("", package.version)
        qualifiers["upstream"] = package.source if same else f"{package.source}@{package.source_version}"
    told = "&".join(f"{name}={_quoted(value)}" for name, value in sorted(qualifiers.items()) if value)
    parts = "/".join(_quoted(part) for part in (system, package.name) if part)
    return f"pkg:{package.kind}/{parts}@{_quoted(version)}" + (f"?{told}" if told else "")


def image_purl(repository: str, digest: str, registry: str) -> str:
    """The URL of an image in a registry (its host)."""
    name = repository.rpartition("/")[2].lower()
    return f"pkg:oci/{_quoted(name)}@{_quoted(digest)}?repository_url={_quoted(f'{registry}/{repository}')}"


def _quoted(text: str) -> str:
    return quote(text, safe=":")
