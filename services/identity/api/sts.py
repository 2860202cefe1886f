"""The STS operations that identity answers."""

from __future__ import annotations

from contracts.aws import sts
from contracts.records.identity import POLICY
from services.identity.decisions import MIN_SESSION_S
from services.identity.handlers import Sessions
from services.shared.aws.context import RequestContext
from services.shared.aws.service import AwsService
from services.shared.errors import AwsError
from services.shared.policies import MalformedPolicy, parse
from services.shared.policies.managed import AWS_MANAGED
from services.shared.state import Store, Table

CHAINED_S = 3600
"""How long the session of a role assumed from another role's session may be."""


class SecurityTokens(AwsService):
    """STS: who one is, and sessions of roles."""

    api = sts.API

    def __init__(self, store: Store, keys: Table, sessions: Sessions) -> None:
        self._keys = keys
        self._policies = store.table(POLICY)
        self._sessions = sessions

    async def get_caller_identity(
        self, context: RequestContext, request: sts.GetCallerIdentityRequest
    ) -> sts.GetCallerIdentityResponse:
        """Who signed this request. It needs no permission."""
        return sts.GetCallerIdentityResponse(
            user_id=context.user_id, account=context.account, arn=context.principal_arn
        )

    async def get_access_key_info(
        self, context: RequestContext, request: sts.GetAccessKeyInfoRequest
    ) -> sts.GetAccessKeyInfoResponse:
        """The account that a key belongs to."""
        entry = self._keys.get(request.access_key_id)
        if entry is None or entry.record.account != context.account:
            raise AwsError("ValidationError", f"The access key {request.access_key_id} is not known")
        return sts.GetAccessKeyInfoResponse(account=entry.record.account)

    async def assume_role(self, context: RequestContext, request: sts.AssumeRoleRequest) -> sts.AssumeRoleResponse:
        """A session of a role whose trust policy lets the caller assume it; bounded by session policies, if given."""
        _refuse_unsupported(request)
        tags = {tag.key: tag.value for tag in request.tags or []}
        arns = [p.arn for p in request.policy_arns or [] if p.arn]
        self._check_bounds(request.policy or "", arns)
        keys = {f"aws:requesttag/{key.lower()}": (value,) for key, value in tags.items()}
        if tags:
            keys["aws:tagkeys"] = tuple(tags)
        if request.external_id is not None:
            keys["sts:externalid"] = (request.external_id,)
        keys["sts:rolesessionname"] = (request.role_session_name,)
        role = self._sessions.assumable(context, request.role_arn, keys)
        longest = min(role.max_session_s, CHAINED_S) if context.session else role.max_session_s
        duration = request.duration_seconds or 3600
        if duration > longest or duration < MIN_SESSION_S:
            raise AwsError(
                "ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
            )
        key = await self._sessions.assume(
            role, request.role_session_name, duration, policy=request.policy or "", policy_arns=arns, tags=tags
        )
        return sts.AssumeRoleResponse(
            credentials=sts.Credentials(
                access_key_id=key.access_key_id,
                secret_access_key=key.secret,
                session_token=key.session_token or "",
                expiration=key.expires_at or 0.0,
            ),
            assumed_role_user=sts.AssumedRoleUser(assumed_role_id=key.user_id, arn=key.principal_arn),
        )

    def _check_bounds(self, policy: str, arns: list[str]) -> None:
        """Session policies must be policies, and be there."""
        if policy:
            try:
                parse(policy)
            except MalformedPolicy as malformed:
                raise AwsError("MalformedPolicyDocument", str(malformed)) from None
        for arn in arns:
            known = arn in AWS_MANAGED or any(record.arn == arn for record in self._policies.records())
            if not known:
                raise AwsError("ValidationError", f"Policy {arn} does not exist or is not attachable.")


def _refuse_unsupported(request: sts.AssumeRoleRequest) -> None:
    """What would change the session's rights and is not evaluated here must not be taken silently."""
    for member in ("serial_number", "token_code", "source_identity", "provided_contexts", "transitive_tag_keys"):
        if getattr(request, member):
            raise AwsError("ValidationError", f"AssumeRole with {member} is not supported by Roadstead yet")
