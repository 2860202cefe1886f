"""What all areas of the API share: the registry's parts, and which repository a request means."""

from __future__ import annotations

import re

from contracts.aws import ecr
from contracts.records.registry import Image
from services.registry.decisions.names import RepositoryId, valid_digest, valid_repository
from services.registry.handlers import errors
from services.registry.handlers.backfills import Backfills
from services.registry.handlers.lifecycle import Lifecycle
from services.registry.handlers.parts import RegistryParts
from services.registry.handlers.policies import Policies, asker_of
from services.registry.handlers.replication import Replication
from services.registry.handlers.scanning import Scanning
from services.registry.handlers.templates import Prefixed
from services.registry.ports import RepositoryKeys, Upstream
from services.shared.authorization import request_keys
from services.shared.aws.context import RequestContext
from services.shared.aws.service import AwsService
from services.shared.clock import Clock
from services.shared.errors import AwsError
from services.shared.policies.demands import Demand


class EcrOperations(AwsService):
    """The base of each area."""

    api = ecr.API

    def __init__(
        self,
        parts: RegistryParts,
        scanning: Scanning,
        lifecycle: Lifecycle,
        policies: Policies,
        replication: Replication,
        backfills: Backfills,
        prefixed: Prefixed,
        upstream: Upstream,
        keys: RepositoryKeys,
        clock: Clock,
    ) -> None:
        self._scanning = scanning
        self._lifecycle = lifecycle
        self._policies = policies
        self._replication = replication
        self._backfills = backfills
        self._prefixed = prefixed
        self._upstream = upstream
        self._keys = keys
        self._clock = clock
        self._repositories, self._images, self._blobs = parts.repositories, parts.images, parts.blobs
        self._access, self._settings, self._signing = parts.access, parts.settings, parts.signing
        self._pushes, self._pull_through = parts.pushes, parts.pull_through

    def _id(self, context: RequestContext, registry_id: str | None, name: str) -> RepositoryId:
        """The repository that a request names; it need not exist. Raises AccessDeniedException for another account's,
        unless its policies let the caller do this."""
        repository = RepositoryId(registry_id or context.account, context.region, name)
        if repository.account != context.account:
            demand = Demand(f"ecr:{context.operation}", repository.arn)
            self._policies.require(asker_of(context), demand, repository, lambda: request_keys(context))
        if not valid_repository(name):
            raise errors.invalid_parameter("repositoryName", f"'{name}' is not a repository name")
        return repository

    def _existing(self, context: RequestContext, registry_id: str | None, name: str) -> RepositoryId:
        """The same, and it exists. Raises RepositoryNotFoundException too."""
        repository = self._id(context, registry_id, name)
        self._repositories.get(repository)
        return repository

    def _account(self, context: RequestContext, registry_id: str | None) -> str:
        if registry_id not in (None, context.account):
            repository = RepositoryId(registry_id or "", context.region, "*")
            raise errors.other_account(context.principal_arn, f"ecr:{context.operation}", repository)
        return context.account

    def _check_role(self, context: RequestContext, role: str | None, service: str) -> None:
        """A role that ECR is to assume is of the same account, and who hands it over may pass it on."""
        if role is None:
            return
        if re.match(rf"arn:aws[a-z-]*:iam::{context.account}:role/.", role) is None:
            raise errors.invalid_parameter("customRoleArn", f"'{role}' is no role of the account {context.account}")
        demand = Demand("iam:PassRole", role, {"iam:passedtoservice": (service,)})
        self._policies.require_of(context, demand)

    def _named(self, repository: RepositoryId, wanted: ecr.ImageIdentifier) -> Image:
        """The image that a request names. Raises InvalidParameterException, ImageNotFoundException."""
        digest, tag = wanted.image_digest, wanted.image_tag
        if digest is None and tag is None:
            raise AwsError("InvalidParameterException", "Invalid request parameters: both tag and digest are null")
        if digest is not None and not valid_digest(digest):
            raise errors.invalid_parameter("imageId.imageDigest", f"'{digest}' is not an image digest")
        image = self._images.find(repository, digest or tag or "")
        named = self._images.tagged(repository, tag) if tag is not None else None
        if image is None or (tag is not None and named != image.digest):
            raise errors.image_not_found(repository, digest, tag)
        return image
