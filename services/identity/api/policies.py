"""Managed policies of the account, and AWS' own."""

from __future__ import annotations

from contracts.aws import iam
from contracts.records.identity import POLICY, Policy
from services.identity.api.base import MANAGED_LIMIT, PAGE, IamOperations, as_tags, checked, encoded
from services.identity.decisions import new_id
from services.identity.decisions.pages import page
from services.shared.aws.context import RequestContext
from services.shared.bus import Conflict
from services.shared.errors import AwsError
from services.shared.policies.managed import AWS_MANAGED

ONLY_VERSION = "v1"


class ManagedPolicies(IamOperations):
    """CreatePolicy to DeletePolicy. A policy has one version: a new one is a new policy."""

    async def create_policy(
        self, context: RequestContext, request: iam.CreatePolicyRequest
    ) -> iam.CreatePolicyResponse:
        """A policy that roles can share."""
        name, path = request.policy_name, request.path or "/"
        taken = any(p.policy_name.lower() == name.lower() for p in self._policies.records(context.account))
        exists = AwsError(
            "EntityAlreadyExists", f"A policy called {name} already exists. Duplicate names are not allowed."
        )
        if taken:
            raise exists
        policy = Policy(
            account=context.account,
            policy_name=name,
            policy_id=new_id("ANPA", self._choose),
            path=path,
            arn=f"arn:aws:iam::{context.account}:policy{path}{name}",
            document=checked(request.policy_document, MANAGED_LIMIT),
            created_at=self._clock(),
            description=request.description or "",
            tags={tag.key: tag.value for tag in request.tags or []},
        )
        try:
            await self._store.put(POLICY, policy, "policy.created.v1", expect=0)
        except Conflict:
            raise exists from None
        return iam.CreatePolicyResponse(policy=self._shown(policy))

    async def get_policy(self, context: RequestContext, request: iam.GetPolicyRequest) -> iam.GetPolicyResponse:
        """A policy, without its document."""
        return iam.GetPolicyResponse(policy=self._shown(self._policy(context, request.policy_arn)))

    async def get_policy_version(
        self, context: RequestContext, request: iam.GetPolicyVersionRequest
    ) -> iam.GetPolicyVersionResponse:
        """Its document."""
        policy = self._policy(context, request.policy_arn)
        if request.version_id != ONLY_VERSION:
            raise AwsError(
                "NoSuchEntity", f"Policy {policy.arn} version {request.version_id} does not exist or is not attachable."
            )
        version = iam.PolicyVersion(
            document=encoded(policy.document),
            version_id=ONLY_VERSION,
            is_default_version=True,
            create_date=policy.created_at,
        )
        return iam.GetPolicyVersionResponse(policy_version=version)

    async def list_policies(
        self, context: RequestContext, request: iam.ListPoliciesRequest
    ) -> iam.ListPoliciesResponse:
        """The account's (`Local`), AWS' own (`AWS`), or all."""
        found: list[Policy] = []
        if request.scope != "AWS":
            found += self._policies.records(context.account)
        if request.scope != "Local":
            found += [self._policy(context, arn) for arn in AWS_MANAGED]
        prefix = request.path_prefix or "/"
        found = [p for p in found if p.path.startswith(prefix) and (self._attachments(p) or not request.only_attached)]
        taken, marker = page(found, lambda p: p.policy_name, request.marker, request.max_items or PAGE)
        return iam.ListPoliciesResponse(
            policies=[self._shown(p) for p in taken], is_truncated=marker is not None, marker=marker
        )

    async def delete_policy(self, context: RequestContext, request: iam.DeletePolicyRequest) -> None:
        """Only one that no role has."""
        policy = self._policy(context, request.policy_arn)
        if policy.account == "aws":
            raise AwsError("AccessDenied", "AWS managed policies can not be deleted", 403)
        if self._attachments(policy):
            raise AwsError("DeleteConflict", "Cannot delete a policy attached to entities.")
        await self._store.delete(POLICY, (policy.account, policy.policy_name), "policy.deleted.v1")

    def _attachments(self, policy: Policy) -> int:
        return sum(policy.arn in role.attached for role in self._roles.records())

    def _shown(self, policy: Policy) -> iam.Policy:
        return iam.Policy(
            policy_name=policy.policy_name,
            policy_id=policy.policy_id,
            arn=policy.arn,
            path=policy.path,
            default_version_id=ONLY_VERSION,
            attachment_count=self._attachments(policy),
            permissions_boundary_usage_count=0,
            is_attachable=True,
            description=policy.description or None,
            create_date=policy.created_at,
            update_date=policy.created_at,
            tags=as_tags(policy.tags) or None,
        )
