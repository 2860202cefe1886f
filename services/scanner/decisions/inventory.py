"""What an image is made of, as bills of materials tell it: each thing once, with all places where it was found."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import UUID

from services.scanner.decisions.packages import Package
from services.scanner.decisions.purls import image_purl, purl

TOOL = "roadstead-scanner"


class About(NamedTuple):
    """The image that a bill of materials is about. `pushed_at` is in epoch seconds: the bill's time, so that the same
    image has the same bill whenever it is made."""

    account: str
    region: str
    repository: str
    digest: str
    pushed_at: float

    @property
    def registry(self) -> str:
        """The host of its registry, by ECR's name for it."""
        return f"{self.account}.dkr.ecr.{self.region}.amazonaws.com"

    @property
    def purl(self) -> str:
        """Its package URL."""
        return image_purl(self.repository, self.digest, self.registry)

    @property
    def time(self) -> str:
        """`pushed_at` as RFC 3339 has it, in whole seconds."""
        return datetime.fromtimestamp(int(self.pushed_at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Component(NamedTuple):
    """A thing that is in an image. `places` are (path, layer), sorted; `declared`: lock files alone name it."""

    purl: str
    package: Package
    declared: bool
    places: tuple[tuple[str, str], ...]


class Inventory(NamedTuple):
    """All of it: what a bill of materials is written of. `release` is what os-release says."""

    about: About
    release: dict[str, str]
    components: list[Component]

    @property
    def serial(self) -> UUID:
        """What tells this bill from all others: it follows from the image and from what was found in it."""
        told = [repr(self.about), *(repr(each) for each in self.components)]
        return UUID(bytes=sha256("\n".join(told).encode()).digest()[:16], version=5)


def inventory(about: About, release: dict[str, str], packages: Iterable[dict[str, Any]]) -> Inventory:
    """`packages` as a scan's report has them: a Package's members, `path` and `layer`."""
    found: dict[str, tuple[Package, bool, set[tuple[str, str]]]] = {}
    for told in packages:
        package = Package(**{name: told[name] for name in Package._fields if name in told})
        url = purl(package, release)
        known, declared, places = found.get(url, (package, True, set()))
        where = f"/{told['path']}" + (f"!{package.inside}" if package.inside else "")
        places.add((where, told["layer"]))
        found[url] = (known, declared and package.declared, places)
    return Inventory(
        about,
        release,
        [
            Component(url, each, declared, tuple(sorted(places)))
            for url, (each, declared, places) in sorted(found.items())
        ],
    )
