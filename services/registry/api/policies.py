"""ECR: repository and registry policies. How they are evaluated is in handlers/policies.py."""

from __future__ import annotations

from contracts.aws import ecr
from services.registry.api.base import EcrOperations
from services.registry.decisions.access import read_registry_policy, read_repository_policy
from services.registry.handlers import errors
from services.registry.handlers.policies import Asker
from services.shared.authorization import request_keys
from services.shared.aws.context import RequestContext
from services.shared.policies import MalformedPolicy


class PolicyOperations(EcrOperations):
    """SetRepositoryPolicy and what goes with it."""

    async def set_repository_policy(
        self, context: RequestContext, request: ecr.SetRepositoryPolicyRequest
    ) -> ecr.SetRepositoryPolicyResponse:
        """Set a repository's policy; one that would shut its setter out only with `force`."""
        repository = self._id(context, request.registry_id, request.repository_name)
        text = request.policy_text
        try:
            read_repository_policy(text)
        except MalformedPolicy as error:
            raise errors.invalid_parameter("PolicyText", f"Invalid repository policy provided: {error}") from None
        asker = Asker(context.account, context.principal_arn, context.access_key_id if context.session else "")
        if not request.force and self._policies.denies_itself(asker, repository, text, lambda: request_keys(context)):
            raise errors.invalid_parameter(
                "PolicyText", "The policy would keep you from setting another one: use force to set it all the same"
            )
        await self._policies.set_repository_policy(repository, text)
        return ecr.SetRepositoryPolicyResponse(
            registry_id=repository.account, repository_name=repository.name, policy_text=text
        )

    async def get_repository_policy(
        self, context: RequestContext, request: ecr.GetRepositoryPolicyRequest
    ) -> ecr.GetRepositoryPolicyResponse:
        """The policy as it was set."""
        repository = self._id(context, request.registry_id, request.repository_name)
        text = self._repositories.get(repository).policy
        if not text:
            raise errors.repository_policy_not_found(repository)
        return ecr.GetRepositoryPolicyResponse(
            registry_id=repository.account, repository_name=repository.name, policy_text=text
        )

    async def delete_repository_policy(
        self, context: RequestContext, request: ecr.DeleteRepositoryPolicyRequest
    ) -> ecr.DeleteRepositoryPolicyResponse:
        """Take the policy away."""
        repository = self._id(context, request.registry_id, request.repository_name)
        text = self._repositories.get(repository).policy
        if not text:
            raise errors.repository_policy_not_found(repository)
        await self._policies.set_repository_policy(repository, "")
        return ecr.DeleteRepositoryPolicyResponse(
            registry_id=repository.account, repository_name=repository.name, policy_text=text
        )

    async def put_registry_policy(
        self, context: RequestContext, request: ecr.PutRegistryPolicyRequest
    ) -> ecr.PutRegistryPolicyResponse:
        """Set the policy of the account's registry."""
        try:
            read_registry_policy(request.policy_text)
        except MalformedPolicy as error:
            raise errors.invalid_parameter("PolicyText", f"Invalid registry policy provided: {error}") from None
        await self._settings.set_policy(context.account, context.region, request.policy_text)
        return ecr.PutRegistryPolicyResponse(registry_id=context.account, policy_text=request.policy_text)

    async def get_registry_policy(
        self, context: RequestContext, request: ecr.GetRegistryPolicyRequest
    ) -> ecr.GetRegistryPolicyResponse:
        """The policy as it was set."""
        return ecr.GetRegistryPolicyResponse(registry_id=context.account, policy_text=self._registry_policy(context))

    async def delete_registry_policy(
        self, context: RequestContext, request: ecr.DeleteRegistryPolicyRequest
    ) -> ecr.DeleteRegistryPolicyResponse:
        """Take the policy away."""
        text = self._registry_policy(context)
        await self._settings.set_policy(context.account, context.region, "")
        return ecr.DeleteRegistryPolicyResponse(registry_id=context.account, policy_text=text)

    def _registry_policy(self, context: RequestContext) -> str:
        text = self._settings.get(context.account, context.region).policy
        if not text:
            raise errors.registry_policy_not_found(context.account)
        return text
