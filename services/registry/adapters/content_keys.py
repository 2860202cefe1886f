"""The keys that content is sealed with: the registry's own, and data keys of repositories that KMS keeps for it.

A data key is opened once, and held in memory as long as its KMS key may be used by the grant, which is looked at each
time that it is asked for: in a view, so that a key that is disabled refuses within milliseconds.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from pathlib import Path

import structlog

from contracts.records.kms import ECR, KMS_GRANT, KMS_KEY, KmsKey
from contracts.records.registry import Repository, RepositoryKey
from contracts.rpc.kms import (
    GRANT_DATA_KEY,
    OPEN_DATA_KEY,
    RETIRE_DATA_KEY,
    GrantDataKey,
    GrantedDataKey,
    OpenDataKey,
    RetireDataKey,
)
from services.registry.adapters.keyfile import KEY_BYTES, load_key
from services.registry.decisions.names import RepositoryId
from services.registry.decisions.segments import KEY_ID
from services.registry.ports import BlobStore, ContentKey, Granter, KeyRefused
from services.shared.bus import Bus, CommandRefused
from services.shared.clock import Clock
from services.shared.errors import StateUnavailable
from services.shared.sealing import Asker, CannotOpen
from services.shared.settings import SettingsError
from services.shared.state import fetch
from services.shared.views import Table, View

log = structlog.get_logger()

_ABOUT_OWN = b"roadstead registry key id"
_LOST = (
    "{path} is not the key that the registry's content was sealed with: bring it back from a backup, or name the file "
    "that has it with ROADSTEAD_REGISTRY_CONTENT_KEY_FILE. To give up that content, begin with an empty storage"
)


async def own_key(path: Path, store: BlobStore) -> ContentKey:
    """The registry's own key, in this file; made if there never was one. The store has its id. Raises SettingsError
    when the key is another one: what is stored could not be found with it, and would be swept."""
    known = await store.sealed_with()
    if known is not None and (not path.exists() or path.stat().st_size != KEY_BYTES):
        raise SettingsError(_LOST.format(path=path))
    secret = load_key(path)
    key = ContentKey(hashlib.sha256(_ABOUT_OWN + secret).digest()[:KEY_ID], secret)
    if known is None:
        await store.seal_with(key.id)
    elif known != key.id:
        raise SettingsError(_LOST.format(path=path))
    return key


class KmsContentKeys:
    """See ports.ContentKeys and ports.RepositoryKeys."""

    def __init__(
        self, own: ContentKey, bus: Bus, repositories: Table[Repository], view: View, clock: Clock, *, sealed: bool
    ) -> None:
        self._own = own
        self._sealed = sealed
        self._bus = bus
        self._repositories = repositories
        self._view = view
        self._clock = clock
        self._opened: dict[str, ContentKey] = {}
        self._opening: dict[str, asyncio.Task[ContentKey]] = {}

    def id_of(self, repository: RepositoryId) -> bytes:
        """See ports.ContentKeys."""
        key = self._key_of(repository)
        return self._own.id if key is None else bytes.fromhex(key.id)

    def seals(self, repository: RepositoryId) -> bool:
        """See ports.ContentKeys."""
        return self._sealed or self._key_of(repository) is not None

    async def of(self, repository: RepositoryId) -> ContentKey:
        """See ports.ContentKeys."""
        key = self._key_of(repository)
        if key is None:
            return self._own
        why = self._refusal(key) and await self._refusal_now(key)
        if why:
            self._opened.pop(key.id, None)
            raise KeyRefused(repository, *why)
        return self._opened.get(key.id) or await self._open(repository, key)

    def _key_of(self, repository: RepositoryId) -> RepositoryKey | None:
        record = self._repositories.record(repository.account, repository.region, repository.name)
        return record.key if record is not None else None

    def _refusal(self, key: RepositoryKey) -> tuple[str, str] | None:
        """(KMS' code, why) when the key may not be used; None when it may."""
        where = _place(key.key_arn)
        found = self._view.table(KMS_KEY).record(*where)
        granted = self._view.table(KMS_GRANT).get(*where, key.grant_id) is not None
        return _why_not(found, granted, key, self._clock())

    async def _refusal_now(self, key: RepositoryKey) -> tuple[str, str] | None:
        """The same, asked of the server: a view may not know yet of a key that was made or enabled just now."""
        where = _place(key.key_arn)
        found = await fetch(self._bus, KMS_KEY, where)
        granted = await fetch(self._bus, KMS_GRANT, (*where, key.grant_id)) is not None
        return _why_not(found, granted, key, self._clock())

    async def _open(self, repository: RepositoryId, key: RepositoryKey) -> ContentKey:
        opening = self._opening.get(key.id)
        if opening is None:
            opening = self._opening[key.id] = asyncio.create_task(self._asked(repository, key))
            opening.add_done_callback(lambda _: self._opening.pop(key.id, None))
        return await asyncio.shield(opening)

    async def _asked(self, repository: RepositoryId, key: RepositoryKey) -> ContentKey:
        asker = Asker()
        request = OpenDataKey(
            service=ECR,
            key_arn=key.key_arn,
            wrapped=key.wrapped,
            context=encryption_context(repository),
            public_key=_public(asker),
        )
        try:
            reply = await self._bus.call(OPEN_DATA_KEY, request)
            secret = asker.open(base64.b64decode(reply.sealed), key.wrapped)
        except CommandRefused as refused:
            raise KeyRefused(repository, refused.code, refused.message) from None
        except CannotOpen:
            raise StateUnavailable("The repository's data key could not be read; try again") from None
        found = self._opened[key.id] = ContentKey(bytes.fromhex(key.id), secret)
        return found

    async def make(self, repository: RepositoryId, key: str, granter: Granter) -> RepositoryKey:
        """See ports.RepositoryKeys."""
        asker = Asker()
        granted = await self._grant(repository, key, granter, asker)
        made = RepositoryKey(
            id=os.urandom(KEY_ID).hex(), key_arn=granted.key_arn, grant_id=granted.grant_id, wrapped=granted.wrapped
        )
        secret = asker.open(base64.b64decode(granted.sealed), granted.wrapped)
        self._opened[made.id] = ContentKey(bytes.fromhex(made.id), secret)
        return made

    async def check(self, repository: RepositoryId, key: str, granter: Granter) -> str:
        """See ports.RepositoryKeys."""
        return (await self._grant(repository, key, granter, None)).key_arn

    async def _grant(self, repository: RepositoryId, key: str, granter: Granter, asker: Asker | None) -> GrantedDataKey:
        request = GrantDataKey(
            service=ECR,
            account=repository.account,
            region=repository.region,
            key=key,
            principal=granter.principal,
            session=granter.session,
            role=granter.role,
            context=encryption_context(repository),
            public_key=_public(asker) if asker is not None else "",
            only_check=asker is None,
        )
        try:
            return await self._bus.call(GRANT_DATA_KEY, request)
        except CommandRefused as refused:
            raise KeyRefused(repository, refused.code, refused.message) from None

    async def retire(self, key: RepositoryKey) -> None:
        """See ports.RepositoryKeys. A grant that can't be ended now is left: it allows no more than to open the key of
        what is not there any more."""
        self._opened.pop(key.id, None)
        request = RetireDataKey(service=ECR, key_arn=key.key_arn, grant_id=key.grant_id)
        try:
            await self._bus.call(RETIRE_DATA_KEY, request)
        except (CommandRefused, StateUnavailable) as error:
            log.warning("data_key.not_retired", key=key.key_arn, grant=key.grant_id, error=str(error))

    @classmethod
    async def open(
        cls, own: ContentKey, bus: Bus, repositories: Table[Repository], clock: Clock, *, sealed: bool = True
    ) -> KmsContentKeys:
        """Read the state of all KMS keys, and follow. `sealed`: the own key is used for what is stored from now on."""
        return cls(own, bus, repositories, await View.open(bus, KMS_KEY, KMS_GRANT), clock, sealed=sealed)

    async def close(self) -> None:
        """Stop following."""
        await self._view.close()


def encryption_context(repository: RepositoryId) -> dict[str, str]:
    """What a repository's data key is bound to, as ECR's are."""
    return {"aws:ecr:arn": repository.arn}


def _place(arn: str) -> tuple[str, str, str]:
    parts = arn.split(":", 5)
    return parts[4], parts[3], parts[5].removeprefix("key/")


def _why_not(found: KmsKey | None, granted: bool, key: RepositoryKey, now: float) -> tuple[str, str] | None:
    if found is None or (found.deletion_at is not None and found.deletion_at <= now):
        return "NotFoundException", f"the KMS key {key.key_arn} was deleted: what was encrypted under it is lost"
    if found.deletion_at is not None:
        return "KMSInvalidStateException", f"the KMS key {key.key_arn} is pending deletion"
    if not found.enabled:
        return "DisabledException", f"the KMS key {key.key_arn} is disabled"
    if not granted:
        return "AccessDeniedException", f"the grant of ECR for the KMS key {key.key_arn} was revoked"
    return None


def _public(asker: Asker) -> str:
    return base64.b64encode(asker.public).decode()
