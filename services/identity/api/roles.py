"""IAM roles, the policies inside them, and those attached to them."""

from __future__ import annotations

import msgspec

from contracts.aws import iam
from contracts.records.identity import ROLE, Role
from services.identity.api.base import (
    INLINE_LIMIT,
    PAGE,
    TRUST_LIMIT,
    IamOperations,
    as_tags,
    checked,
    encoded,
    with_tags,
)
from services.identity.decisions import new_id
from services.identity.decisions.pages import page
from services.shared.aws.context import RequestContext
from services.shared.bus import Conflict
from services.shared.errors import AwsError
from services.shared.policies import TRUST

ATTACHED_LIMIT = 10
_replace = msgspec.structs.replace


class Roles(IamOperations):
    """CreateRole to DetachRolePolicy. A role is one record: each change is one write."""

    async def create_role(self, context: RequestContext, request: iam.CreateRoleRequest) -> iam.CreateRoleResponse:
        """A role that may do nothing yet."""
        if request.permissions_boundary:
            raise AwsError("InvalidInput", "Permissions boundaries are not evaluated by Roadstead, so none can be set")
        name, path = request.role_name, request.path or "/"
        taken = any(r.role_name.lower() == name.lower() for r in self._roles.records(context.account))
        exists = AwsError("EntityAlreadyExists", f"Role with name {name} already exists.")
        if taken:
            raise exists
        role = Role(
            account=context.account,
            role_name=name,
            role_id=new_id("AROA", self._choose),
            path=path,
            arn=f"arn:aws:iam::{context.account}:role{path}{name}",
            trust=checked(request.assume_role_policy_document, TRUST_LIMIT, TRUST),
            created_at=self._clock(),
            description=request.description or "",
            max_session_s=request.max_session_duration or 3600,
            tags={tag.key: tag.value for tag in request.tags or []},
        )
        try:
            await self._store.put(ROLE, role, "role.created.v1", expect=0)
        except Conflict:
            raise exists from None
        return iam.CreateRoleResponse(role=shown(role))

    async def get_role(self, context: RequestContext, request: iam.GetRoleRequest) -> iam.GetRoleResponse:
        """One role."""
        return iam.GetRoleResponse(role=shown(self._role(context, request.role_name)))

    async def list_roles(self, context: RequestContext, request: iam.ListRolesRequest) -> iam.ListRolesResponse:
        """All under a path, by name, without their tags."""
        under = [r for r in self._roles.records(context.account) if r.path.startswith(request.path_prefix or "/")]
        roles, marker = page(under, lambda r: r.role_name, request.marker, request.max_items or PAGE)
        told = [shown(_replace(role, tags={})) for role in roles]
        return iam.ListRolesResponse(roles=told, is_truncated=marker is not None, marker=marker)

    async def update_role(self, context: RequestContext, request: iam.UpdateRoleRequest) -> iam.UpdateRoleResponse:
        """Its description, and how long its sessions may be."""

        def change(role: Role) -> Role:
            description = role.description if request.description is None else request.description
            return _replace(
                role, description=description, max_session_s=request.max_session_duration or role.max_session_s
            )

        await self._change_role(context, request.role_name, change)
        return iam.UpdateRoleResponse()

    async def update_assume_role_policy(
        self, context: RequestContext, request: iam.UpdateAssumeRolePolicyRequest
    ) -> None:
        """Who may assume it from now on; sessions that exist go on."""
        trust = checked(request.policy_document, TRUST_LIMIT, TRUST)
        await self._change_role(context, request.role_name, lambda role: _replace(role, trust=trust))

    async def delete_role(self, context: RequestContext, request: iam.DeleteRoleRequest) -> None:
        """Only without policies. Its sessions may do nothing any more."""
        role = self._role(context, request.role_name)
        if role.attached:
            raise AwsError("DeleteConflict", "Cannot delete entity, must detach all policies first.")
        if role.inline:
            raise AwsError("DeleteConflict", "Cannot delete entity, must delete policies first.")
        entry = self._roles.get(context.account, role.role_name)
        try:
            await self._store.delete(
                ROLE, (context.account, role.role_name), "role.deleted.v1", expect=entry.sequence if entry else None
            )
        except Conflict:
            raise AwsError("ConcurrentModification", "The role was changed meanwhile; try again") from None

    async def tag_role(self, context: RequestContext, request: iam.TagRoleRequest) -> None:
        """Add tags, or give them other values."""
        given = {tag.key: tag.value for tag in request.tags}
        await self._change_role(context, request.role_name, lambda r: _replace(r, tags=with_tags(r.tags, given)))

    async def untag_role(self, context: RequestContext, request: iam.UntagRoleRequest) -> None:
        """Take tags away."""
        gone = set(request.tag_keys)
        await self._change_role(
            context, request.role_name, lambda r: _replace(r, tags={k: v for k, v in r.tags.items() if k not in gone})
        )

    async def list_role_tags(
        self, context: RequestContext, request: iam.ListRoleTagsRequest
    ) -> iam.ListRoleTagsResponse:
        """Its tags; never more than one page."""
        return iam.ListRoleTagsResponse(tags=as_tags(self._role(context, request.role_name).tags), is_truncated=False)

    async def list_instance_profiles_for_role(
        self, context: RequestContext, request: iam.ListInstanceProfilesForRoleRequest
    ) -> iam.ListInstanceProfilesForRoleResponse:
        """None: there are no instance profiles here. Tools ask before they delete a role."""
        self._role(context, request.role_name)
        return iam.ListInstanceProfilesForRoleResponse(instance_profiles=[], is_truncated=False)

    # -- policies inside a role

    async def put_role_policy(self, context: RequestContext, request: iam.PutRolePolicyRequest) -> None:
        """Put a policy into the role, in place of one of that name."""
        document = checked(request.policy_document, INLINE_LIMIT)

        def change(role: Role) -> Role:
            inline = {**role.inline, request.policy_name: document}
            if sum(len("".join(text.split())) for text in inline.values()) > INLINE_LIMIT:
                limit = f"Maximum policy size of {INLINE_LIMIT} bytes exceeded for role {role.role_name}"
                raise AwsError("LimitExceeded", limit)
            return _replace(role, inline=inline)

        await self._change_role(context, request.role_name, change)

    async def get_role_policy(
        self, context: RequestContext, request: iam.GetRolePolicyRequest
    ) -> iam.GetRolePolicyResponse:
        """A policy inside the role."""
        role = self._role(context, request.role_name)
        if request.policy_name not in role.inline:
            raise _no_inline(request.policy_name)
        return iam.GetRolePolicyResponse(
            role_name=role.role_name,
            policy_name=request.policy_name,
            policy_document=encoded(role.inline[request.policy_name]),
        )

    async def list_role_policies(
        self, context: RequestContext, request: iam.ListRolePoliciesRequest
    ) -> iam.ListRolePoliciesResponse:
        """Their names."""
        inline = self._role(context, request.role_name).inline
        names, marker = page(inline, str, request.marker, request.max_items or PAGE)
        return iam.ListRolePoliciesResponse(policy_names=names, is_truncated=marker is not None, marker=marker)

    async def delete_role_policy(self, context: RequestContext, request: iam.DeleteRolePolicyRequest) -> None:
        """Take a policy out of the role."""

        def change(role: Role) -> Role:
            if request.policy_name not in role.inline:
                raise _no_inline(request.policy_name)
            return _replace(role, inline={k: v for k, v in role.inline.items() if k != request.policy_name})

        await self._change_role(context, request.role_name, change)

    # -- policies attached to it

    async def attach_role_policy(self, context: RequestContext, request: iam.AttachRolePolicyRequest) -> None:
        """Attach a managed policy; again is no error."""
        arn = self._policy(context, request.policy_arn).arn

        def change(role: Role) -> Role:
            if arn in role.attached:
                return role
            if len(role.attached) >= ATTACHED_LIMIT:
                raise AwsError("LimitExceeded", f"Cannot exceed quota for PoliciesPerRole: {ATTACHED_LIMIT}")
            return _replace(role, attached=[*role.attached, arn])

        await self._change_role(context, request.role_name, change)

    async def detach_role_policy(self, context: RequestContext, request: iam.DetachRolePolicyRequest) -> None:
        """Detach it."""
        arn = request.policy_arn

        def change(role: Role) -> Role:
            if arn not in role.attached:
                raise AwsError("NoSuchEntity", f"Policy {arn} was not found.")
            return _replace(role, attached=[one for one in role.attached if one != arn])

        await self._change_role(context, request.role_name, change)

    async def list_attached_role_policies(
        self, context: RequestContext, request: iam.ListAttachedRolePoliciesRequest
    ) -> iam.ListAttachedRolePoliciesResponse:
        """What is attached to it, by name."""
        prefix = request.path_prefix or "/"
        arns = self._role(context, request.role_name).attached
        under = [arn for arn in arns if arn.partition(":policy")[2].startswith(prefix)]
        taken, marker = page(under, lambda arn: arn.rsplit("/", 1)[-1], request.marker, request.max_items or PAGE)
        told = [iam.AttachedPolicy(policy_name=arn.rsplit("/", 1)[-1], policy_arn=arn) for arn in taken]
        return iam.ListAttachedRolePoliciesResponse(
            attached_policies=told, is_truncated=marker is not None, marker=marker
        )


def _no_inline(name: str) -> AwsError:
    return AwsError("NoSuchEntity", f"The role policy with name {name} cannot be found.")


def shown(role: Role) -> iam.Role:
    """A role as the API shows it."""
    return iam.Role(
        path=role.path,
        role_name=role.role_name,
        role_id=role.role_id,
        arn=role.arn,
        create_date=role.created_at,
        assume_role_policy_document=encoded(role.trust),
        description=role.description or None,
        max_session_duration=role.max_session_s,
        tags=as_tags(role.tags) or None,
    )
