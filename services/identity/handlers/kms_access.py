"""Who may use which key: the guard of the KMS API, and of what other services do with keys for their callers."""

from __future__ import annotations

from typing import Any

import msgspec

from contracts.records.kms import KmsKey
from services.identity.decisions.kms_access import WITHOUT_KEY, Keys, condition_keys, granted, judged, key_keys
from services.identity.handlers.kms_keys import KmsKeys
from services.shared.authorization import Authorization, denied, request_keys, role_keys
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError
from services.shared.policies import ALLOW, IMPLICIT_DENY, RESOURCE, Principal, Question, parse
from services.shared.policies.demands import Demand
from services.shared.policies.resource_based import said


class Caller(msgspec.Struct, frozen=True):
    """Who asks: `session` is the access key of a role's session, empty for the account itself. With `role` (an ARN) it
    is a service in that role. `keys` are the condition keys of the request."""

    account: str
    principal: str
    session: str
    keys: Keys
    role: str = ""


class Use(msgspec.Struct, frozen=True):
    """An action on a key, with an encryption context if it has one, and the condition keys that come with it."""

    action: str
    key: KmsKey
    context: dict[str, str] | None = None
    keys: Keys = {}


def caller_of(context: RequestContext) -> Caller:
    """Who sent a request."""
    session = context.access_key_id if context.session else ""
    return Caller(context.account, context.principal_arn, session, request_keys(context))


class KmsAccess:
    """Judges with key policies, the callers' own policies, and grants."""

    def __init__(self, keys: KmsKeys, authorization: Authorization) -> None:
        self._keys = keys
        self._authorization = authorization

    async def check(self, context: RequestContext, request: Any) -> None:
        """The guard. Raises AccessDenied, and what finding the keys raises."""
        operation, caller = context.operation, caller_of(context)
        if operation == "RetireGrant":
            return  # the grant says who may
        if operation in WITHOUT_KEY:
            self._require_own(caller, f"kms:{operation}", "*", condition_keys(request, context.account, None, ""))
        alias = getattr(request, "alias_name", None)
        if alias is not None:
            arn = f"arn:aws:kms:{context.region}:{context.account}:{alias}"
            self._require_own(caller, f"kms:{operation}", arn, {})
        for use in self._uses(context, request):
            self.require(caller, use)

    def _uses(self, context: RequestContext, request: Any) -> list[Use]:
        """What a request does with which keys."""
        operation, here, caller = context.operation, (context.account, context.region), caller_of(context)

        def use(action: str, key: KmsKey, name: str = "", about: dict[str, str] | None = None) -> Use:
            alias = name if name.startswith("alias/") else name.rpartition(":")[2] if ":alias/" in name else ""
            return Use(f"kms:{action}", key, about, condition_keys(request, context.account, about, alias))

        if operation == "ReEncrypt":
            source = self._keys.of_ciphertext(context.region, request.ciphertext_blob)
            target = self._keys.find(*here, request.destination_key_id)
            return [
                use("ReEncryptFrom", source, request.source_key_id or "", request.source_encryption_context),
                use("ReEncryptTo", target, request.destination_key_id, request.destination_encryption_context),
            ]
        if operation == "Decrypt":
            if not request.ciphertext_blob:
                return []
            key = self._keys.of_ciphertext(context.region, request.ciphertext_blob)
            return [use(operation, key, request.key_id or "", request.encryption_context)]
        if operation in ("CreateAlias", "UpdateAlias", "DeleteAlias"):
            named = [] if operation == "CreateAlias" else [request.alias_name]
            named += [request.target_key_id] if operation != "DeleteAlias" else []
            found = [self._keys.find(*here, name) for name in named]
            return [use(operation, key, name) for key, name in zip(found, named, strict=True)]
        if operation in WITHOUT_KEY or not getattr(request, "key_id", None):
            return []
        name = request.key_id
        try:
            key = self._keys.find(*here, name)
        except AwsError:
            if operation == "DescribeKey" and name.startswith("alias/aws/"):
                self._require_own(caller, "kms:DescribeKey", self._keys.managed_arn(*here, name), {})
                return []  # it is about to be made
            raise
        return [use(operation, key, name, getattr(request, "encryption_context", None))]

    def require(self, caller: Caller, use: Use) -> None:
        """Raises AccessDenied unless the caller may do this with the key."""
        verdict, by = self.verdict(caller, use, use.key.policy)
        if verdict != ALLOW:
            raise denied(caller.principal, Demand(use.action, use.key.arn), verdict, by)

    def verdict(self, caller: Caller, use: Use, policy: str) -> tuple[str, str]:
        """The verdict with this key policy, and the sort of policy that it is due to."""
        key = use.key
        about = {**caller.keys, **use.keys, **key_keys(key, self._keys.aliases_of(key))}
        principal, own_keys, identity = self._judged(caller, Demand(use.action, key.arn, about))
        question = Question(use.action, key.arn, {**about, **own_keys})
        resource = said([parse(policy, RESOURCE)], principal, question)
        by_grant = granted(self._keys.grants(key), use.action.removeprefix("kms:"), principal.arns, use.context)
        return judged(caller.account == key.account, identity, resource, by_grant is not None)

    def _judged(self, caller: Caller, demand: Demand) -> tuple[Principal, Keys, tuple[str, str]]:
        """Who it is, the condition keys that say so, and what their own policies say."""
        if caller.role:
            role = self._authorization.role(caller.role)
            if role is None:
                return Principal(caller.account), {}, (IMPLICIT_DENY, "identity-based")
            identity = self._authorization.of_role(role, None, demand, {})
            return Principal(role.account, (role.arn,)), role_keys(role, None), identity
        principal, keys = self._authorization.principal(caller.account, caller.principal, caller.session)
        if not caller.session:
            return principal, keys, (ALLOW, "identity-based")
        return principal, keys, self._authorization.verdict(caller.session, demand, {})

    def names(self, caller: Caller) -> tuple[str, ...]:
        """The ARNs by which policies and grants name the caller."""
        return self._authorization.principal(caller.account, caller.principal, caller.session)[0].arns

    def _require_own(self, caller: Caller, action: str, resource: str, keys: Keys) -> None:
        if caller.session:
            demand = Demand(action, resource, keys)
            self._authorization.require(caller.session, caller.principal, demand, caller.keys)
