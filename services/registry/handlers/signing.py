"""Managed signing: what is pushed under a rule is signed, and the signature refers to it."""

from __future__ import annotations

import base64
import textwrap
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import structlog
from msgspec.structs import replace

from contracts.records.registry import IMAGE, SIGNING_PROFILE, Image, Signing, SigningProfile
from services.registry.decisions.names import RepositoryId
from services.registry.decisions.signing import (
    CONFIG,
    Profile,
    candidates,
    envelope,
    parse_profile,
    profiles_for,
    read_envelope,
    signature_manifest,
    unsigned,
)
from services.registry.handlers.images import Images
from services.registry.handlers.policies import Asker, Policies
from services.registry.handlers.settings import Settings
from services.registry.ports import BlobStore, CannotSign, SigningKeys, StorageFull
from services.shared import telemetry
from services.shared.clock import Clock
from services.shared.errors import AccessDenied, AwsError
from services.shared.policies.demands import Demand
from services.shared.state import Conflict, Store

log = structlog.get_logger()

PROFILES_PATH = "/signing-profiles"
"""Where certificates of profiles are to be had."""


class ManagedSigning:
    """The profiles, and what is signed with them."""

    def __init__(
        self,
        store: Store,
        keys: SigningKeys,
        settings: Settings,
        policies: Policies,
        images: Images,
        blobs: BlobStore,
        clock: Clock,
    ) -> None:
        self._store = store
        self._keys = keys
        self._settings = settings
        self._policies = policies
        self._images = images
        self._blobs = blobs
        self._clock = clock

    def profile(self, arn: str) -> SigningProfile | None:
        """The profile, if a configuration ever named it."""
        found = parse_profile(arn)
        return self._store.table(SIGNING_PROFILE).record(*found) if found else None

    def certificate(self, profile: Profile) -> str | None:
        """A profile's certificate, in PEM (RFC 7468)."""
        found = self._store.table(SIGNING_PROFILE).record(*profile)
        if found is None:
            return None
        lines = textwrap.wrap(found.certificate, 64)
        return "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""])

    async def configure(self, account: str, region: str, rules: list[dict[str, Any]]) -> None:
        """Set the rules, for what is pushed from now on. A profile that is named for the first time gets its key."""
        for arn in {rule["signingProfileArn"]: None for rule in rules}:
            found = parse_profile(arn)
            if found is not None and self.profile(arn) is None:
                await self._make(found, arn)
        await self._settings.set_signing(account, region, rules)

    async def _make(self, profile: Profile, arn: str) -> None:
        now = self._clock()
        sealed, certificate = self._keys.make(arn, now)
        record = SigningProfile(
            account=profile.account,
            region=profile.region,
            name=profile.name,
            created_at=now,
            sealed_key=base64.b64encode(sealed).decode(),
            certificate=base64.b64encode(certificate).decode(),
        )
        try:
            await self._store.put(SIGNING_PROFILE, record, "signing_profile.created.v1", expect=0)
        except Conflict:
            log.info("signing_profile.there_already", profile=arn)

    def wanted(
        self, repository: RepositoryId, asker: Asker, keys: Callable[[], dict[str, tuple[str, ...]]]
    ) -> list[Signing]:
        """What a push by this caller is to be signed with. They must be allowed to sign with the profile, or else that
        is what the image's status tells."""
        rules = self._settings.get(repository.account, repository.region).signing or []
        return [self._judged(arn, asker, keys) for arn in profiles_for(rules, repository.name)]

    def _judged(self, arn: str, asker: Asker, keys: Callable[[], dict[str, tuple[str, ...]]]) -> Signing:
        try:
            self._policies.require_own(asker, Demand("signer:SignPayload", arn), arn.split(":")[4], keys)
        except AccessDenied as denied:
            return Signing(profile=arn, failure_code=denied.code, failure_reason=denied.message)
        return Signing(profile=arn)

    @staticmethod
    def pending(repository: RepositoryId, image: Image) -> bool:
        """Whether it is to be signed."""
        return any(not each.signature and not each.failure_code for each in image.signings)

    async def sign(self, repository: RepositoryId, digest: str) -> None:
        """Sign an image with all profiles that it is still to be signed with. Raises StateUnavailable, Conflict: then
        it is to be done again."""
        image = self._images.find(repository, digest)
        for each in image.signings if image is not None else ():
            if image is not None and not each.signature and not each.failure_code:
                with telemetry.span("registry.sign", repository=repository.name, profile=each.profile):
                    await self._record(repository, digest, await self._signed(repository, image, each.profile))

    async def _signed(self, repository: RepositoryId, image: Image, arn: str) -> Signing:
        try:
            return Signing(profile=arn, signature=await self._signature(repository, image, arn))
        except (CannotSign, StorageFull) as error:
            code, reason = type(error).__name__, str(error)
        except AwsError as error:
            if error.status == 503:
                raise
            code, reason = error.code, error.message
        log.warning("signing.failed", repository=repository.name, image=image.digest, profile=arn, error=reason)
        return Signing(profile=arn, failure_code=code, failure_reason=reason)

    async def _signature(self, repository: RepositoryId, image: Image, arn: str) -> str:
        """The digest of the signature: of one that a crash let nobody know of, or a new one."""
        profile = self.profile(arn)
        if profile is None:
            raise CannotSign("the profile has no key")
        certificate = base64.b64decode(profile.certificate)
        there = await self._there(repository, image, certificate)
        if there:
            return there
        now = self._clock()
        parts = unsigned(image, now)
        signature = self._keys.sign(arn, base64.b64decode(profile.sealed_key), parts.signed)
        content = envelope(parts, signature, certificate)
        for blob in (CONFIG, content):
            await self._blobs.put(repository, "sha256:" + sha256(blob).hexdigest(), blob)
        manifest = signature_manifest(image, content, certificate, now)
        return (await self._images.push(repository, manifest, "")).digest

    async def _there(self, repository: RepositoryId, image: Image, certificate: bytes) -> str:
        """The digest of a signature that this certificate verifies; empty when there is none."""
        for each in candidates(self._images.referrers(repository, image.digest), certificate):
            data = await self._blobs.read(repository, each.layers[0].digest)
            found = read_envelope(data, image) if data is not None else None
            if found is not None and self._keys.made(certificate, *found):
                return each.digest
        return ""

    async def _record(self, repository: RepositoryId, digest: str, done: Signing) -> None:
        def changed(old: Image | None) -> Image | None:
            if old is None:
                return None
            return replace(old, signings=[done if each.profile == done.profile else each for each in old.signings])

        key = (repository.account, repository.region, repository.name, digest)
        await self._store.update(
            IMAGE, key, changed, "image.signed.v1" if done.signature else "image.signing_failed.v1"
        )
