"""When images are scanned, by the settings of registry and repository.

https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-scanning.html: the registry's rules go before a
repository's own, older setting.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any


class BadRules(ValueError):
    """The rules don't fit to the type of scanning."""


def check_rules(scan_type: str, rules: list[dict[str, Any]]) -> None:
    """Raises BadRules for what basic scanning can't do."""
    frequencies = [rule["scanFrequency"] for rule in rules]
    if "CONTINUOUS_SCAN" in frequencies and scan_type == "BASIC":
        raise BadRules("scanFrequency CONTINUOUS_SCAN goes with the scan type ENHANCED only")
    if len(set(frequencies)) != len(frequencies):
        raise BadRules("there is more than one rule of one scanFrequency")


def applied(rules: list[dict[str, Any]], name: str) -> tuple[str, list[dict[str, str]]]:
    """(the frequency at which a repository is scanned, the filters of the registry's rules that say so)."""
    for frequency in ("CONTINUOUS_SCAN", "SCAN_ON_PUSH"):
        found = [
            each
            for rule in rules
            if rule["scanFrequency"] == frequency
            for each in rule["repositoryFilters"]
            if _matches(each["filter"], name)
        ]
        if found:
            return frequency, found
    return "MANUAL", []


def scans_on_push(rules: list[dict[str, Any]], settings: Mapping[str, Any], name: str) -> bool:
    """Whether a repository is set to be scanned on push."""
    own = settings.get("imageScanningConfiguration") or {}
    return applied(rules, name)[0] != "MANUAL" or bool(own.get("scanOnPush"))


def _matches(pattern: str, name: str) -> bool:
    """A filter without a wildcard matches all names that have it in them, as ECR's documentation of filters says."""
    if "*" not in pattern:
        return pattern in name
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name, re.DOTALL) is not None
