"""What the policies of a caller and those of a resource come to, together.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html: an explicit deny goes before
all; within an account either side may allow, between accounts both must.
"""

from __future__ import annotations

from collections.abc import Iterable

from services.shared.policies.decide import ALLOW, EXPLICIT_DENY, IMPLICIT_DENY, Principal, Question, trusts
from services.shared.policies.documents import Document

RESOURCE_BASED = "resource-based"


def said(documents: Iterable[Document], principal: Principal, question: Question) -> tuple[str, bool]:
    """What resource-based policies say, and whether one that allows names the principal itself."""
    verdict, itself = IMPLICIT_DENY, False
    for document in documents:
        one, names_itself = trusts(document, principal, question)
        if one == EXPLICIT_DENY:
            return EXPLICIT_DENY, False
        if one == ALLOW:
            verdict, itself = ALLOW, itself or names_itself
    return verdict, itself


def combined(own_account: bool, identity: tuple[str, str], resource: tuple[str, bool]) -> tuple[str, str]:
    """(the verdict, the sort of policy that it is due to). `identity` is what the caller's own policies say, and which
    of them; `resource` what `said` gives."""
    verdict, by = identity
    allowed, itself = resource
    if verdict == EXPLICIT_DENY:
        return identity
    if allowed == EXPLICIT_DENY:
        return EXPLICIT_DENY, RESOURCE_BASED
    if not own_account:
        return identity if allowed == ALLOW else (IMPLICIT_DENY, RESOURCE_BASED)
    if verdict != ALLOW and allowed == ALLOW and itself and by != "session":
        return ALLOW, RESOURCE_BASED
    return identity
