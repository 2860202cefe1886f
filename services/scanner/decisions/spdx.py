"""A bill of materials in SPDX 2.3. https://spdx.github.io/spdx-spec/v2.3"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from services.scanner.decisions.inventory import TOOL, Component, Inventory

MEDIA_TYPE = "application/spdx+json"
_DOCUMENT, _IMAGE, _SYSTEM = "SPDXRef-DOCUMENT", "SPDXRef-Image", "SPDXRef-System"
_UNKNOWN = {
    "downloadLocation": "NOASSERTION",
    "filesAnalyzed": False,
    "licenseConcluded": "NOASSERTION",
    "licenseDeclared": "NOASSERTION",
    "copyrightText": "NOASSERTION",
    "supplier": "NOASSERTION",
}


def document(inventory: Inventory) -> dict[str, Any]:
    """The document, as plain JSON; the same for the same inventory."""
    about, release = inventory.about, inventory.release
    image = {
        "SPDXID": _IMAGE,
        "name": f"{about.registry}/{about.repository}",
        "versionInfo": about.digest,
        "primaryPackagePurpose": "CONTAINER",
        **_UNKNOWN,
        "checksums": [{"algorithm": "SHA256", "checksumValue": about.digest.removeprefix("sha256:")}],
        "externalRefs": [_reference(about.purl)],
    }
    packages = [_package(each) for each in inventory.components]
    if release.get("ID"):
        system = {"SPDXID": _SYSTEM, "name": release["ID"], "primaryPackagePurpose": "OPERATING-SYSTEM", **_UNKNOWN}
        version = {"versionInfo": release["VERSION_ID"]} if release.get("VERSION_ID") else {}
        packages.insert(0, system | version)
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": _DOCUMENT,
        "name": f"{about.repository}@{about.digest}",
        "documentNamespace": f"https://{about.registry}/{about.repository}/spdx/{inventory.serial}",
        "creationInfo": {"created": about.time, "creators": [f"Tool: {TOOL}"]},
        "packages": [image, *packages],
        "relationships": [
            _related(_DOCUMENT, "DESCRIBES", _IMAGE),
            *(_related(_IMAGE, "CONTAINS", each["SPDXID"]) for each in packages),
        ],
    }


def _package(component: Component) -> dict[str, Any]:
    package = component.package
    where = "; ".join(f"{path} (layer {layer})" for path, layer in component.places)
    return {
        "SPDXID": f"SPDXRef-{package.kind}-{sha256(component.purl.encode()).hexdigest()[:24]}",
        "name": package.name,
        "versionInfo": package.version,
        "primaryPackagePurpose": "LIBRARY",
        **_UNKNOWN,
        "sourceInfo": f"{'named by' if component.declared else 'found in'} {where}",
        "externalRefs": [_reference(component.purl)],
    }


def _reference(purl: str) -> dict[str, str]:
    return {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}


def _related(one: str, how: str, other: str) -> dict[str, str]:
    return {"spdxElementId": one, "relationshipType": how, "relatedSpdxElement": other}
