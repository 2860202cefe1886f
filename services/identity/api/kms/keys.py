"""KMS: keys, made, described, switched off and on, deleted."""

from __future__ import annotations

from msgspec.structs import replace

from contracts.aws import kms
from contracts.records.kms import KmsKey
from services.identity.api.kms.base import BAD_MARKER, PAGE, KmsOperations, checked_policy, unsupported, with_tags
from services.identity.decisions.kms_keys import (
    DAY_S,
    DELETION_DAYS,
    ENABLED,
    PENDING_DELETION,
    managed_service,
    require_kept,
    state,
)
from services.identity.decisions.pages import page
from services.identity.handlers.kms_access import Use, caller_of
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError
from services.shared.policies import ALLOW

SYMMETRIC = "SYMMETRIC_DEFAULT"


class KeyOperations(KmsOperations):
    """CreateKey to CancelKeyDeletion, and tags."""

    async def create_key(self, context: RequestContext, request: kms.CreateKeyRequest) -> kms.CreateKeyResponse:
        """A symmetric key for encryption."""
        if (request.key_spec or request.customer_master_key_spec or SYMMETRIC) != SYMMETRIC:
            raise unsupported(f"Keys other than {SYMMETRIC} are")
        if (request.key_usage or "ENCRYPT_DECRYPT") != "ENCRYPT_DECRYPT":
            raise unsupported(f"The key usage {request.key_usage} is")
        if (request.origin or "AWS_KMS") != "AWS_KMS" or request.custom_key_store_id or request.xks_key_id:
            raise unsupported("Key material of another origin than AWS_KMS is")
        if request.multi_region:
            raise unsupported("Multi-Region keys are")
        blank = self._keys.blank(
            context.account, context.region, policy=checked_policy(request.policy) if request.policy else ""
        )
        if request.policy and not request.bypass_policy_lockout_safety_check:
            self._require_way_back(context, blank, request.policy)
        key = replace(blank, description=request.description or "", tags=with_tags({}, request.tags or []))
        return kms.CreateKeyResponse(key_metadata=described(await self._keys.create(key)))

    def _require_way_back(self, context: RequestContext, key: KmsKey, policy: str) -> None:
        """Raises unless the caller could put another policy in this one's place."""
        verdict, _ = self._access.verdict(caller_of(context), Use("kms:PutKeyPolicy", key), policy)
        if verdict != ALLOW:
            raise AwsError(
                "MalformedPolicyDocumentException",
                "The new key policy will not allow you to update the key policy in the future.",
            )

    async def describe_key(self, context: RequestContext, request: kms.DescribeKeyRequest) -> kms.DescribeKeyResponse:
        """A key. One that AWS manages is made when it is first asked for by its alias."""
        service = managed_service(request.key_id)
        if service:
            key = await self._keys.managed(context.account, context.region, service)
        else:
            key = self._key(context, request.key_id)
        return kms.DescribeKeyResponse(key_metadata=described(key))

    async def list_keys(self, context: RequestContext, request: kms.ListKeysRequest) -> kms.ListKeysResponse:
        """The account's keys in this region, by their ids."""
        found = self._keys.of(context.account, context.region)
        taken, marker = page(found, lambda key: key.key_id, request.marker, request.limit or PAGE, BAD_MARKER)
        return kms.ListKeysResponse(
            keys=[kms.KeyListEntry(key_id=key.key_id, key_arn=key.arn) for key in taken],
            next_marker=marker,
            truncated=marker is not None,
        )

    async def enable_key(self, context: RequestContext, request: kms.EnableKeyRequest) -> None:
        """It can be used again."""
        await self._switch(context, request.key_id, True)

    async def disable_key(self, context: RequestContext, request: kms.DisableKeyRequest) -> None:
        """It can't be used any more."""
        await self._switch(context, request.key_id, False)

    async def _switch(self, context: RequestContext, reference: str, enabled: bool) -> None:
        def switched(key: KmsKey) -> KmsKey:
            require_kept(key)
            return key if key.enabled == enabled else replace(key, enabled=enabled)

        event = "kms_key.enabled.v1" if enabled else "kms_key.disabled.v1"
        await self._keys.change(self._own(context, reference), switched, event)

    async def schedule_key_deletion(
        self, context: RequestContext, request: kms.ScheduleKeyDeletionRequest
    ) -> kms.ScheduleKeyDeletionResponse:
        """It can't be used any more, and is gone in 30 days (or 7 to 30): so is what was encrypted under it."""
        days = request.pending_window_in_days or DELETION_DAYS[1]
        if not DELETION_DAYS[0] <= days <= DELETION_DAYS[1]:
            raise AwsError(
                "ValidationException", f"PendingWindowInDays must be between {DELETION_DAYS[0]} and {DELETION_DAYS[1]}"
            )
        due = self._clock() + days * DAY_S

        def scheduled(key: KmsKey) -> KmsKey:
            require_kept(key)
            return replace(key, deletion_at=due, deletion_days=days)

        key = await self._keys.change(self._own(context, request.key_id), scheduled, "kms_key.deletion_scheduled.v1")
        return kms.ScheduleKeyDeletionResponse(
            key_id=key.arn, deletion_date=due, key_state=PENDING_DELETION, pending_window_in_days=days
        )

    async def cancel_key_deletion(
        self, context: RequestContext, request: kms.CancelKeyDeletionRequest
    ) -> kms.CancelKeyDeletionResponse:
        """It stays, disabled."""

        def kept(key: KmsKey) -> KmsKey:
            if key.deletion_at is None:
                raise AwsError("KMSInvalidStateException", f"{key.arn} is not pending deletion.")
            return replace(key, deletion_at=None, deletion_days=0, enabled=False)

        key = await self._keys.change(self._own(context, request.key_id), kept, "kms_key.deletion_cancelled.v1")
        return kms.CancelKeyDeletionResponse(key_id=key.arn)

    async def update_key_description(self, context: RequestContext, request: kms.UpdateKeyDescriptionRequest) -> None:
        """What it says of itself."""

        def changed(key: KmsKey) -> KmsKey:
            require_kept(key)
            return replace(key, description=request.description)

        await self._keys.change(self._own(context, request.key_id), changed, "kms_key.changed.v1")

    async def tag_resource(self, context: RequestContext, request: kms.TagResourceRequest) -> None:
        """Add tags, or give them other values."""

        def changed(key: KmsKey) -> KmsKey:
            require_kept(key)
            return replace(key, tags=with_tags(key.tags, request.tags))

        await self._keys.change(self._own(context, request.key_id), changed, "kms_key.changed.v1")

    async def untag_resource(self, context: RequestContext, request: kms.UntagResourceRequest) -> None:
        """Take tags away."""

        def changed(key: KmsKey) -> KmsKey:
            require_kept(key)
            return replace(key, tags={k: v for k, v in key.tags.items() if k not in set(request.tag_keys)})

        await self._keys.change(self._own(context, request.key_id), changed, "kms_key.changed.v1")

    async def list_resource_tags(
        self, context: RequestContext, request: kms.ListResourceTagsRequest
    ) -> kms.ListResourceTagsResponse:
        """A key's tags."""
        tags = self._own(context, request.key_id).tags
        taken, marker = page(tags, str, request.marker, request.limit or PAGE, BAD_MARKER)
        return kms.ListResourceTagsResponse(
            tags=[kms.Tag(tag_key=name, tag_value=tags[name]) for name in taken],
            next_marker=marker,
            truncated=marker is not None,
        )


def described(key: KmsKey) -> kms.KeyMetadata:
    """A key as the API has it."""
    return kms.KeyMetadata(
        aws_account_id=key.account,
        key_id=key.key_id,
        arn=key.arn,
        creation_date=key.created_at,
        enabled=state(key) == ENABLED,
        description=key.description,
        key_usage="ENCRYPT_DECRYPT",
        key_state=state(key),
        deletion_date=key.deletion_at,
        origin="AWS_KMS",
        key_manager="AWS" if key.service else "CUSTOMER",
        customer_master_key_spec=SYMMETRIC,
        key_spec=SYMMETRIC,
        encryption_algorithms=[SYMMETRIC],
        multi_region=False,
        current_key_material_id=key.materials[-1].material_id,
    )
