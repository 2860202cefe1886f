"""Secrets Manager's rules: ARNs, versions and their stages.

https://docs.aws.amazon.com/secretsmanager/latest/userguide/whats-in-a-secret.html
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from contracts.records.identity import Secret, SecretVersion

CURRENT, PREVIOUS, PENDING = "AWSCURRENT", "AWSPREVIOUS", "AWSPENDING"
UNLABELLED_KEPT = 4
"""How many versions without a stage are kept: they may go at any time, as in AWS."""

DAY_S = 86_400.0
RECOVERY_DAYS = (7, 30)

NAME = re.compile(r"[\w/+=.@-]{1,512}\Z", re.ASCII)
SUFFIX_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_SUFFIX = re.compile(r"(.+)-[A-Za-z0-9]{6}\Z")
_replace = msgspec.structs.replace


def secret_name(resource: str, reference: str) -> str:
    """The name in a reference: an ARN's, without the suffix of six characters; else the reference itself."""
    found = _SUFFIX.match(resource)
    return found[1] if reference.startswith("arn:") and found is not None else resource


def with_version(secret: Secret, version: SecretVersion, now: float) -> Secret:
    """The secret with one more version. Each stage is on one version alone; when AWSCURRENT moves, AWSPREVIOUS goes to
    where it was."""
    stages = set(version.stages)
    before = next((v for v in secret.versions if CURRENT in v.stages), None)
    kept = []
    for old in secret.versions:
        left = [stage for stage in old.stages if stage not in stages]
        if CURRENT in stages and PREVIOUS not in stages:
            left = [stage for stage in left if stage != PREVIOUS]
            if old is before:
                left.append(PREVIOUS)
        kept.append(_replace(old, stages=left))
    return _replace(secret, versions=_pruned([*kept, version]), changed_at=now)


def _pruned(versions: Sequence[SecretVersion]) -> list[SecretVersion]:
    unlabelled = [v.version_id for v in versions if not v.stages]
    gone = set(unlabelled[:-UNLABELLED_KEPT])
    return [v for v in versions if v.version_id not in gone]


def pick(secret: Secret, version_id: str | None, stage: str | None) -> SecretVersion | None:
    """The version with this id and stage; AWSCURRENT when neither is named; None when there is none."""
    if not version_id and not stage:
        stage = CURRENT
    for version in secret.versions:
        if (not version_id or version.version_id == version_id) and (not stage or stage in version.stages):
            return version
    return None
