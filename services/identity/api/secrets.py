"""Secrets Manager. A secret is one record, its values sealed in it; no value is ever logged."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import msgspec

from contracts.aws import secretsmanager as sm
from contracts.records.identity import SECRET, Secret, SecretVersion
from services.identity.decisions import Choose
from services.identity.decisions.pages import page
from services.identity.decisions.secrets import (
    CURRENT,
    DAY_S,
    NAME,
    RECOVERY_DAYS,
    SUFFIX_ALPHABET,
    pick,
    with_version,
)
from services.identity.handlers.vaults import NOT_FOUND, Values
from services.shared.aws.context import RequestContext
from services.shared.aws.service import AwsService
from services.shared.bus import Conflict
from services.shared.clock import Clock
from services.shared.errors import AwsError
from services.shared.state import Store

PAGE = 100
VALUE_LIMIT = 65_536
_replace = msgspec.structs.replace


class Secrets(AwsService):
    """CreateSecret to UntagResource."""

    api = sm.API

    def __init__(self, store: Store, values: Values, clock: Clock, choose: Choose) -> None:
        self._store = store
        self._values = values
        self._clock = clock
        self._choose = choose

    async def create_secret(self, context: RequestContext, request: sm.CreateSecretRequest) -> sm.CreateSecretResponse:
        """A secret, with a first value if one is given."""
        if not NAME.match(request.name):
            raise _invalid("Invalid name. Must be a valid name containing alphanumeric characters, or any of: -/_+=.@!")
        if request.add_replica_regions:
            raise _invalid("Replication is not supported by Roadstead yet")
        token = request.client_request_token or str(uuid.uuid4())
        there = self._store.table(SECRET).record(context.account, context.region, request.name)
        value = _value(request)
        if there is not None:
            return self._created_before(there, token, value)
        now = self._clock()
        place = f"arn:aws:secretsmanager:{context.region}:{context.account}:secret:{request.name}"
        secret = Secret(
            account=context.account,
            region=context.region,
            name=request.name,
            arn=f"{place}-{self._choose(SUFFIX_ALPHABET, 6)}",
            created_at=now,
            changed_at=now,
            description=request.description or "",
            kms_key_id=request.kms_key_id or "",
            tags=_tags(request.tags),
        )
        if value is not None:
            secret = with_version(secret, self._version(secret, token, value, [CURRENT]), now)
        try:
            await self._store.put(SECRET, secret, "secret.created.v1", expect=0)
        except Conflict:
            raise _exists(request.name) from None
        return sm.CreateSecretResponse(arn=secret.arn, name=secret.name, version_id=token if value else None)

    def _created_before(self, there: Secret, token: str, value: tuple[bytes, bool] | None) -> sm.CreateSecretResponse:
        """The same request once more is answered as it was; anything else is refused."""
        if there.deleted_at is not None:
            raise AwsError(
                "InvalidRequestException",
                "You can't create this secret because a secret with this name is already scheduled for deletion.",
            )
        version = pick(there, token, None)
        if version is None or value is None or version.digest != self._values.digest(value[0]):
            raise _exists(there.name)
        return sm.CreateSecretResponse(arn=there.arn, name=there.name, version_id=token)

    async def get_secret_value(
        self, context: RequestContext, request: sm.GetSecretValueRequest
    ) -> sm.GetSecretValueResponse:
        """A value: AWSCURRENT unless a version or a stage is named."""
        secret = self._secret(context, request.secret_id)
        version, value = self._values.secret_value(secret, request.version_id, request.version_stage)
        return sm.GetSecretValueResponse(
            arn=secret.arn,
            name=secret.name,
            version_id=version.version_id,
            secret_binary=value if version.binary else None,
            secret_string=None if version.binary else value.decode(),
            version_stages=version.stages or None,
            created_date=version.created_at,
        )

    async def put_secret_value(
        self, context: RequestContext, request: sm.PutSecretValueRequest
    ) -> sm.PutSecretValueResponse:
        """A new value, which becomes AWSCURRENT unless other stages are named."""
        value = _value(request)
        if value is None:
            raise _invalid("You must provide either SecretString or SecretBinary.")
        token, stages = request.client_request_token or str(uuid.uuid4()), request.version_stages or [CURRENT]
        secret = await self._change(context, request.secret_id, self._adding(token, value, stages))
        version = pick(secret, token, None)
        return sm.PutSecretValueResponse(
            arn=secret.arn, name=secret.name, version_id=token, version_stages=version.stages if version else stages
        )

    async def update_secret(self, context: RequestContext, request: sm.UpdateSecretRequest) -> sm.UpdateSecretResponse:
        """Its description, its key's name, its value."""
        value = _value(request)
        token = request.client_request_token or str(uuid.uuid4())

        def change(secret: Secret) -> Secret:
            description = secret.description if request.description is None else request.description
            key = request.kms_key_id or secret.kms_key_id
            changed = _replace(secret, description=description, kms_key_id=key, changed_at=self._clock())
            return changed if value is None else self._adding(token, value, [CURRENT])(changed)

        secret = await self._change(context, request.secret_id, change)
        return sm.UpdateSecretResponse(arn=secret.arn, name=secret.name, version_id=token if value else None)

    async def describe_secret(
        self, context: RequestContext, request: sm.DescribeSecretRequest
    ) -> sm.DescribeSecretResponse:
        """All but its values."""
        return sm.DescribeSecretResponse(
            **_described(secret := self._secret(context, request.secret_id)),
            version_ids_to_stages={v.version_id: v.stages for v in secret.versions if v.stages} or None,
        )

    async def list_secrets(self, context: RequestContext, request: sm.ListSecretsRequest) -> sm.ListSecretsResponse:
        """By name; those that are to be deleted only when asked for."""
        found = self._store.table(SECRET).records(context.account, context.region)
        kept = [
            s
            for s in found
            if (s.deleted_at is None or request.include_planned_deletion)
            and all(_passes(s, f.key or "all", f.values or []) for f in request.filters or [])
        ]
        taken, token = page(
            kept, lambda s: s.name, request.next_token, request.max_results or PAGE, "InvalidNextTokenException"
        )
        entries = [
            sm.SecretListEntry(
                **_described(s),
                secret_versions_to_stages={v.version_id: v.stages for v in s.versions if v.stages} or None,
            )
            for s in taken
        ]
        return sm.ListSecretsResponse(secret_list=entries, next_token=token)

    async def list_secret_version_ids(
        self, context: RequestContext, request: sm.ListSecretVersionIdsRequest
    ) -> sm.ListSecretVersionIdsResponse:
        """Its versions; those without a stage only when asked for."""
        secret = self._secret(context, request.secret_id)
        versions = [
            sm.SecretVersionsListEntry(
                version_id=v.version_id, version_stages=v.stages or None, created_date=v.created_at
            )
            for v in secret.versions
            if v.stages or request.include_deprecated
        ]
        return sm.ListSecretVersionIdsResponse(versions=versions, arn=secret.arn, name=secret.name)

    async def delete_secret(self, context: RequestContext, request: sm.DeleteSecretRequest) -> sm.DeleteSecretResponse:
        """In 30 days (or 7 to 30), or at once if forced."""
        days, now = request.recovery_window_in_days, self._clock()
        if days is not None and request.force_delete_without_recovery:
            raise _invalid("You can't use ForceDeleteWithoutRecovery in conjunction with RecoveryWindowInDays.")
        if days is not None and not RECOVERY_DAYS[0] <= days <= RECOVERY_DAYS[1]:
            raise _invalid("The RecoveryWindowInDays value must be between 7 and 30 days (inclusive).")
        secret = self._secret(context, request.secret_id)
        due = now + (days or RECOVERY_DAYS[1]) * DAY_S
        if request.force_delete_without_recovery:
            await self._store.delete(SECRET, SECRET.key_of(secret), "secret.deleted.v1")
            due = now
        else:
            await self._change(
                context, secret.name, lambda s: _replace(s, deleted_at=now, deletion_at=due), "secret.scheduled.v1"
            )
        return sm.DeleteSecretResponse(arn=secret.arn, name=secret.name, deletion_date=due)

    async def restore_secret(
        self, context: RequestContext, request: sm.RestoreSecretRequest
    ) -> sm.RestoreSecretResponse:
        """Not to be deleted after all."""
        secret = self._secret(context, request.secret_id)
        if secret.deleted_at is not None:
            await self._store.update(
                SECRET,
                SECRET.key_of(secret),
                lambda s: _replace(s, deleted_at=None, deletion_at=None) if s is not None else None,
                "secret.restored.v1",
            )
        return sm.RestoreSecretResponse(arn=secret.arn, name=secret.name)

    async def tag_resource(self, context: RequestContext, request: sm.TagResourceRequest) -> None:
        """Add tags, or give them other values."""
        await self._change(context, request.secret_id, lambda s: _replace(s, tags={**s.tags, **_tags(request.tags)}))

    async def untag_resource(self, context: RequestContext, request: sm.UntagResourceRequest) -> None:
        """Take tags away."""
        gone = set(request.tag_keys)
        await self._change(
            context, request.secret_id, lambda s: _replace(s, tags={k: v for k, v in s.tags.items() if k not in gone})
        )

    def _secret(self, context: RequestContext, reference: str) -> Secret:
        return self._values.secret(context.account, context.region, reference)

    async def _change(
        self,
        context: RequestContext,
        reference: str,
        change: Callable[[Secret], Secret],
        event: str = "secret.updated.v1",
    ) -> Secret:
        """Write the changed secret. Raises ResourceNotFoundException; InvalidRequestException when it is to be
        deleted."""

        def changed(secret: Secret | None) -> Secret:
            if secret is None:
                raise AwsError(*NOT_FOUND)
            if secret.deleted_at is not None and event == "secret.updated.v1":
                raise AwsError(
                    "InvalidRequestException",
                    "You can't perform this operation on the secret because it was marked for deletion.",
                )
            return change(secret)

        key = SECRET.key_of(self._secret(context, reference))
        secret = await self._store.update(SECRET, key, changed, event)
        assert secret is not None
        return secret

    def _adding(self, token: str, value: tuple[bytes, bool], stages: list[str]) -> Callable[[Secret], Secret]:
        def change(secret: Secret) -> Secret:
            there = pick(secret, token, None)
            if there is None:
                return with_version(secret, self._version(secret, token, value, stages), self._clock())
            if there.digest != self._values.digest(value[0]):
                raise AwsError(
                    "ResourceExistsException",
                    "You can't use ClientRequestToken "
                    f"{token} because that value is already in use for a version of secret {secret.arn}.",
                )
            return secret

        return change

    def _version(self, secret: Secret, token: str, value: tuple[bytes, bool], stages: list[str]) -> SecretVersion:
        data, binary = value
        return SecretVersion(
            version_id=token,
            sealed=self._values.seal(data, "secret", secret.account, secret.region, secret.arn, token),
            binary=binary,
            stages=list(stages),
            created_at=self._clock(),
            digest=self._values.digest(data),
        )


