"""Who may use a key: its key policy has the last word, and hands over to IAM where it names the account; grants add.

https://docs.aws.amazon.com/kms/latest/developerguide/policy-evaluation.html
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from contracts.records.kms import KmsGrant, KmsKey
from services.shared.policies import ALLOW, IMPLICIT_DENY
from services.shared.policies.resource_based import RESOURCE_BASED, combined

WITHOUT_KEY = frozenset(
    ("CreateKey", "ListKeys", "ListAliases", "GenerateRandom", "ListRetirableGrants", "RetireGrant")
)
"""Operations that no key policy judges. RetireGrant is for those whom the grant names."""

Keys = dict[str, tuple[str, ...]]


def judged(own_account: bool, identity: tuple[str, str], policy: tuple[str, bool], granted: bool) -> tuple[str, str]:
    """(the verdict, the sort of policy that it is due to). Unlike with other resources, what the key policy is silent
    about is denied whatever the caller's own policies say, unless a grant allows it."""
    verdict = combined(own_account, identity, policy)
    if policy[0] == IMPLICIT_DENY and verdict[0] == ALLOW:
        verdict = (IMPLICIT_DENY, RESOURCE_BASED)
    if granted and verdict[0] == IMPLICIT_DENY and (identity[0] == ALLOW or identity[1] != "session"):
        return ALLOW, "grant"
    return verdict


def granted(
    grants: Iterable[KmsGrant], action: str, principals: tuple[str, ...], context: dict[str, str] | None
) -> KmsGrant | None:
    """The grant among those of a key that lets one of these AWS principals do this; None for none."""
    return next((g for g in grants if g.grantee and g.grantee in principals and _covers(g, action, context)), None)


def granted_to_service(
    grants: Iterable[KmsGrant], action: str, service: str, context: dict[str, str]
) -> KmsGrant | None:
    """The same for a service."""
    return next((g for g in grants if g.grantee_service == service and _covers(g, action, context)), None)


def _covers(grant: KmsGrant, action: str, context: dict[str, str] | None) -> bool:
    if action not in grant.operations:
        return False
    if grant.context_equals is not None and grant.context_equals != (context or {}):
        return False
    subset = grant.context_subset or {}
    return subset.items() <= (context or {}).items()


def condition_keys(request: Any, account: str, context: dict[str, str] | None, alias: str) -> Keys:
    """The condition keys of KMS that a request has.
    https://docs.aws.amazon.com/kms/latest/developerguide/conditions-kms.html"""
    keys: Keys = {"kms:calleraccount": (account,)}
    for name, value in (context or {}).items():
        keys[f"kms:encryptioncontext:{name.lower()}"] = (value,)
    if context:
        keys["kms:encryptioncontextkeys"] = tuple(context)
    if alias:
        keys["kms:requestalias"] = (alias,)
    for member, key in (
        ("key_spec", "kms:keyspec"),
        ("key_usage", "kms:keyusage"),
        ("grantee_principal", "kms:granteeprincipal"),
        ("retiring_principal", "kms:retiringprincipal"),
        ("pending_window_in_days", "kms:scheduledeletionpendingwindowindays"),
        ("rotation_period_in_days", "kms:rotationperiodindays"),
    ):
        value = getattr(request, member, None)
        if value is not None:
            keys[key] = (str(value),)
    if operations := getattr(request, "operations", None):
        keys["kms:grantoperations"] = tuple(operations)
    return keys


def key_keys(key: KmsKey, aliases: tuple[str, ...]) -> Keys:
    """Those that a key has."""
    keys: Keys = {f"aws:resourcetag/{name.lower()}": (value,) for name, value in key.tags.items()}
    keys["kms:keyorigin"] = ("AWS_KMS",)
    keys["kms:keyspec"] = ("SYMMETRIC_DEFAULT",)
    keys["kms:keyusage"] = ("ENCRYPT_DECRYPT",)
    if aliases:
        keys["kms:resourcealiases"] = aliases
    return keys
