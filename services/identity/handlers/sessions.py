"""Sessions: who may have one of which role."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from contracts.records.identity import ACCESS_KEY, ROLE, AccessKey, Role
from contracts.rpc.identity import APP_RUNNER_TASKS, ECS_TASKS, IssueSession, Session
from services.identity.decisions import Choose, parse_role_arn, session_key
from services.shared.authorization import Authorization, denied, request_keys, trusts_service
from services.shared.aws.context import RequestContext
from services.shared.clock import Clock
from services.shared.errors import AccessDenied
from services.shared.policies import ALLOW, EXPLICIT_DENY, TRUST, Principal, Question, parse, trusts
from services.shared.policies.demands import Demand
from services.shared.state import Store

log = structlog.get_logger()

ASSUME, TAG = "sts:AssumeRole", "sts:TagSession"
_CALLED = {ECS_TASKS: "ECS", APP_RUNNER_TASKS: "App Runner"}
"""The services whose tasks may have a role, as refusals call them."""


class Sessions:
    """Gives out sessions, as trust policies allow."""

    def __init__(self, store: Store, authorization: Authorization, clock: Clock, choose: Choose) -> None:
        self._store = store
        self._authorization = authorization
        self._clock = clock
        self._choose = choose

    def role_of_task(self, role_arn: str, service: str) -> Role:
        """A role that tasks of this service principal may have. Raises AccessDenied when there is none such, it does
        not trust them, or the principal is none that has tasks."""
        called = _CALLED.get(service)
        if called is None:
            raise AccessDenied(f"'{service}' has no tasks that a role could be given to.")
        account, name = parse_role_arn(role_arn)
        role = self._store.table(ROLE).record(account, name)
        if role is None or role.arn != role_arn:
            raise AccessDenied(f"{called} was unable to assume the role '{role_arn}': the role does not exist.")
        if not trusts_service(role, service):
            raise AccessDenied(
                f"{called} was unable to assume the role '{role_arn}' that was provided for this task. Please verify "
                f"that the role being passed has the proper trust relationship: it does not let {service} assume it."
            )
        return role

    async def for_task(self, request: IssueSession) -> Session:
        """Temporary credentials of a task's role; in force at every door within milliseconds of the reply."""
        role = self.role_of_task(request.role_arn, request.service)
        key = await self._issue(
            session_key(role, request.session_name, request.duration_s, self._clock(), self._choose)
        )
        return Session(
            access_key_id=key.access_key_id,
            secret=key.secret,
            session_token=key.session_token or "",
            expires_at=key.expires_at or 0.0,
            role_arn=request.role_arn,
        )

    def assumable(self, context: RequestContext, role_arn: str, keys: dict[str, tuple[str, ...]]) -> Role:
        """The role, if the caller may assume it: its trust policy says so, and unless that names the caller itself,
        the caller's own policies too. What is not there is refused in the same words. Raises AccessDenied."""
        account, name = parse_role_arn(role_arn)
        demand = Demand(ASSUME, role_arn, {})
        keys = {**request_keys(context), **keys}
        role = self._store.table(ROLE).record(account, name)
        if role is None or role.arn != role_arn:
            raise _may_not(context, demand)
        arns = [context.principal_arn]
        verdict = ALLOW
        if context.session:
            own = self._store.table(ACCESS_KEY).record(context.access_key_id)
            own_role = self._store.table(ROLE).record(context.account, own.role) if own is not None else None
            arns += [own_role.arn] if own_role is not None else []
            verdict, by = self._authorization.verdict(context.access_key_id, demand, keys)
            if verdict == EXPLICIT_DENY or (by == "session" and verdict != ALLOW):
                raise denied(context.principal_arn, demand, verdict, by)
        keys = {**keys, "aws:principalarn": (arns[-1],), "aws:principalaccount": (context.account,)}
        principal, trust = Principal(context.account, tuple(arns)), parse(role.trust, TRUST)
        said, itself = trusts(trust, principal, Question(ASSUME, role_arn, keys))
        if said != ALLOW or not (itself or verdict == ALLOW):
            raise _may_not(context, demand)
        if "aws:tagkeys" in keys and trusts(trust, principal, Question(TAG, role_arn, keys))[0] != ALLOW:
            raise _may_not(context, Demand(TAG, role_arn))
        return role

    async def assume(
        self,
        role: Role,
        name: str,
        duration_s: int,
        *,
        policy: str = "",
        policy_arns: Iterable[str] = (),
        tags: dict[str, str] | None = None,
    ) -> AccessKey:
        """A session of a role, in force within milliseconds."""
        key = session_key(
            role, name, duration_s, self._clock(), self._choose, policy=policy, policy_arns=policy_arns, tags=tags
        )
        return await self._issue(key)

    async def _issue(self, key: AccessKey) -> AccessKey:
        await self._store.put(ACCESS_KEY, key, "session.issued.v1", expect=0)
        log.info("session.issued", principal=key.principal_arn, expires_at=key.expires_at)
        return key


def _may_not(context: RequestContext, demand: Demand) -> AccessDenied:
    return AccessDenied(
        f"User: {context.principal_arn} is not authorized to perform: {demand.action} on resource: {demand.resource}"
    )
