"""The registry's errors, in ECR's codes and wording. The distribution API has its own codes for them (routes.errors).

https://docs.aws.amazon.com/AmazonECR/latest/APIReference/CommonErrors.html
"""

from __future__ import annotations

from services.registry.decisions.names import RepositoryId
from services.shared.errors import AwsError


def repository_not_found(repository: RepositoryId) -> AwsError:
    """There is no such repository."""
    return AwsError(
        "RepositoryNotFoundException",
        f"The repository with name '{repository.name}' does not exist in the registry with id '{repository.account}'",
    )


def repository_exists(repository: RepositoryId) -> AwsError:
    """There is one already."""
    return AwsError(
        "RepositoryAlreadyExistsException",
        f"The repository with name '{repository.name}' already exists in the registry with id '{repository.account}'",
    )


def repository_not_empty(repository: RepositoryId) -> AwsError:
    """It still has images."""
    return AwsError(
        "RepositoryNotEmptyException",
        f"The repository with name '{repository.name}' in registry with id '{repository.account}'"
        " cannot be deleted because it still contains images",
    )


def image_not_found(repository: RepositoryId, digest: str | None, tag: str | None) -> AwsError:
    """There is no such image."""
    return AwsError(
        "ImageNotFoundException",
        f"The image with imageId {{imageDigest:'{digest or 'null'}', imageTag:'{tag or 'null'}'}} does not exist within"
        f" the repository with name '{repository.name}' in the registry with id '{repository.account}'",
    )


def scan_not_found(repository: RepositoryId, digest: str, tag: str | None) -> AwsError:
    """The image was not scanned."""
    return AwsError(
        "ScanNotFoundException",
        f"Image scan does not exist for the image with '{{imageDigest:'{digest}', imageTag:'{tag or 'null'}'}}' in the"
        f" repository with name '{repository.name}' in the registry with id '{repository.account}'",
    )


def tag_exists(repository: RepositoryId, tag: str) -> AwsError:
    """The tag names an image and may not be moved."""
    return AwsError(
        "ImageTagAlreadyExistsException",
        f"The image tag '{tag}' already exists in the '{repository.name}' repository"
        " and cannot be overwritten because the tag is immutable.",
    )


def image_exists(repository: RepositoryId, digest: str, tag: str | None) -> AwsError:
    """Nothing would change."""
    named = f" and tag '{tag}'" if tag else ""
    return AwsError(
        "ImageAlreadyExistsException",
        f"Image with digest '{digest}'{named} already exists in the repository with name '{repository.name}'"
        f" in registry with id '{repository.account}'",
    )


def digest_does_not_match(said: str, actual: str) -> AwsError:
    """The manifest is not the one that was announced."""
    return AwsError(
        "ImageDigestDoesNotMatchException", f"Image digest '{said}' does not match the manifest's, which is '{actual}'"
    )


def layers_not_found(digests: list[str]) -> AwsError:
    """The manifest names blobs that are not in the repository."""
    return AwsError("LayersNotFoundException", f"Layers with digests '[{', '.join(digests)}]' cannot be found")


def images_not_found(digests: list[str]) -> AwsError:
    """The index names manifests that are not in the repository."""
    return AwsError(
        "ReferencedImagesNotFoundException",
        f"Images with digests '[{', '.join(digests)}]' required for pushing"
        " the image into the repository cannot be found",
    )


def upload_not_found(repository: RepositoryId, upload_id: str) -> AwsError:
    """There is no such upload."""
    return AwsError(
        "UploadNotFoundException",
        f"The upload with id '{upload_id}' does not exist in the repository with name '{repository.name}'"
        f" in the registry with id '{repository.account}'",
    )


def invalid_parameter(member: str, rule: str) -> AwsError:
    """A value does not fit, in ECR's words."""
    return AwsError(
        "InvalidParameterException", f"Invalid parameter at '{member}' failed to satisfy constraint: '{rule}'"
    )


def storage_full() -> AwsError:
    """The disk has no room. In ECR's API, where nothing else fits, it is a limit that was reached."""
    return AwsError("LimitExceededException", "The registry's disk is full: nothing of this was stored")


def other_account(principal: str, action: str, repository: RepositoryId) -> AwsError:
    """What this caller or token is not for."""
    return AwsError(
        "AccessDeniedException",
        f"User: {principal} is not authorized to perform: {action} on resource: {repository.arn} because no"
        f" resource-based policy allows the {action} action",
    )


def repository_policy_not_found(repository: RepositoryId) -> AwsError:
    """It has no policy."""
    return AwsError("RepositoryPolicyNotFoundException", _of("Repository policy", repository))


def registry_policy_not_found(account: str) -> AwsError:
    """It has no policy."""
    return AwsError(
        "RegistryPolicyNotFoundException", f"Registry policy does not exist in the registry with id '{account}'"
    )


def lifecycle_not_found(repository: RepositoryId) -> AwsError:
    """It has no lifecycle policy."""
    return AwsError("LifecyclePolicyNotFoundException", _of("Lifecycle policy", repository))


def preview_not_found(repository: RepositoryId) -> AwsError:
    """No preview was started."""
    return AwsError("LifecyclePolicyPreviewNotFoundException", _of("Lifecycle policy preview", repository))


def rule_exists(prefix: str, account: str) -> AwsError:
    """There is a rule for this prefix already."""
    return AwsError(
        "PullThroughCacheRuleAlreadyExistsException",
        f"A pull through cache rule already exists for prefix '{prefix}' in the registry with id '{account}'",
    )


def rule_not_found(prefix: str, account: str) -> AwsError:
    """There is no rule for this prefix."""
    return AwsError(
        "PullThroughCacheRuleNotFoundException",
        f"Pull through cache rule with prefix '{prefix}' does not exist in the registry with id '{account}'",
    )


def unsupported_upstream(host: str) -> AwsError:
    """This can't be the host of a registry."""
    return AwsError("UnsupportedUpstreamRegistryException", f"The upstream registry '{host}' is not supported")


def template_exists(prefix: str, account: str) -> AwsError:
    """There is a template for this prefix already."""
    return AwsError(
        "TemplateAlreadyExistsException",
        f"A repository creation template with prefix '{prefix}' already exists in the registry with id '{account}'",
    )


def template_not_found(prefix: str, account: str) -> AwsError:
    """There is no template for this prefix."""
    return AwsError(
        "TemplateNotFoundException",
        f"Repository creation template with prefix '{prefix}' does not exist in the registry with id '{account}'",
    )


def _of(what: str, repository: RepositoryId) -> str:
    return (
        f"{what} does not exist for the repository with name '{repository.name}'"
        f" in the registry with id '{repository.account}'"
    )