def _value(request: Any) -> tuple[bytes, bool] | None:
    """(bytes, whether they are binary); None when no value is given."""
    if request.secret_string is not None and request.secret_binary is not None:
        raise _invalid("You can't specify both a binary secret value and a string secret value in the same secret.")
    if request.secret_binary is not None:
        found = (bytes(request.secret_binary), True)
    elif request.secret_string is not None:
        found = (request.secret_string.encode(), False)
    else:
        return None
    if len(found[0]) > VALUE_LIMIT:
        raise _invalid(f"The secret value must have at most {VALUE_LIMIT} bytes.")
    return found


def _tags(tags: list[sm.Tag] | None) -> dict[str, str]:
    return {tag.key or "": tag.value or "" for tag in tags or []}


def _described(secret: Secret) -> dict[str, Any]:
    return {
        "arn": secret.arn,
        "name": secret.name,
        "description": secret.description or None,
        "kms_key_id": secret.kms_key_id or None,
        "last_changed_date": secret.changed_at,
        "created_date": secret.created_at,
        "deleted_date": secret.deletion_at,
        "tags": [sm.Tag(key=k, value=v) for k, v in secret.tags.items()],
    }


def _passes(secret: Secret, key: str, values: list[str]) -> bool:
    """A filter of ListSecrets: any of its values begins (or with `!`: none begins) what it is about."""
    about = {
        "name": [secret.name],
        "description": [secret.description],
        "tag-key": list(secret.tags),
        "tag-value": list(secret.tags.values()),
        "all": [secret.name, secret.description, *secret.tags, *secret.tags.values()],
    }.get(key)
    if about is None:
        raise _invalid(f"The filter {key} is not supported by Roadstead yet")
    return any(any(text.startswith(v.removeprefix("!")) for text in about) != v.startswith("!") for v in values)


def _invalid(message: str) -> AwsError:
    return AwsError("InvalidParameterException", message)


def _exists(name: str) -> AwsError:
    return AwsError("ResourceExistsException", f"The operation failed because the secret {name} already exists.")
