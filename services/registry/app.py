"""The registry, put together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
from aiohttp import web

from contracts.records.registry import IMAGE, KINDS, REPOSITORY
from contracts.rpc.registry import ISSUE_ATTACH_TOKEN, ISSUE_PULL_TOKEN, IssuePullToken, PullToken
from services.registry.adapters import load_key
from services.registry.adapters.content_keys import KmsContentKeys, own_key
from services.registry.adapters.installations import HttpsInstallations
from services.registry.adapters.logins import SecretLogins
from services.registry.adapters.memory import share_buffers
from services.registry.adapters.running import RunningTasks
from services.registry.adapters.sealed import SealedBlobs
from services.registry.adapters.signing import SealedKeys
from services.registry.adapters.storage import open_storage
from services.registry.adapters.tls import serving_context
from services.registry.adapters.upstream import HttpUpstream
from services.registry.api import Ecr
from services.registry.controllers import (
    BackfillController,
    Cleaner,
    ImageController,
    LifecycleController,
    PullWriter,
    SendingController,
)
from services.registry.decisions.names import RepositoryId
from services.registry.handlers.access import Access
from services.registry.handlers.arrivals import Arrivals
from services.registry.handlers.backfills import Backfills
from services.registry.handlers.cache import ManifestCache
from services.registry.handlers.ecr_upstream import EcrUpstream
from services.registry.handlers.gates import Gates, Where
from services.registry.handlers.images import Images
from services.registry.handlers.lifecycle import Lifecycle
from services.registry.handlers.parts import RegistryParts
from services.registry.handlers.peers import Grants, Peers
from services.registry.handlers.policies import Policies
from services.registry.handlers.pull_through import PullThrough
from services.registry.handlers.pushes import Pushes
from services.registry.handlers.replicas import Replicas
from services.registry.handlers.replication import Replication
from services.registry.handlers.repositories import Repositories
from services.registry.handlers.roles import Roles
from services.registry.handlers.scanning import Scanning
from services.registry.handlers.sending import Sending
from services.registry.handlers.settings import Settings
from services.registry.handlers.signing import ManagedSigning
from services.registry.handlers.telling import Telling
from services.registry.handlers.templates import ByTemplate, Prefixed
from services.registry.routes import Distribution
from services.registry.routes.peers import PeerDoor
from services.registry.settings import RegistrySettings
from services.shared.aws.mount import AwsDoor
from services.shared.aws.service import AwsService
from services.shared.certificates import CA_FILE
from services.shared.errors import AccessDenied
from services.shared.keys import KeyRing
from services.shared.managed_nodes import ManagedNodes
from services.shared.runner import App, Host, Tls
from services.shared.sealing import Vault
from services.shared.settings import SettingsError
from services.shared.state import Store


class RegistryApp(App):
    """Owns repositories, images and their blobs; answers ECR and OCI distribution on one port."""

    name = "registry"

    def __init__(self, host: Host, settings: RegistrySettings) -> None:
        super().__init__(host)
        self._settings = settings
        self.aws_services: list[AwsService] = []

    @property
    def ca_file(self) -> Path | None:
        """The certificate that clients of its HTTPS port are to trust, when it is of an authority of its own."""
        settings = self._settings
        if settings.https_port is None or settings.tls_certificate:
            return None
        return self.host.data / "registry" / "tls" / CA_FILE

    async def start(self) -> None:
        """Open state and blobs, finish what broke off, answer."""
        host, settings = self.host, self._settings
        root = host.data / "registry"
        share_buffers()
        if settings.https_port is not None:
            self.tls = Tls(settings.https_port, serving_context(settings, root / "tls", host.clock()))
        self._store = await Store.open(host.bus, KINDS)
        storage = await open_storage(root, settings)
        try:
            own = await own_key(Path(settings.content_key_file or root / "content.key"), storage)
        except SettingsError:
            await storage.close()
            raise
        self._content_keys = await KmsContentKeys.open(
            own, host.bus, self._store.table(REPOSITORY), host.clock, sealed=settings.sealed
        )
        self._blobs = SealedBlobs(storage, self._content_keys)
        self._keys = await KeyRing.open(host.bus)
        repositories = Repositories(self._store, self._blobs, self._content_keys, host.clock)
        registries = Settings(self._store)
        policies = Policies(self._keys.authorization, repositories, registries)
        access = Access(
            load_key(root / "token.key"),
            host.clock,
            policies,
            advertised=settings.advertised or f"localhost:{host.http_port}",
            pull_host=settings.pull_host,
            own_hosts=settings.own_hosts,
        )
        cache = ManifestCache(settings.manifest_cache_mib * 1024 * 1024)
        images = Images(self._store, self._blobs, repositories, cache, host.clock)
        await repositories.clear_orphans()
        prefixed = Prefixed(self._store)
        roles = Roles(self._keys.authorization)
        by_template = ByTemplate(repositories, prefixed, policies, roles)
        self._open_ways(roles, policies, repositories, images)
        pull_through = PullThrough(self._upstream, prefixed, by_template, images, self._blobs, host.clock)
        self._members = await ManagedNodes.open(host.bus)
        self.gates = await Gates.open(host.bus, images, host.clock, settings.gate_wait_s)
        keys = SealedKeys(Vault.open(root / "signing.key"))
        signing = ManagedSigning(self._store, keys, registries, policies, images, self._blobs, host.clock)
        self.parts = RegistryParts(
            repositories,
            images,
            self._blobs,
            access,
            pull_through,
            registries,
            signing,
            replicas=Replicas(repositories, policies, by_template),
            grants=Grants(self._store, host.clock),
            pushes=Pushes(repositories, prefixed, policies, by_template),
            arrivals=Arrivals(),
        )
        self._open_doors(policies, prefixed)
        await self._serve(access, pull_through)
        self._telling = Telling(host.bus, images).consumer()
        await self._telling.start()
        self._begin(images)

    async def _serve(self, access: Access, pull_through: PullThrough) -> None:
        """What other services ask for."""
        bus = self.host.bus
        await bus.serve(
            ISSUE_PULL_TOKEN,
            lambda request: access.issue_pull_token(request, pull_through.digest_of, self._admit),
            at_once=True,
        )
        await bus.serve(
            ISSUE_ATTACH_TOKEN, lambda request: access.issue_attach_token(request, pull_through.digest_of), at_once=True
        )

        async def pull_for_node(node: str, request: IssuePullToken) -> PullToken:
            request = await self._require_task(node, request)
            return await access.issue_pull_token(request, pull_through.digest_of, self._admit)

        await bus.serve_nodes(ISSUE_PULL_TOKEN, pull_for_node)

    async def _require_task(self, node: str, request: IssuePullToken) -> IssuePullToken:
        """An external node pulls what a task on it names, and nothing else; the request, of that task's cluster. Raises
        AccessDenied."""
        task, definition = await self._members.task(node, request.task)
        named = {container["image"] for container in definition.definition["containerDefinitions"]}
        where = (request.account, request.region)
        if request.image not in named or where != (task.account, task.region) or not request.to_run:
            raise AccessDenied(f"The task {task.id} does not name the image {request.image}.")
        return msgspec.structs.replace(request, cluster=task.cluster)

    def _open_doors(self, policies: Policies, prefixed: Prefixed) -> None:
        """Both APIs over the parts."""
        host, settings = self.host, self._settings
        repositories, images, access = self.parts.repositories, self.parts.images, self.parts.access
        scanning = Scanning(host.bus, self._store, self.gates)
        self._open_peers()
        self._backfills = Backfills(self._store, self.parts.settings, images, self._replication, host.clock)
        self.lifecycle = Lifecycle(repositories, images, RunningTasks(host.bus), access.hosts, host.clock)
        self.aws_services = [
            Ecr(
                self.parts,
                scanning,
                self.lifecycle,
                policies,
                self._replication,
                self._backfills,
                prefixed,
                self._upstream,
                self._content_keys,
                host.clock,
            )
        ]
        self._distribution = Distribution(self.parts, host.metrics, host.clock)
        self._door = AwsDoor(host, self.aws_services, self._keys, may=policies.check)
        self.aws_server = self._door.server
        self.cleaner = Cleaner(self._store.table(REPOSITORY), repositories, images, self._blobs, settings)

    def _open_ways(self, roles: Roles, policies: Policies, repositories: Repositories, images: Images) -> None:
        """The ways to other registries: upstreams, and other installations."""
        host = self.host
        vault = Vault.open(host.data / "registry" / "peers.key")
        self._peers = Peers(self._store, vault, host.clock)
        self._installations = HttpsInstallations(vault, host.clock)
        self._http = HttpUpstream(SecretLogins(host.bus))
        self._upstream = EcrUpstream(
            self._http, self._installations, self._peers, roles, policies, repositories, images, self._blobs
        )

    def _open_peers(self) -> None:
        """What is sent to other installations, and their way here."""
        host, parts, peers = self.host, self.parts, self._peers
        sending = Sending(
            self._store,
            peers,
            parts.repositories,
            parts.replicas,
            parts.images,
            parts.blobs,
            self._installations,
            parts.settings,
            host.clock,
        )
        self._replication = Replication(parts.images, parts.blobs, parts.settings, parts.replicas, sending)
        self.sender = SendingController(sending, self._replication, self._store, host.clock)
        host.metrics.observed(
            "replication_waiting_images",
            "Images that wait to be sent to an installation",
            ("peer",),
            self.sender.waiting,
        )
        self._peer_door = PeerDoor(
            peers,
            parts.grants,
            parts.access,
            self._installations,
            host.data / "registry" / "door.key",
            standing=self.sender.standing,
            poke=self.sender.poke,
        )

    async def _admit(self, request: IssuePullToken, repository: RepositoryId, digest: str | None) -> None:
        """The scan gate, over all that an index of a cache leads to."""
        where = Where(request.account, request.region, request.cluster)
        if self.gates.over(repository, where):
            await self.parts.pull_through.whole(repository, digest)
        await self.gates.admit(repository, digest, where)

    def _begin(self, images: Images) -> None:
        """What goes on by itself."""
        host, settings = self.host, self._settings
        rules = LifecycleController(
            self.lifecycle, self._store.table(REPOSITORY), host.clock, settings.lifecycle_delay_s
        )
        self._store.listen(rules.heard)
        every, signing = self._store.table(IMAGE), self.parts.signing
        replicate, targets = self._replication.replicate, self._replication.targets_here
        replication = ImageController("replication", targets, replicate, every, images.indexes_of)
        self._store.listen(replication.heard)
        self._store.listen(self.sender.heard)
        signer = ImageController("signing", signing.pending, signing.sign, every)
        self._store.listen(signer.heard)
        backfills = BackfillController(self._backfills)
        self._store.listen(backfills.heard)
        self._pulls = images.pulls
        writer = PullWriter(images.pulls, settings.pull_times_every_s)
        self._work = [
            host.bus.spawn(self.cleaner.run(), "clean"),
            host.bus.spawn(rules.run(), "lifecycle"),
            host.bus.spawn(writer.run(), "pulls"),
            host.bus.spawn(replication.run(), "replication"),
            host.bus.spawn(self.sender.run(), "sending"),
            host.bus.spawn(signer.run(), "signing"),
            host.bus.spawn(backfills.run(), "backfills"),
        ]

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """/v2/, layers by URL, and the ECR API for all else."""
        return [*self._distribution.routes(), *self._peer_door.routes(), *self._door.routes()]

    async def stop(self) -> None:
        """Let go."""
        if hasattr(self, "_telling"):
            await self._telling.stop()
        work = getattr(self, "_work", [])
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        if hasattr(self, "parts"):
            await self.parts.pull_through.close()
            await self._http.close()
        if hasattr(self, "_installations"):
            await self._installations.close()
        if hasattr(self, "_pulls"):
            await self._pulls.write()
        if hasattr(self, "_distribution"):
            self._distribution.close()
        for part in ("gates", "_members", "_keys", "_content_keys", "_store"):
            if hasattr(self, part):
                await getattr(self, part).close()
        if hasattr(self, "_blobs"):
            await self._blobs.close()
