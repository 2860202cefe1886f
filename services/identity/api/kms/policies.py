"""KMS: key policies, of which each key has one: `default`."""

from __future__ import annotations

from msgspec.structs import replace

from contracts.aws import kms
from contracts.records.kms import KmsKey
from services.identity.api.kms.base import checked_policy
from services.identity.api.kms.keys import KeyOperations
from services.identity.decisions.kms_keys import require_kept
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError

NAME = "default"
LIMIT = 32_768


class PolicyOperations(KeyOperations):
    """GetKeyPolicy, PutKeyPolicy, ListKeyPolicies."""

    async def get_key_policy(
        self, context: RequestContext, request: kms.GetKeyPolicyRequest
    ) -> kms.GetKeyPolicyResponse:
        """The text."""
        _check_name(request.policy_name)
        return kms.GetKeyPolicyResponse(policy=self._own(context, request.key_id).policy, policy_name=NAME)

    async def put_key_policy(self, context: RequestContext, request: kms.PutKeyPolicyRequest) -> None:
        """Another text, in force at once. One that would lock its setter out is refused."""
        _check_name(request.policy_name)
        key = self._own(context, request.key_id)
        text = checked_policy(request.policy)
        if len(text.encode()) > LIMIT:
            raise AwsError("LimitExceededException", f"A key policy can't have more than {LIMIT} bytes")
        if not request.bypass_policy_lockout_safety_check:
            self._require_way_back(context, key, text)

        def changed(old: KmsKey) -> KmsKey:
            require_kept(old)
            return replace(old, policy=text)

        await self._keys.change(key, changed, "kms_key.changed.v1")

    async def list_key_policies(
        self, context: RequestContext, request: kms.ListKeyPoliciesRequest
    ) -> kms.ListKeyPoliciesResponse:
        """Their names: there is one."""
        self._own(context, request.key_id)
        return kms.ListKeyPoliciesResponse(policy_names=[NAME], truncated=False)


def _check_name(name: str | None) -> None:
    if name not in (None, NAME):
        raise AwsError("NotFoundException", f"No such policy exists: a key has the policy {NAME} alone")
