"""KMS: grants."""

from __future__ import annotations

from contracts.aws import kms
from contracts.records.kms import KmsGrant, KmsKey
from services.identity.api.kms.base import BAD_MARKER, PAGE, KmsOperations, dry_run, unsupported
from services.identity.decisions.kms_keys import require_enabled
from services.identity.decisions.pages import page
from services.identity.handlers.kms_access import caller_of
from services.shared.aws.context import RequestContext
from services.shared.errors import AccessDenied, AwsError

_ASYMMETRIC = frozenset(
    ("Sign", "Verify", "GetPublicKey", "GenerateMac", "VerifyMac", "DeriveSharedSecret", "Encapsulate", "Decapsulate",
     "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext")
)  # fmt: skip


class GrantOperations(KmsOperations):
    """CreateGrant to RevokeGrant. A grant is in force at once; its token is given out and not needed."""

    async def create_grant(self, context: RequestContext, request: kms.CreateGrantRequest) -> kms.CreateGrantResponse:
        """Let a principal use the key; the same again, with a name, is the same grant."""
        if request.grantee_service_principal or request.retiring_service_principal:
            raise unsupported("Service principals in grants that were not made by a service are")
        if not request.grantee_principal:
            raise AwsError("ValidationException", "GranteePrincipal must be given")
        wrong = _ASYMMETRIC.intersection(request.operations)
        if wrong or not request.operations:
            raise AwsError("ValidationException", f"A symmetric key has no such grant operations: {sorted(wrong)}")
        constraints = request.constraints
        if constraints is not None and constraints.source_arn:
            raise unsupported("The grant constraint SourceArn is")
        key = self._key(context, request.key_id)
        require_enabled(key)
        dry_run(request.dry_run)
        grant = self._keys.new_grant(
            key,
            context.account,
            list(request.operations),
            name=request.name or "",
            grantee=request.grantee_principal,
            retiring=request.retiring_principal or "",
            context_equals=constraints.encryption_context_equals if constraints else None,
            context_subset=constraints.encryption_context_subset if constraints else None,
        )
        same = next((g for g in self._keys.grants(key) if grant.name and _same(g, grant)), None)
        if same is None:
            await self._keys.grant(grant)
        return kms.CreateGrantResponse(grant_token=(same or grant).token, grant_id=(same or grant).grant_id)

    async def list_grants(self, context: RequestContext, request: kms.ListGrantsRequest) -> kms.ListGrantsResponse:
        """A key's grants."""
        key = self._key(context, request.key_id)
        found = [
            grant
            for grant in self._keys.grants(key)
            if request.grant_id in (None, grant.grant_id)
            and request.grantee_principal in (None, grant.grantee or grant.grantee_service)
            and request.grantee_service_principal in (None, grant.grantee_service)
        ]
        return self._listed(key.arn, found, request.marker, request.limit)

    def _listed(self, arn: str, found: list[KmsGrant], marker: str | None, limit: int | None) -> kms.ListGrantsResponse:
        taken, following = page(found, lambda grant: grant.grant_id, marker, limit or PAGE, BAD_MARKER)
        return kms.ListGrantsResponse(
            grants=[_shown(grant, arn) for grant in taken], next_marker=following, truncated=following is not None
        )

    async def revoke_grant(self, context: RequestContext, request: kms.RevokeGrantRequest) -> None:
        """End it: the owner's way."""
        key = self._key(context, request.key_id)
        grant = self._grant(key, request.grant_id)
        dry_run(request.dry_run)
        await self._keys.end_grant(grant, "revoked")

    async def retire_grant(self, context: RequestContext, request: kms.RetireGrantRequest) -> None:
        """End it: the way of those whom it names, and of the account that made it."""
        if request.grant_token:
            found = [g for key in self._keys.of(context.account, context.region) for g in self._keys.grants(key)]
            grant = next((g for g in found if g.token == request.grant_token), None)
            if grant is None:
                raise AwsError("InvalidGrantTokenException", "There is no grant with this token")
        elif request.key_id and request.grant_id:
            grant = self._grant(self._key(context, request.key_id), request.grant_id)
        else:
            raise AwsError("ValidationException", "Give a GrantToken, or a KeyId and a GrantId")
        if not self._may_retire(context, grant):
            raise AccessDenied(f"User: {context.principal_arn} is not authorized to perform: kms:RetireGrant")
        dry_run(request.dry_run)
        await self._keys.end_grant(grant, "retired")

    def _may_retire(self, context: RequestContext, grant: KmsGrant) -> bool:
        if not context.session and context.account == grant.account:
            return True
        names = self._access.names(caller_of(context))
        by_grantee = grant.grantee in names and "RetireGrant" in grant.operations
        return by_grantee or (bool(grant.retiring) and grant.retiring in names)

    def _grant(self, key: KmsKey, grant_id: str) -> KmsGrant:
        found = next((g for g in self._keys.grants(key) if g.grant_id == grant_id), None)
        if found is None:
            raise AwsError("NotFoundException", f"Grant ID {grant_id} not found")
        return found


def _same(one: KmsGrant, other: KmsGrant) -> bool:
    members = ("name", "grantee", "retiring", "operations", "context_equals", "context_subset")
    return all(getattr(one, member) == getattr(other, member) for member in members)


def _shown(grant: KmsGrant, arn: str) -> kms.GrantListEntry:
    constraints = None
    if grant.context_equals is not None or grant.context_subset is not None:
        constraints = kms.GrantConstraints(
            encryption_context_subset=grant.context_subset, encryption_context_equals=grant.context_equals
        )
    return kms.GrantListEntry(
        key_id=arn,
        grant_id=grant.grant_id,
        name=grant.name or None,
        creation_date=grant.created_at,
        grantee_principal=grant.grantee or grant.grantee_service,
        retiring_principal=grant.retiring or grant.retiring_service or None,
        issuing_account=grant.issuer,
        operations=grant.operations,
        constraints=constraints,
    )
