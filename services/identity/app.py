"""Identity, put together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import structlog
from aiohttp import web

from contracts.records.identity import ACCESS_KEY, KINDS, SECRET
from contracts.rpc.identity import (
    ISSUE_SESSION,
    READ_REGISTRY_LOGIN,
    REGISTER_NODE,
    RESOLVE_SECRETS,
    STORE_SESSION_LOG,
)
from contracts.rpc.kms import GRANT_DATA_KEY, OPEN_DATA_KEY, RETIRE_DATA_KEY
from contracts.subjects import NODE_LOGINS
from services.identity.adapters import Credentials, choose, read_credentials, write_credentials
from services.identity.api import Activations, Iam, Kms, Parameters, Secrets, SecurityTokens
from services.identity.decisions import ROOT_ACCOUNT, expired, new_pair, root_key
from services.identity.handlers import (
    DataKeys,
    Injection,
    KmsAccess,
    KmsKeys,
    Nodes,
    Objects,
    RegistryLogins,
    Resources,
    Sessions,
    Values,
)
from services.identity.settings import IdentitySettings
from services.shared.aws.context import RequestContext
from services.shared.aws.mount import AwsDoor
from services.shared.aws.service import AwsService
from services.shared.bus import Conflict
from services.shared.errors import StateUnavailable
from services.shared.keys import KeyRing
from services.shared.managed_nodes import ManagedNodes
from services.shared.nats_users import Issuer
from services.shared.runner import App, Host
from services.shared.s3 import S3Settings
from services.shared.sealing import Vault
from services.shared.state import Store

log = structlog.get_logger()

CREDENTIALS_FILE = "credentials.json"
VALUES_KEY = "values.key"


class IdentityApp(App):
    """Owns the access keys; answers STS; gives tasks their sessions."""

    name = "identity"

    def __init__(self, host: Host, settings: IdentitySettings, s3: S3Settings | None = None) -> None:
        super().__init__(host)
        self._settings = settings
        self._s3 = s3 or S3Settings()

    async def start(self) -> None:
        """Open the keys, make the account's own if there is none, answer."""
        self._store = await Store.open(self.host.bus, KINDS)
        await self._ensure_root_key()
        self._keys = await KeyRing.open(self.host.bus)
        clock, store = self.host.clock, self._store
        vault = Vault.open(self.host.data / "identity" / VALUES_KEY)
        values = Values(store, vault)
        self.kms = KmsKeys(store, vault, clock)
        access = KmsAccess(self.kms, self._keys.authorization)
        sessions = Sessions(store, self._keys.authorization, clock, choose)
        self._objects = Objects(self._s3, sessions, self._keys.authorization)
        injection = Injection(sessions, self._keys.authorization, values, self._objects)
        self._members = await ManagedNodes.open(self.host.bus)
        nodes = Nodes(store, self._members, sessions, injection, self._objects, Issuer(self.host.bus.password), clock)
        services: list[AwsService] = [
            SecurityTokens(store, store.table(ACCESS_KEY), sessions),
            Iam(store, clock, choose),
            Secrets(store, values, clock, choose),
            Parameters(store, values, clock),
            Activations(store, nodes, clock, choose),
            Kms(store, self.kms, access, clock),
        ]
        resolve = Resources(store).complete

        async def may(context: RequestContext, request: Any) -> None:
            if context.api == "kms":
                await access.check(context, request)
            else:
                await self._keys.authorization.check(context, request, resolve)

        self._door = AwsDoor(self.host, services, self._keys, may=may)
        self.aws_server = self._door.server
        await self._serve(sessions, injection, nodes)
        await self.host.bus.serve(READ_REGISTRY_LOGIN, RegistryLogins(values).read)
        await self._serve_data_keys(DataKeys(self.kms, access))
        self.host.bus.spawn(self._sweep(), "sweep")

    async def _serve_data_keys(self, data_keys: DataKeys) -> None:
        await self.host.bus.serve(GRANT_DATA_KEY, data_keys.grant)
        await self.host.bus.serve(OPEN_DATA_KEY, data_keys.open)
        await self.host.bus.serve(RETIRE_DATA_KEY, data_keys.retire)

    async def _serve(self, sessions: Sessions, injection: Injection, nodes: Nodes) -> None:
        bus = self.host.bus
        await bus.serve(ISSUE_SESSION, sessions.for_task)
        await bus.serve(RESOLVE_SECRETS, injection.resolve)
        await bus.serve(STORE_SESSION_LOG, self._objects.store_session_log)
        await bus.serve(REGISTER_NODE, nodes.register)
        await bus.serve_nodes(ISSUE_SESSION, nodes.issue_session)
        await bus.serve_nodes(RESOLVE_SECRETS, nodes.resolve_secrets)
        await bus.serve_nodes(STORE_SESSION_LOG, nodes.store_session_log)
        await bus.subscribe(NODE_LOGINS, nodes.on_login, queue="identity")

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The AWS APIs."""
        return self._door.routes()

    async def _ensure_root_key(self) -> None:
        path = self.host.data / CREDENTIALS_FILE
        found = read_credentials(path)
        if self._settings.insecure_test_keys:
            pair = ("test", "test")
        elif self._settings.access_key_id:
            pair = (self._settings.access_key_id, self._settings.secret)
        elif found is not None and found.access_key_id != "test":
            pair = (found.access_key_id, found.secret)
        else:
            pair = new_pair("AKIA", choose)
        await self._drop_test_key(keep=pair[0])
        key = root_key(*pair, self.host.clock())
        entry = self._store.table(ACCESS_KEY).get(key.access_key_id)
        if entry is None or entry.record.secret != key.secret:
            await self._store.put(ACCESS_KEY, key, "access_key.created.v1")
        credentials = Credentials(access_key_id=pair[0], secret=pair[1], account=ROOT_ACCOUNT)
        if credentials != found:
            write_credentials(path, credentials)

    async def _drop_test_key(self, keep: str) -> None:
        """A platform that was once started with test/test must not go on accepting it."""
        if keep != "test":
            await self._store.delete(ACCESS_KEY, ("test",), "access_key.deleted.v1")

    async def _sweep(self) -> None:
        """Delete sessions that are over. Doors refuse them anyway: this only keeps the table small."""
        while True:
            over, following = expired(self._store.table(ACCESS_KEY).records(), self.host.clock())
            for key in over:
                try:
                    await self._store.delete(ACCESS_KEY, (key.access_key_id,), "session.expired.v1")
                except (Conflict, StateUnavailable) as error:
                    log.warning("session.sweep_failed", error=str(error))
            await self._delete_due_secrets()
            await self.kms.sweep()
            wait = 600.0 if following is None else following - self.host.clock()
            await asyncio.sleep(max(60.0, min(wait, 600.0)))

    async def _delete_due_secrets(self) -> None:
        for secret in self._store.table(SECRET).records():
            if secret.deletion_at is not None and secret.deletion_at <= self.host.clock():
                try:
                    await self._store.delete(SECRET, SECRET.key_of(secret), "secret.deleted.v1")
                except (Conflict, StateUnavailable) as error:
                    log.warning("secret.delete_failed", secret=secret.arn, error=str(error))

    async def stop(self) -> None:
        """Let go."""
        for part in ("_objects", "_members", "_keys", "_store"):
            if hasattr(self, part):
                await getattr(self, part).close()
