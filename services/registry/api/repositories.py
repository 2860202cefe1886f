"""ECR: repositories, their tags and settings, and the token to log in with."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import msgspec

from contracts.aws import ecr
from contracts.records.registry import Repository
from services.registry.api.base import EcrOperations
from services.registry.decisions.names import RepositoryId, parse_arn
from services.registry.decisions.pages import BadToken, page
from services.registry.decisions.tokens import USERNAME
from services.registry.handlers import errors
from services.registry.handlers.policies import granter_of
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError, NotImplementedYet

MAX_TAGS = 50
MAX_WILDCARDS = 2
PAGE = 100


class RepositoryOperations(EcrOperations):
    """CreateRepository and what goes with it."""

    async def create_repository(
        self, context: RequestContext, request: ecr.CreateRepositoryRequest
    ) -> ecr.CreateRepositoryResponse:
        """Make a repository."""
        repository = self._id(context, request.registry_id, request.repository_name)
        encryption = request.encryption_configuration
        check_encryption(context.operation, encryption)
        exclusions = request.image_tag_mutability_exclusion_filters or []
        check_exclusions(request.image_tag_mutability, [each.filter for each in exclusions])
        settings = {
            name: msgspec.to_builtins(value)
            for name, value in (
                ("imageTagMutability", request.image_tag_mutability),
                ("imageTagMutabilityExclusionFilters", request.image_tag_mutability_exclusion_filters),
                ("imageScanningConfiguration", request.image_scanning_configuration),
                ("encryptionConfiguration", encryption),
            )
            if value is not None
        }
        record = await self._repositories.create(
            repository, settings, merged_tags({}, request.tags or []), granter=granter_of(context)
        )
        return ecr.CreateRepositoryResponse(repository=self._shown(record))

    async def describe_repositories(
        self, context: RequestContext, request: ecr.DescribeRepositoriesRequest
    ) -> ecr.DescribeRepositoriesResponse:
        """Repositories by name, or all in pages."""
        account = self._account(context, request.registry_id)
        if request.repository_names:
            if request.next_token or request.max_results:
                raise AwsError(
                    "InvalidParameterException", "repositoryNames can't be used with nextToken or maxResults"
                )
            found = [
                self._repositories.get(RepositoryId(account, context.region, name))
                for name in dict.fromkeys(request.repository_names)
            ]
            return ecr.DescribeRepositoriesResponse(repositories=[self._shown(record) for record in found])
        try:
            records, token = page(
                self._repositories.all(account, context.region),
                lambda record: (record.name,),
                request.max_results or PAGE,
                request.next_token,
            )
        except BadToken as error:
            raise errors.invalid_parameter("nextToken", str(error)) from None
        return ecr.DescribeRepositoriesResponse(repositories=[self._shown(r) for r in records], next_token=token)

    async def delete_repository(
        self, context: RequestContext, request: ecr.DeleteRepositoryRequest
    ) -> ecr.DeleteRepositoryResponse:
        """Delete a repository; with `force` also one that has images."""
        repository = self._id(context, request.registry_id, request.repository_name)
        record = await self._repositories.delete(repository, force=bool(request.force))
        return ecr.DeleteRepositoryResponse(repository=self._shown(record))

    async def put_image_tag_mutability(
        self, context: RequestContext, request: ecr.PutImageTagMutabilityRequest
    ) -> ecr.PutImageTagMutabilityResponse:
        """Say which tags may be moved."""
        repository = self._id(context, request.registry_id, request.repository_name)
        filters = request.image_tag_mutability_exclusion_filters
        check_exclusions(request.image_tag_mutability, [each.filter for each in filters or ()])
        await self._repositories.change_settings(
            repository,
            {
                "imageTagMutability": request.image_tag_mutability,
                "imageTagMutabilityExclusionFilters": msgspec.to_builtins(filters),
            },
            "repository.tag_mutability_changed.v1",
        )
        return ecr.PutImageTagMutabilityResponse(
            registry_id=repository.account,
            repository_name=repository.name,
            image_tag_mutability=request.image_tag_mutability,
            image_tag_mutability_exclusion_filters=filters,
        )

    async def tag_resource(self, context: RequestContext, request: ecr.TagResourceRequest) -> ecr.TagResourceResponse:
        """Add tags to a repository, or change their values."""
        repository = self._by_arn(context, request.resource_arn)

        def tagged(old: Repository) -> Repository:
            return msgspec.structs.replace(old, tags=merged_tags(old.tags, request.tags))

        await self._repositories.change(repository, tagged, "repository.tagged.v1")
        return ecr.TagResourceResponse()

    async def untag_resource(
        self, context: RequestContext, request: ecr.UntagResourceRequest
    ) -> ecr.UntagResourceResponse:
        """Take tags off a repository."""
        repository = self._by_arn(context, request.resource_arn)
        gone = set(request.tag_keys)

        def untagged(old: Repository) -> Repository:
            return msgspec.structs.replace(old, tags={k: v for k, v in old.tags.items() if k not in gone})

        await self._repositories.change(repository, untagged, "repository.untagged.v1")
        return ecr.UntagResourceResponse()

    async def list_tags_for_resource(
        self, context: RequestContext, request: ecr.ListTagsForResourceRequest
    ) -> ecr.ListTagsForResourceResponse:
        """The tags of a repository."""
        record = self._repositories.get(self._by_arn(context, request.resource_arn))
        return ecr.ListTagsForResourceResponse(tags=[ecr.Tag(key=k, value=v) for k, v in record.tags.items()])

    async def get_authorization_token(
        self, context: RequestContext, request: ecr.GetAuthorizationTokenRequest
    ) -> ecr.GetAuthorizationTokenResponse:
        """What `docker login` takes, for twelve hours."""
        token, expires_at = self._access.issue(
            context.account, context.principal_arn, context.access_key_id if context.session else ""
        )
        data = ecr.AuthorizationData(
            authorization_token=base64.b64encode(f"{USERNAME}:{token}".encode()).decode(),
            expires_at=expires_at,
            proxy_endpoint=self._access.endpoint,
        )
        # One token opens all registries, as far as their policies let its bearer in.
        return ecr.GetAuthorizationTokenResponse(authorization_data=[data] * len(request.registry_ids or [""]))

    def _by_arn(self, context: RequestContext, arn: str) -> RepositoryId:
        found = parse_arn(arn)
        if found is None or found.region != context.region:
            raise errors.invalid_parameter("resourceArn", f"'{arn}' is not a repository of {context.region}")
        return self._existing(context, found.account, found.name)

    def _shown(self, record: Repository) -> ecr.Repository:
        repository = RepositoryId(record.account, record.region, record.name)
        settings = {
            "imageTagMutability": "MUTABLE",
            "imageScanningConfiguration": {"scanOnPush": False},
            "encryptionConfiguration": {"encryptionType": "AES256"},
            **record.settings,
        }
        shown = msgspec.convert(settings, ecr.Repository)
        return msgspec.structs.replace(
            shown,
            repository_arn=repository.arn,
            registry_id=record.account,
            repository_name=record.name,
            repository_uri=self._access.uri(repository),
            created_at=record.created_at,
        )


def merged_tags(old: dict[str, str], tags: list[ecr.Tag]) -> dict[str, str]:
    """The tags with others added. Raises InvalidTagParameterException, TooManyTagsException."""
    merged = {**old, **{tag.key: tag.value for tag in tags}}
    for tag in tags:
        if not 1 <= len(tag.key) <= 128 or len(tag.value) > 256 or tag.key.lower().startswith("aws:"):
            raise AwsError("InvalidTagParameterException", f"The tag with key '{tag.key}' is not valid")
    if len(merged) > MAX_TAGS:
        raise AwsError("TooManyTagsException", f"A repository can't have more than {MAX_TAGS} tags")
    return merged


def check_encryption(
    operation: str,
    encryption: ecr.EncryptionConfiguration | ecr.EncryptionConfigurationForRepositoryCreationTemplate | None,
) -> None:
    """Raises unless content can be encrypted so."""
    if encryption is None:
        return
    if encryption.encryption_type == "KMS_DSSE":
        raise NotImplementedYet("ECR", operation, "KMS_DSSE encryption does not exist; KMS does")
    if encryption.encryption_type == "AES256" and encryption.kms_key:
        raise errors.invalid_parameter("encryptionConfiguration", "a kmsKey goes with the encryptionType KMS, only")


def check_exclusions(mutability: str | None, patterns: Sequence[str]) -> None:
    """Raises unless there are exclusion filters just where the mutability has exclusions, none with too many
    wildcards."""
    if (mutability or "").endswith("_WITH_EXCLUSION") != bool(patterns):
        raise errors.invalid_parameter(
            "imageTagMutabilityExclusionFilters", "filters go with a mutability that ends in _WITH_EXCLUSION, only"
        )
    for pattern in patterns:
        if pattern.count("*") > MAX_WILDCARDS:
            raise errors.invalid_parameter(
                "imageTagMutabilityExclusionFilters", f"a filter can't have more than {MAX_WILDCARDS} wildcards"
            )
