"""Data keys of other services: what they keep for their callers is encrypted under the callers' keys.

As AWS' services do: who asks the service must be allowed to grant it the use of the key, and from then on it is the
grant by which the service uses it. https://docs.aws.amazon.com/AmazonECR/latest/userguide/encryption-at-rest.html
"""

from __future__ import annotations

import base64
import os

import structlog

from contracts.records.kms import ECR, KmsKey
from contracts.rpc.kms import (
    GrantDataKey,
    GrantedDataKey,
    OpenDataKey,
    OpenedDataKey,
    Retired,
    RetireDataKey,
)
from services.identity.decisions.kms_access import granted_to_service
from services.identity.decisions.kms_keys import managed_service, require_enabled
from services.identity.handlers.kms_access import Caller, KmsAccess, Use
from services.identity.handlers.kms_keys import KmsKeys
from services.shared.authorization import door_keys
from services.shared.errors import AccessDenied, AwsError
from services.shared.sealing import seal_to

log = structlog.get_logger()

SERVICES = {ECR: "ecr"}
"""The services that have data keys, and the name that their alias/aws/… has."""

_OPERATIONS = ["GenerateDataKey", "Decrypt", "RetireGrant", "DescribeKey"]
_DATA_KEY_BYTES = 32


class DataKeys:
    """Answers `grant_data_key`, `open_data_key` and `retire_data_key`."""

    def __init__(self, keys: KmsKeys, access: KmsAccess) -> None:
        self._keys = keys
        self._access = access

    async def grant(self, request: GrantDataKey) -> GrantedDataKey:
        """A new data key. Raises AwsError with KMS' codes."""
        name = SERVICES.get(request.service)
        if name is None:
            raise AccessDenied(f"{request.service} has no data keys")
        wanted = request.key or f"alias/aws/{name}"
        if managed_service(wanted) == name:
            key = await self._keys.managed(request.account, request.region, name)
        else:
            key = self._keys.find(request.account, request.region, wanted)
        self._require(request, key, name)
        require_enabled(key)
        if request.only_check:
            return GrantedDataKey(key_arn=key.arn)
        grant = self._keys.new_grant(
            key,
            request.account,
            _OPERATIONS,
            grantee_service=request.service,
            retiring_service=request.service,
            context_subset=request.context,
        )
        plaintext = os.urandom(_DATA_KEY_BYTES)
        wrapped = base64.b64encode(self._keys.encrypt(key, plaintext, request.context)).decode()
        sealed = _seal(request.public_key, plaintext, wrapped)
        await self._keys.grant(grant)
        log.info("data_key.granted", key=key.arn, service=request.service)
        return GrantedDataKey(key_arn=key.arn, grant_id=grant.grant_id, wrapped=wrapped, sealed=sealed)

    def _require(self, request: GrantDataKey, key: KmsKey, name: str) -> None:
        """A key that AWS manages is for all who may use its service; else the caller needs rights of their own."""
        if key.service == name and key.account == request.account:
            return
        account = request.principal.split(":")[4]  # not the resource's, which may be of another account
        keys = {
            **door_keys(request.region, "", request.service),
            "kms:calleraccount": (account,),
            "kms:viaservice": (f"{name}.{request.region}.amazonaws.com",),
            "kms:grantisforawsresource": ("true",),
        }
        caller = Caller(account, request.principal, request.session, keys, request.role)
        for action in ("kms:DescribeKey", "kms:CreateGrant"):
            self._access.require(caller, Use(action, key))

    async def open(self, request: OpenDataKey) -> OpenedDataKey:
        """The data key. Raises AwsError with KMS' codes."""
        key = self._find(request.key_arn)
        if granted_to_service(self._keys.grants(key), "Decrypt", request.service, request.context) is None:
            raise AccessDenied(f"{request.service} has no grant for {key.arn} any more")
        require_enabled(key)
        plaintext, _ = self._keys.decrypt(key, _decoded(request.wrapped), request.context)
        return OpenedDataKey(sealed=_seal(request.public_key, plaintext, request.wrapped))

    async def retire(self, request: RetireDataKey) -> Retired:
        """End the grant; no error when key or grant are gone."""
        try:
            key = self._find(request.key_arn)
        except AwsError:
            return Retired(there=False)
        for grant in self._keys.grants(key):
            if grant.grant_id == request.grant_id and grant.retiring_service == request.service:
                await self._keys.end_grant(grant, "retired")
                return Retired(there=True)
        return Retired(there=False)

    def _find(self, arn: str) -> KmsKey:
        parts = arn.split(":", 5)
        if len(parts) != 6:
            raise AwsError("NotFoundException", f"Invalid keyId '{arn}'")
        return self._keys.find(parts[4], parts[3], arn)


def _decoded(wrapped: str) -> bytes:
    try:
        return base64.b64decode(wrapped, validate=True)
    except ValueError:
        raise AwsError("InvalidCiphertextException", "the data key is no base64") from None


def _seal(public_key: str, plaintext: bytes, about: str) -> str:
    try:
        return base64.b64encode(seal_to(base64.b64decode(public_key), plaintext, about)).decode()
    except ValueError:
        raise AwsError("ValidationException", "the asker's key is no X25519 key") from None
