"""KMS: rotation. A rotated key encrypts with new material, and decrypts with all that it ever had."""

from __future__ import annotations

from msgspec.structs import replace

from contracts.aws import kms
from contracts.records.kms import KmsKey
from services.identity.api.kms.base import BAD_MARKER, PAGE, KmsOperations
from services.identity.decisions.kms_keys import (
    DEFAULT_ROTATION_DAYS,
    ROTATION_DAYS,
    next_rotation,
    require_enabled,
)
from services.identity.decisions.pages import page
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError


class RotationOperations(KmsOperations):
    """EnableKeyRotation to ListKeyRotations."""

    async def enable_key_rotation(self, context: RequestContext, request: kms.EnableKeyRotationRequest) -> None:
        """Rotate it by itself, a year (or 90 to 2560 days) from now on."""
        days = request.rotation_period_in_days or DEFAULT_ROTATION_DAYS
        if not ROTATION_DAYS[0] <= days <= ROTATION_DAYS[1]:
            said = f"RotationPeriodInDays must be between {ROTATION_DAYS[0]} and {ROTATION_DAYS[1]}"
            raise AwsError("ValidationException", said)
        now = self._clock()

        def enabled(key: KmsKey) -> KmsKey:
            require_enabled(key)
            return key if key.rotation_days == days else replace(key, rotation_days=days, rotation_from=now)

        await self._keys.change(self._own(context, request.key_id), enabled, "kms_key.changed.v1")

    async def disable_key_rotation(self, context: RequestContext, request: kms.DisableKeyRotationRequest) -> None:
        """Rotate it no more by itself."""

        def disabled(key: KmsKey) -> KmsKey:
            require_enabled(key)
            return replace(key, rotation_days=None)

        await self._keys.change(self._own(context, request.key_id), disabled, "kms_key.changed.v1")

    async def get_key_rotation_status(
        self, context: RequestContext, request: kms.GetKeyRotationStatusRequest
    ) -> kms.GetKeyRotationStatusResponse:
        """Whether it is rotated by itself, and when next."""
        key = self._own(context, request.key_id)
        return kms.GetKeyRotationStatusResponse(
            key_rotation_enabled=key.rotation_days is not None,
            key_id=key.arn,
            rotation_period_in_days=key.rotation_days,
            next_rotation_date=next_rotation(key),
        )

    async def rotate_key_on_demand(
        self, context: RequestContext, request: kms.RotateKeyOnDemandRequest
    ) -> kms.RotateKeyOnDemandResponse:
        """Rotate it now; when it is rotated by itself stays as it was."""
        key = self._own(context, request.key_id)
        require_enabled(key)
        await self._keys.rotate(key, "ON_DEMAND")
        return kms.RotateKeyOnDemandResponse(key_id=key.arn)

    async def list_key_rotations(
        self, context: RequestContext, request: kms.ListKeyRotationsRequest
    ) -> kms.ListKeyRotationsResponse:
        """The rotations that were, oldest first; with ALL_KEY_MATERIAL the first material too."""
        key = self._own(context, request.key_id)
        kept = [m for m in key.materials if m.rotation or request.include_key_material == "ALL_KEY_MATERIAL"]
        taken, marker = page(
            kept, lambda m: f"{m.created_at:020.6f}/{m.material_id}", request.marker, request.limit or PAGE, BAD_MARKER
        )
        entries = [
            kms.RotationsListEntry(
                key_id=key.arn,
                key_material_id=m.material_id,
                key_material_state="CURRENT" if m is key.materials[-1] else "NON_CURRENT",
                rotation_date=m.created_at if m.rotation else None,
                rotation_type=m.rotation or None,
            )
            for m in taken
        ]
        return kms.ListKeyRotationsResponse(rotations=entries, next_marker=marker, truncated=marker is not None)
