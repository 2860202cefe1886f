"""A bill of materials in CycloneDX 1.6. https://cyclonedx.org/docs/1.6/json"""

from __future__ import annotations

from typing import Any

from services.scanner.decisions.inventory import TOOL, Component, Inventory
from services.scanner.decisions.packages import JAVA, NODE, PHP

MEDIA_TYPE = "application/vnd.cyclonedx+json"
_IMAGE, _SYSTEM = "image", "system"


def document(inventory: Inventory) -> dict[str, Any]:
    """The document, as plain JSON; the same for the same inventory."""
    about, release = inventory.about, inventory.release
    components = [_component(each) for each in inventory.components]
    if release.get("ID"):
        system = {"bom-ref": _SYSTEM, "type": "operating-system", "name": release["ID"]}
        more = {"version": release.get("VERSION_ID"), "description": release.get("PRETTY_NAME")}
        components.insert(0, system | {name: value for name, value in more.items() if value})
    image = {"bom-ref": _IMAGE, "type": "container", "name": f"{about.registry}/{about.repository}"}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{inventory.serial}",
        "version": 1,
        "metadata": {
            "timestamp": about.time,
            "tools": {"components": [{"type": "application", "name": TOOL}]},
            "component": {**image, "version": about.digest, "purl": about.purl},
        },
        "components": components,
        "dependencies": [{"ref": _IMAGE, "dependsOn": sorted(each["bom-ref"] for each in components)}],
    }


def _component(component: Component) -> dict[str, Any]:
    package = component.package
    group, _, name = package.name.rpartition(":" if package.kind == JAVA else "/")
    named = {"group": group, "name": name} if group and package.kind in (JAVA, NODE, PHP) else {"name": package.name}
    properties = [{"name": "roadstead:kind", "value": package.kind}]
    properties += [{"name": "roadstead:layer", "value": layer} for layer in sorted({at for _, at in component.places})]
    if package.source and package.source != package.name:
        properties.append({"name": "roadstead:source", "value": package.source})
    if component.declared:
        properties.append({"name": "roadstead:declared", "value": "true"})
    return {
        "bom-ref": component.purl,
        "type": "library",
        **named,
        "version": package.version,
        "purl": component.purl,
        "properties": properties,
        "evidence": {"occurrences": [{"location": path} for path in sorted({path for path, _ in component.places})]},
    }
