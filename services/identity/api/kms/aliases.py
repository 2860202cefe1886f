"""KMS: aliases."""

from __future__ import annotations

from msgspec.structs import replace

from contracts.aws import kms
from contracts.records.kms import KMS_ALIAS, KmsAlias
from services.identity.api.kms.base import BAD_MARKER, PAGE, KmsOperations
from services.identity.decisions.kms_keys import check_alias, require_kept
from services.identity.decisions.pages import page
from services.shared.aws.context import RequestContext
from services.shared.bus import Conflict
from services.shared.errors import AwsError


class AliasOperations(KmsOperations):
    """CreateAlias to ListAliases."""

    async def create_alias(self, context: RequestContext, request: kms.CreateAliasRequest) -> None:
        """Another name of a key. One that named a key which is gone is free."""
        check_alias(request.alias_name)
        key = self._own(context, request.target_key_id)
        require_kept(key)
        now = self._clock()
        alias = KmsAlias(
            account=context.account,
            region=context.region,
            name=request.alias_name,
            key_id=key.key_id,
            created_at=now,
            changed_at=now,
        )
        arn = f"arn:aws:kms:{context.region}:{context.account}:{alias.name}"
        exists = AwsError("AlreadyExistsException", f"An alias with the name {arn} already exists")
        there = self._keys.aliases(context.account, context.region)
        if any(each.name == alias.name for each in there):
            raise exists
        try:
            await self._store.put(KMS_ALIAS, alias, "kms_alias.created.v1")
        except Conflict:
            raise exists from None

    async def update_alias(self, context: RequestContext, request: kms.UpdateAliasRequest) -> None:
        """Let it name another key."""
        check_alias(request.alias_name)
        key = self._own(context, request.target_key_id)
        require_kept(key)
        now = self._clock()

        def moved(alias: KmsAlias | None) -> KmsAlias:
            if alias is None:
                raise _not_found(context, request.alias_name)
            return alias if alias.key_id == key.key_id else replace(alias, key_id=key.key_id, changed_at=now)

        where = (context.account, context.region, request.alias_name)
        await self._store.update(KMS_ALIAS, where, moved, "kms_alias.moved.v1")

    async def delete_alias(self, context: RequestContext, request: kms.DeleteAliasRequest) -> None:
        """Drop it; the key stays."""
        check_alias(request.alias_name)
        where = (context.account, context.region, request.alias_name)
        if self._store.table(KMS_ALIAS).record(*where) is None:
            raise _not_found(context, request.alias_name)
        await self._store.delete(KMS_ALIAS, where, "kms_alias.deleted.v1")

    async def list_aliases(self, context: RequestContext, request: kms.ListAliasesRequest) -> kms.ListAliasesResponse:
        """The account's aliases in this region, or those of one key."""
        found = self._keys.aliases(context.account, context.region)
        if request.key_id:
            key = self._own(context, request.key_id)
            found = [alias for alias in found if alias.key_id == key.key_id]
        taken, marker = page(found, lambda alias: alias.name, request.marker, request.limit or PAGE, BAD_MARKER)
        return kms.ListAliasesResponse(
            aliases=[_shown(alias) for alias in taken], next_marker=marker, truncated=marker is not None
        )


def _shown(alias: KmsAlias) -> kms.AliasListEntry:
    return kms.AliasListEntry(
        alias_name=alias.name,
        alias_arn=f"arn:aws:kms:{alias.region}:{alias.account}:{alias.name}",
        target_key_id=alias.key_id,
        creation_date=alias.created_at,
        last_updated_date=alias.changed_at,
    )


def _not_found(context: RequestContext, name: str) -> AwsError:
    return AwsError("NotFoundException", f"Alias arn:aws:kms:{context.region}:{context.account}:{name} is not found.")
