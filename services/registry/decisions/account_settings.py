"""The settings of PutAccountSetting: which values they may have, and which they have from the beginning.

https://docs.aws.amazon.com/AmazonECR/latest/userguide/registry-settings.html
"""

from __future__ import annotations

from collections.abc import Mapping

SCANNER, SCOPE, MOUNTING = "BASIC_SCAN_TYPE_VERSION", "REGISTRY_POLICY_SCOPE", "BLOB_MOUNTING"

VALUES: Mapping[str, tuple[str, ...]] = {
    SCANNER: ("AWS_NATIVE",),
    SCOPE: ("V2", "V1"),
    MOUNTING: ("ENABLED", "DISABLED"),
}
"""The values of each setting, the first being what holds until another is put. CLAIR, which ECR gave up, is none."""

OF_SCOPE_V1 = frozenset({"ecr:ReplicateImage", "ecr:BatchImportUpstreamImage", "ecr:CreateRepository"})
"""What a registry policy of scope V1 is asked about; of V2, about all.
https://docs.aws.amazon.com/AmazonECR/latest/userguide/registry-permissions.html"""


class BadSetting(Exception):
    """There is no such setting, or it can't have this value. `member` is which of both."""

    def __init__(self, member: str, why: str) -> None:
        super().__init__(why)
        self.member = member


def value_of(settings: Mapping[str, str], name: str) -> str:
    """What holds. Raises BadSetting."""
    first = _values(name)[0]
    return settings.get(name, first)


def check_setting(name: str, value: str) -> None:
    """Raises BadSetting."""
    if value not in _values(name):
        raise BadSetting("value", f"{name} can't be '{value}': it is one of {', '.join(_values(name))}")


def scope_covers(settings: Mapping[str, str], action: str) -> bool:
    """Whether the registry policy has a say in this action."""
    return value_of(settings, SCOPE) != "V1" or action in OF_SCOPE_V1


def _values(name: str) -> tuple[str, ...]:
    if name not in VALUES:
        raise BadSetting("name", f"'{name}' is none of {', '.join(VALUES)}")
    return VALUES[name]
