"""Which OSV ecosystems speak of a package. https://ossf.github.io/osv-schema/#affectedpackage-field"""

from __future__ import annotations

from collections.abc import Callable

DPKG, APK, RPM = "deb", "apk", "rpm"

_LANGUAGES = {
    "pypi": "PyPI",
    "npm": "npm",
    "maven": "Maven",
    "golang": "Go",
    "gem": "RubyGems",
    "cargo": "crates.io",
    "composer": "Packagist",
    "nuget": "NuGet",
}
_RED_HAT_PARTS = (
    "",
    "::baseos",
    "::appstream",
    "::crb",
    "::highavailability",
    "::nfv",
    "::realtime",
    "::sap",
    "::sap_hana",
)


def ecosystems(kind: str, release: dict[str, str]) -> list[str]:
    """The OSV ecosystems whose advisories hold for packages of a kind in an image of this os-release(5); none when
    nothing is known of what it is."""
    if kind in _LANGUAGES:
        return [_LANGUAGES[kind]]
    system, version = release.get("ID", ""), release.get("VERSION_ID", "")
    named = _SYSTEMS.get((kind, system))
    if named is None or (not version and system not in _ROLLING):
        return []
    return named(version)


def _major(version: str) -> str:
    return version.partition(".")[0]


def _alpine(version: str) -> list[str]:
    numbers = version.split(".")
    if "_" in version or len(numbers) < 2:
        return ["Alpine:edge"]
    return [f"Alpine:v{numbers[0]}.{numbers[1]}"]


def _sles(version: str) -> list[str]:
    major, _, pack = version.partition(".")
    return [f"SUSE:Linux Enterprise Server {major}" + (f" SP{pack}" if pack else "")]


_ROLLING = ("wolfi", "chainguard", "opensuse-tumbleweed")
_SYSTEMS: dict[tuple[str, str], Callable[[str], list[str]]] = {
    (DPKG, "debian"): lambda version: [f"Debian:{_major(version)}"],
    (DPKG, "ubuntu"): lambda version: [f"Ubuntu:{version}", f"Ubuntu:{version}:LTS"],
    (APK, "alpine"): _alpine,
    (APK, "wolfi"): lambda version: ["Wolfi"],
    (APK, "chainguard"): lambda version: ["Chainguard", "Wolfi"],
    (RPM, "rhel"): lambda version: [f"Red Hat:enterprise_linux:{_major(version)}{part}" for part in _RED_HAT_PARTS],
    (RPM, "rocky"): lambda version: [f"Rocky Linux:{_major(version)}"],
    (RPM, "almalinux"): lambda version: [f"AlmaLinux:{_major(version)}"],
    (RPM, "sles"): _sles,
    (RPM, "opensuse-leap"): lambda version: [f"openSUSE:Leap {version}"],
    (RPM, "opensuse-tumbleweed"): lambda version: ["openSUSE:Tumbleweed"],
    (RPM, "openEuler"): lambda version: [f"openEuler:{version}", f"openEuler:{version}-LTS"],
    (RPM, "mageia"): lambda version: [f"Mageia:{version}"],
    (RPM, "azurelinux"): lambda version: [f"Azure Linux:{_major(version)}"],
    (RPM, "mariner"): lambda version: [f"Azure Linux:{_major(version)}"],
    (RPM, "photon"): lambda version: [f"Photon OS:{version}"],
}
"""By kind of package and os-release's ID. Fedora, CentOS Stream, Amazon Linux and Oracle Linux publish no OSV
records."""
