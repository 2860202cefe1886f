"""The evaluation itself: an explicit deny beats every allow, and what nothing allows is denied."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from services.shared.policies.conditions import holds
from services.shared.policies.documents import Document, Statement
from services.shared.policies.patterns import Context, arn_like, like

ALLOW, EXPLICIT_DENY, IMPLICIT_DENY = "allow", "explicit deny", "implicit deny"


class Question(msgspec.Struct, frozen=True):
    """May this be done? `action` as `ecs:RunTask`, `resource` an ARN or `*`, `context` the condition keys."""

    action: str
    resource: str
    context: Context


class Principal(msgspec.Struct, frozen=True):
    """Who asks, as trust policies name it. `arns` are all the names of an AWS principal: a session's own ARN and its
    role's. `service` is that of a service (`ecs-tasks.amazonaws.com`)."""

    account: str = ""
    arns: tuple[str, ...] = ()
    service: str = ""


def decide(documents: Iterable[Document], question: Question) -> str:
    """ALLOW, EXPLICIT_DENY or IMPLICIT_DENY, by all these policies together."""
    verdict = IMPLICIT_DENY
    for document in documents:
        for statement in document.statements:
            if verdict == ALLOW and statement.allow:
                continue
            if applies(statement, question, document.variables):
                if not statement.allow:
                    return EXPLICIT_DENY
                verdict = ALLOW
    return verdict


def applies(statement: Statement, question: Question, variables: bool) -> bool:
    """Whether a statement is about this question (whoever asks)."""
    action = any(like([(a, True)], question.action, ignore_case=True) for a in statement.actions)
    if action == statement.not_actions:
        return False
    if statement.resources:
        context = question.context
        named = any(arn_like(r, question.resource, context, variables=variables) for r in statement.resources)
        if named == statement.not_resources:
            return False
    return all(holds(condition, question.context, variables=variables) for condition in statement.conditions)


def trusts(document: Document, principal: Principal, question: Question) -> tuple[str, bool]:
    """What a trust policy says, and whether an allow names the principal itself rather than its whole account: then
    the principal's own policies need not allow it too."""
    verdict, itself = IMPLICIT_DENY, False
    for statement in document.statements:
        how = _named(statement, principal)
        if not how or not applies(statement, question, document.variables):
            continue
        if not statement.allow:
            return EXPLICIT_DENY, False
        verdict, itself = ALLOW, itself or how == "itself"
    return verdict, itself


def _named(statement: Statement, principal: Principal) -> str:
    """`itself`, `account`, or empty when the statement is not about this principal."""
    ways = {_names(kind, value, principal) for kind, value in statement.principals}
    if statement.not_principals:
        return "" if ways - {""} else "account"
    return "itself" if "itself" in ways else "account" if "account" in ways else ""


def _names(kind: str, value: str, principal: Principal) -> str:
    if kind == "Service":
        return "itself" if principal.service and value == principal.service else ""
    if kind != "AWS" or not principal.arns:
        return ""
    if value in principal.arns:
        return "itself"
    if value == "*":
        return "account"
    root = f"arn:aws:iam::{principal.account}:root"
    return "account" if value in (principal.account, root) else ""
