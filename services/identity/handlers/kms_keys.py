"""The keys of KMS: found, made, used, rotated, and deleted when that is due."""

from __future__ import annotations

import base64
import os
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import structlog

from contracts.records.kms import KMS_ALIAS, KMS_GRANT, KMS_KEY, KeyMaterial, KmsAlias, KmsGrant, KmsKey
from services.identity.decisions import ciphertexts
from services.identity.decisions.ciphertexts import Head, NoCiphertext
from services.identity.decisions.kms_keys import (
    DEFAULT_ROTATION_DAYS,
    default_policy,
    is_gone,
    managed_key_id,
    managed_policy,
    managed_service,
    next_rotation,
    read_reference,
    rotated,
)
from services.shared.clock import Clock
from services.shared.errors import AwsError
from services.shared.sealing import CannotOpen, Vault
from services.shared.state import Conflict, Store

log = structlog.get_logger()

MANAGED = frozenset({"ecr"})
"""The services for which there are keys that AWS manages."""

KEY_BYTES = 32


class KmsKeys:
    """All keys, of all accounts and regions. Their material is opened for the moment of its use."""

    def __init__(self, store: Store, vault: Vault, clock: Clock) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock
        self._keys = store.table(KMS_KEY)
        self._aliases = store.table(KMS_ALIAS)
        self._grants = store.table(KMS_GRANT)

    def find(self, account: str, region: str, text: str, *, aliases: bool = True) -> KmsKey:
        """The key of this id, ARN or alias. Raises NotFoundException."""
        reference = read_reference(text, account, region, aliases=aliases)
        key_id = reference.name
        if reference.is_alias:
            arn = f"arn:aws:kms:{region}:{reference.account}:{reference.name}"
            gone = AwsError("NotFoundException", f"Alias {arn} is not found.")
            service = managed_service(reference.name)
            alias = self._aliases.record(reference.account, region, reference.name)
            if service:
                key_id = managed_key_id(reference.account, region, service)
            elif alias is not None:
                key_id = alias.key_id
            else:
                raise gone
        else:
            gone = AwsError(
                "NotFoundException", f"Key 'arn:aws:kms:{region}:{reference.account}:key/{key_id}' does not exist"
            )
        key = self._keys.record(reference.account, region, key_id)
        if key is None or is_gone(key, self._clock()):
            raise gone
        return key

    def of_ciphertext(self, region: str, ciphertext: bytes) -> KmsKey:
        """The key that something was encrypted under. Raises InvalidCiphertextException."""
        try:
            head = ciphertexts.read_head(ciphertext)
        except NoCiphertext:
            raise no_ciphertext() from None
        key = self._keys.record(head.account, region, head.key_id)
        if key is None or is_gone(key, self._clock()):
            raise no_ciphertext()
        return key

    def of(self, account: str, region: str) -> list[KmsKey]:
        """All keys of an account in a region, in no order."""
        return [key for key in self._keys.records(account, region) if not is_gone(key, self._clock())]

    def aliases(self, account: str, region: str) -> list[KmsAlias]:
        """All aliases there, those of keys that AWS manages among them, in no order."""
        keys = {key.key_id: key for key in self.of(account, region)}
        managed = [
            KmsAlias(
                account=account,
                region=region,
                name=f"alias/aws/{key.service}",
                key_id=key.key_id,
                created_at=key.created_at,
                changed_at=key.created_at,
            )
            for key in keys.values()
            if key.service
        ]
        return [*(a for a in self._aliases.records(account, region) if a.key_id in keys), *managed]

    def aliases_of(self, key: KmsKey) -> tuple[str, ...]:
        """The names of one key's aliases."""
        return tuple(a.name for a in self.aliases(key.account, key.region) if a.key_id == key.key_id)

    def grants(self, key: KmsKey) -> list[KmsGrant]:
        """The grants of one key, in no order."""
        return self._grants.records(key.account, key.region, key.key_id)

    def new_grant(self, key: KmsKey, account: str, operations: list[str], **members: Any) -> KmsGrant:
        """A grant of this account, to be kept."""
        return KmsGrant(
            account=key.account,
            region=key.region,
            key_id=key.key_id,
            grant_id=os.urandom(32).hex(),
            token=base64.b64encode(os.urandom(48)).decode(),
            created_at=self._clock(),
            operations=operations,
            issuer=f"arn:aws:iam::{account}:root",
            **members,
        )

    async def grant(self, grant: KmsGrant) -> None:
        """Keep a new grant."""
        await self._store.put(KMS_GRANT, grant, "kms_grant.created.v1", expect=0)

    async def end_grant(self, grant: KmsGrant, how: str) -> None:
        """Drop one. `how`: retired | revoked."""
        await self._store.delete(KMS_GRANT, KMS_GRANT.key_of(grant), f"kms_grant.{how}.v1")

    def encrypt(self, key: KmsKey, plaintext: bytes, context: dict[str, str]) -> bytes:
        """Encrypted under the key's newest material."""
        material = key.materials[-1]
        head = Head(key.account, key.key_id, material.material_id)
        random = os.urandom(ciphertexts.RANDOM_BYTES)
        return ciphertexts.encrypt(head, self._material(key, material), plaintext, context, random)

    def decrypt(self, key: KmsKey, ciphertext: bytes, context: dict[str, str]) -> tuple[bytes, str]:
        """The plaintext, and the id of the material. Raises InvalidCiphertextException."""
        try:
            head = ciphertexts.read_head(ciphertext)
            material = next((m for m in key.materials if m.material_id == head.material_id), None)
            if material is None or head.key_id != key.key_id:
                raise no_ciphertext()
            return ciphertexts.decrypt(self._material(key, material), ciphertext, context), head.material_id
        except NoCiphertext:
            raise no_ciphertext() from None

    def _material(self, key: KmsKey, material: KeyMaterial) -> bytes:
        try:
            return self._vault.unseal(base64.b64decode(material.sealed), _about(key, material.material_id))
        except CannotOpen:
            what = f"The material of {key.arn} can't be opened: identity/values.key is not the one it was sealed with"
            raise AwsError("KMSInternalException", what, 500) from None

    async def create(self, key: KmsKey) -> KmsKey:
        """Keep a new key, to which its first material is given."""
        made = msgspec.structs.replace(key, materials=[self._new_material(key, "")])
        await self._store.put(KMS_KEY, made, "kms_key.created.v1", expect=0)
        return made

    def blank(self, account: str, region: str, *, policy: str = "", service: str = "") -> KmsKey:
        """A key to be created, as yet without material."""
        now = self._clock()
        key = KmsKey(
            account=account,
            region=region,
            key_id=managed_key_id(account, region, service) if service else str(uuid.uuid4()),
            created_at=now,
            policy=policy or default_policy(account),
            materials=[],
            service=service,
            rotation_from=now,
        )
        if not service:
            return key
        return msgspec.structs.replace(
            key,
            policy=managed_policy(account, region, service),
            rotation_days=DEFAULT_ROTATION_DAYS,
            description=f"Default key that protects what {service.upper()} stores when no other key is defined",
        )

    async def managed(self, account: str, region: str, service: str) -> KmsKey:
        """The key that AWS manages for a service, made when it is first asked for."""
        if service not in MANAGED:
            arn = f"arn:aws:kms:{region}:{account}:alias/aws/{service}"
            raise AwsError("NotFoundException", f"Alias {arn} is not found.")
        found = self._keys.record(account, region, managed_key_id(account, region, service))
        if found is not None:
            return found
        blank = self.blank(account, region, service=service)
        try:
            return await self.create(blank)
        except Conflict:
            entry = await self._store.refresh(KMS_KEY, KMS_KEY.key_of(blank))
            if entry is None:
                raise
            return entry.record

    def managed_arn(self, account: str, region: str, alias: str) -> str:
        """The ARN that the key of this alias has or will have."""
        return f"arn:aws:kms:{region}:{account}:key/{managed_key_id(account, region, managed_service(alias))}"

    async def change(self, key: KmsKey, change: Callable[[KmsKey], KmsKey], event: str) -> KmsKey:
        """Change a key with one write; what `change` returns unchanged is not written. Raises NotFoundException."""

        def changed(old: KmsKey | None) -> KmsKey:
            if old is None or is_gone(old, self._clock()):
                raise AwsError("NotFoundException", f"Key '{key.arn}' does not exist")
            return change(old)

        written = await self._store.update(KMS_KEY, KMS_KEY.key_of(key), changed, event)
        assert written is not None
        return written

    async def rotate(self, key: KmsKey, how: str, due: Callable[[KmsKey], bool] = lambda key: True) -> KmsKey:
        """Give it new material. `how`: ON_DEMAND, or AUTOMATIC; not where it is not `due` (any more)."""
        material = self._new_material(key, how)
        return await self.change(key, lambda old: rotated(old, material) if due(old) else old, "kms_key.rotated.v1")

    def _new_material(self, key: KmsKey, how: str) -> KeyMaterial:
        material_id = os.urandom(32).hex()
        sealed = self._vault.seal(os.urandom(KEY_BYTES), _about(key, material_id))
        return KeyMaterial(
            material_id=material_id,
            sealed=base64.b64encode(sealed).decode(),
            created_at=self._clock(),
            rotation=how,
        )

    async def sweep(self) -> None:
        """Delete what is due, and the aliases and grants of keys that are gone; rotate what is due."""

        def due(key: KmsKey) -> bool:
            when = next_rotation(key)
            return when is not None and when <= self._clock()

        for key in self._keys.records():
            if is_gone(key, self._clock()):
                await self._swept(key.key_id, self._store.delete(KMS_KEY, KMS_KEY.key_of(key), "kms_key.deleted.v1"))
            elif due(key):
                await self._swept(key.key_id, self.rotate(key, "AUTOMATIC", due))
        for alias in self._aliases.records():
            if self._keys.get(alias.account, alias.region, alias.key_id) is None:
                gone = self._store.delete(KMS_ALIAS, KMS_ALIAS.key_of(alias), "kms_alias.deleted.v1")
                await self._swept(alias.key_id, gone)
        for grant in self._grants.records():
            if self._keys.get(grant.account, grant.region, grant.key_id) is None:
                await self._swept(grant.key_id, self.end_grant(grant, "retired"))

    async def _swept(self, key_id: str, work: Awaitable[object]) -> None:
        try:
            await work
        except (Conflict, AwsError) as error:
            log.warning("kms_key.sweep_failed", key=key_id, error=str(error))


def no_ciphertext() -> AwsError:
    """It can't be decrypted. KMS does not say why; here are the reasons."""
    return AwsError(
        "InvalidCiphertextException",
        "The ciphertext is none, was changed, was encrypted under a key that is not here, or with another encryption "
        "context",
    )


def _about(key: KmsKey, material_id: str) -> str:
    return "\n".join(("kms_key", key.account, key.region, key.key_id, material_id))
