"""When images are scanned, by the settings of registry and repository.

https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-scanning.html: the registry's rules go before a
repository's own, older setting.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contracts.records.registry import scan_frequency


class BadRules(ValueError):
    """The rules don't fit to the type of scanning."""


def check_rules(scan_type: str, rules: list[dict[str, Any]]) -> None:
    """Raises BadRules for what basic scanning can't do."""
    frequencies = [rule["scanFrequency"] for rule in rules]
    if "CONTINUOUS_SCAN" in frequencies and scan_type == "BASIC":
        raise BadRules("scanFrequency CONTINUOUS_SCAN goes with the scan type ENHANCED only")
    if len(set(frequencies)) != len(frequencies):
        raise BadRules("there is more than one rule of one scanFrequency")


def scans_on_push(rules: list[dict[str, Any]], settings: Mapping[str, Any], name: str) -> bool:
    """Whether a repository is set to be scanned on push."""
    own = settings.get("imageScanningConfiguration") or {}
    return scan_frequency(rules, name)[0] != "MANUAL" or bool(own.get("scanOnPush"))
