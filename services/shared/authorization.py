"""What a session may do, told at the door that it came to, out of memory: its role's policies and its own bounds.

The account's root may do everything. https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from typing import Any

from contracts.records.identity import ACCESS_KEY, POLICY, ROLE, AccessKey, Role
from services.shared.aws.context import RequestContext
from services.shared.errors import AccessDenied
from services.shared.policies import (
    ALLOW,
    EXPLICIT_DENY,
    IMPLICIT_DENY,
    TRUST,
    Document,
    Principal,
    Question,
    decide,
    parse,
    trusts,
)
from services.shared.policies.demands import Demand, Place, demands
from services.shared.policies.managed import AWS_MANAGED
from services.shared.views import View

ALWAYS = frozenset({("sts", "GetCallerIdentity")})
"""What needs no permission."""

JUDGED_BY_OWNER = frozenset({("sts", "AssumeRole")})
"""What depends on more than the caller's policies: its handler asks `verdict` itself."""

_ROLE = re.compile(r"arn:aws[a-z-]*:iam::(\d{12}):role/(?:[^/]+/)*([^/]+)\Z")
_MANAGED = re.compile(r"arn:aws[a-z-]*:iam::(\d{12}):policy/(?:.*/)?([^/]+)\Z")

Resolve = Callable[[RequestContext, Any, list[Demand]], list[Demand]]
"""How a service completes what a request leaves open: the ARN of a secret that was named without its suffix."""


class Authorization:
    """Judges sessions. Roles and policies are read from identity's records."""

    def __init__(self, view: View) -> None:
        self._keys = view.table(ACCESS_KEY)
        self._roles = view.table(ROLE)
        self._policies = view.table(POLICY)

    async def check(self, context: RequestContext, request: Any, resolve: Resolve | None = None) -> None:
        """A door's guard. Raises AccessDenied, naming who, what, on what and why."""
        what = (context.api, context.operation)
        if not context.session or what in ALWAYS or what in JUDGED_BY_OWNER:
            return
        wanted = demands(context.api, context.operation, request, Place(context.account, context.region))
        if resolve is not None:
            wanted = resolve(context, request, wanted)
        keys = request_keys(context)
        for demand in wanted:
            self.require(context.access_key_id, context.principal_arn, demand, keys)

    def require(
        self, access_key_id: str, principal: str, demand: Demand, keys: dict[str, tuple[str, ...]] | None = None
    ) -> None:
        """Raises AccessDenied unless the session may do it."""
        verdict, by = self.verdict(access_key_id, demand, keys or {})
        if verdict != ALLOW:
            raise denied(principal, demand, verdict, by)

    def verdict(self, access_key_id: str, demand: Demand, keys: dict[str, tuple[str, ...]]) -> tuple[str, str]:
        """What the session's policies say of this, and which sort of policy said so. A session whose role is gone, or
        was made anew since, may do nothing."""
        session = self._keys.record(access_key_id)
        role = self._roles.record(session.account, session.role) if session is not None and session.role else None
        if session is None or role is None or not session.user_id.startswith(f"{role.role_id}:"):
            return IMPLICIT_DENY, "identity-based"
        return self.of_role(role, session, demand, keys)

    def principal(
        self, account: str, arn: str, access_key_id: str = ""
    ) -> tuple[Principal, dict[str, tuple[str, ...]]]:
        """Who asks, as resource-based policies name them, and the condition keys that say so. `access_key_id` is that
        of a role's session, empty for the account itself."""
        session = self._keys.record(access_key_id) if access_key_id else None
        role = self._roles.record(session.account, session.role) if session is not None and session.role else None
        if role is not None:
            return Principal(account, (arn, role.arn)), role_keys(role, session)
        keys = {"aws:principalaccount": (account,), "aws:principalarn": (arn,), "aws:principaltype": ("Account",)}
        return Principal(account, (arn,)), keys

    def role(self, arn: str) -> Role | None:
        """The role with this ARN, if there is one."""
        found = _ROLE.match(arn)
        role = self._roles.record(found[1], found[2]) if found is not None else None
        return role if role is not None and role.arn == arn else None

    def of_role(
        self, role: Role, session: AccessKey | None, demand: Demand, keys: dict[str, tuple[str, ...]]
    ) -> tuple[str, str]:
        """The same for a role; with a session, its own policies bound it."""
        question = Question(demand.action, demand.resource, {**keys, **role_keys(role, session), **demand.context})
        bounds = self._session_documents(session) if session is not None else []
        verdict = decide(self.documents(role), question)
        if verdict == EXPLICIT_DENY or not bounds:
            return verdict, "identity-based"
        bounded = decide(bounds, question)
        if bounded != ALLOW:
            return bounded, "session"
        return verdict, "identity-based"

    def documents(self, role: Role) -> list[Document]:
        """A role's policies: its own, and those attached to it."""
        return [*map(parse, role.inline.values()), *self._attached(role.attached)]

    def _session_documents(self, session: AccessKey) -> list[Document]:
        own = [parse(session.session_policy)] if session.session_policy else []
        return [*own, *self._attached(session.session_policy_arns)]

    def _attached(self, arns: Iterable[str]) -> Iterable[Document]:
        for arn in arns:
            text = AWS_MANAGED.get(arn)
            found = _MANAGED.match(arn)
            if text is None and found is not None:
                record = self._policies.record(found[1], found[2])
                text = record.document if record is not None and record.arn == arn else None
            # A policy that is gone allows nothing; among a session's bounds it must still bound.
            yield parse(text) if text is not None else Document(())


def trusts_service(role: Role, service: str) -> bool:
    """Whether a role's trust policy lets a service of AWS' (its principal) assume it."""
    question = Question("sts:AssumeRole", role.arn, {"aws:sourceaccount": (role.account,)})
    return trusts(parse(role.trust, TRUST), Principal(service=service), question)[0] == ALLOW


def denied(principal: str, demand: Demand, verdict: str, by: str) -> AccessDenied:
    """The refusal in AWS' words."""
    on = f" on resource: {demand.resource}"
    why = (
        f"with an explicit deny in {'an' if by[0] in 'ai' else 'a'} {by} policy"
        if verdict == EXPLICIT_DENY
        else f"because no {by} policy allows the {demand.action} action"
    )
    return AccessDenied(f"User: {principal} is not authorized to perform: {demand.action}{on} {why}")


def role_keys(role: Role, session: AccessKey | None) -> dict[str, tuple[str, ...]]:
    """The condition keys that say who asks. A session's tags go before the role's."""
    tags = {**role.tags, **(session.session_tags if session is not None else {})}
    user = session.user_id if session is not None else f"{role.role_id}:"
    return {
        "aws:principalaccount": (role.account,),
        "aws:principalarn": (role.arn,),
        "aws:principaltype": ("AssumedRole",),
        "aws:userid": (user,),
        **{f"aws:principaltag/{key.lower()}": (value,) for key, value in tags.items()},
    }


def request_keys(context: RequestContext) -> dict[str, tuple[str, ...]]:
    """The condition keys that every request has."""
    return door_keys(context.region, context.source_ip, context.user_agent)


def door_keys(region: str, source_ip: str, user_agent: str) -> dict[str, tuple[str, ...]]:
    """The same for a request that is none of an AWS API."""
    now = time.time()
    return {
        "aws:currenttime": (time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),),
        "aws:epochtime": (str(int(now)),),
        "aws:requestedregion": (region,),
        "aws:securetransport": ("false",),
        "aws:sourceip": (source_ip,),
        "aws:useragent": (user_agent,),
    }
