"""ECR: layers, uploaded in parts and downloaded by URL. The same uploads as /v2/ has."""

from __future__ import annotations

from collections.abc import AsyncIterator

from contracts.aws import ecr
from services.registry.api.base import EcrOperations
from services.registry.decisions.names import RepositoryId, valid_digest
from services.registry.handlers import errors
from services.registry.handlers.policies import asker_of
from services.registry.ports import (
    KeyRefused,
    StorageFull,
    Upload,
    UploadTaken,
    UploadUnknown,
    UpstreamFailed,
    WrongDigest,
    WrongOffset,
)
from services.shared.authorization import request_keys
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError

PART_SIZE = 10 * 1024 * 1024


class LayerOperations(EcrOperations):
    """InitiateLayerUpload and what goes with it."""

    async def batch_check_layer_availability(
        self, context: RequestContext, request: ecr.BatchCheckLayerAvailabilityRequest
    ) -> ecr.BatchCheckLayerAvailabilityResponse:
        """Which layers the repository has."""
        repository = self._existing(context, request.registry_id, request.repository_name)
        layers, failures = [], []
        for digest in dict.fromkeys(request.layer_digests):
            if not valid_digest(digest):
                reason = f"'{digest}' is not the digest of a layer"
                failures.append(
                    ecr.LayerFailure(layer_digest=digest, failure_code="InvalidLayerDigest", failure_reason=reason)
                )
                continue
            size = await self._blobs.find(repository, digest)
            availability = "UNAVAILABLE" if size is None else "AVAILABLE"
            layers.append(ecr.Layer(layer_digest=digest, layer_availability=availability, layer_size=size))
        return ecr.BatchCheckLayerAvailabilityResponse(layers=layers, failures=failures)

    async def initiate_layer_upload(
        self, context: RequestContext, request: ecr.InitiateLayerUploadRequest
    ) -> ecr.InitiateLayerUploadResponse:
        """Begin an upload; in a repository that comes to be by it, where a creation template says so."""
        repository = self._id(context, request.registry_id, request.repository_name)
        await self._pushes.make(repository, asker_of(context), lambda: request_keys(context))
        try:
            upload = await self._blobs.begin(repository)
        except StorageFull:
            raise errors.storage_full() from None
        return ecr.InitiateLayerUploadResponse(upload_id=upload.id, part_size=PART_SIZE)

    async def upload_layer_part(
        self, context: RequestContext, request: ecr.UploadLayerPartRequest
    ) -> ecr.UploadLayerPartResponse:
        """Add a part; parts come in order."""
        repository = self._existing(context, request.registry_id, request.repository_name)
        upload = await self._upload(repository, request.upload_id)
        first, last, blob = request.part_first_byte, request.part_last_byte, request.layer_part_blob
        if last - first + 1 != len(blob):
            raise _invalid_part(upload, repository, f"the part has {len(blob)} bytes and not {last - first + 1}")
        try:
            size = await upload.append(_once(blob), first)
        except WrongOffset as error:
            raise _invalid_part(upload, repository, f"the next part begins at byte {error.size}") from None
        except (UploadTaken, UploadUnknown):
            raise errors.upload_not_found(repository, request.upload_id) from None
        except StorageFull:
            raise errors.storage_full() from None
        return ecr.UploadLayerPartResponse(
            registry_id=repository.account,
            repository_name=repository.name,
            upload_id=upload.id,
            last_byte_received=size - 1,
        )

    async def complete_layer_upload(
        self, context: RequestContext, request: ecr.CompleteLayerUploadRequest
    ) -> ecr.CompleteLayerUploadResponse:
        """Check what was uploaded against its digest, and keep it."""
        repository = self._existing(context, request.registry_id, request.repository_name)
        upload = await self._upload(repository, request.upload_id)
        digest = next((each for each in request.layer_digests if valid_digest(each)), None)
        if digest is None:
            raise errors.invalid_parameter("layerDigests", "one of them must be a SHA-256 digest")
        if upload.size == 0:
            raise AwsError("EmptyUploadException", f"The upload with id '{upload.id}' has no parts")
        if await self._blobs.find(repository, digest) is not None:
            await upload.abort()
            raise AwsError(
                "LayerAlreadyExistsException",
                f"Layer with digest '{digest}' already exists in the repository with name '{repository.name}'"
                f" in the registry with id '{repository.account}'",
            )
        try:
            await upload.finish(digest)
        except WrongDigest as error:
            raise AwsError("InvalidLayerException", f"The layer's digest is {error.actual} and not {digest}") from None
        except (UploadTaken, UploadUnknown):
            raise errors.upload_not_found(repository, request.upload_id) from None
        except StorageFull:
            raise errors.storage_full() from None
        return ecr.CompleteLayerUploadResponse(
            registry_id=repository.account, repository_name=repository.name, upload_id=upload.id, layer_digest=digest
        )

    async def get_download_url_for_layer(
        self, context: RequestContext, request: ecr.GetDownloadUrlForLayerRequest
    ) -> ecr.GetDownloadUrlForLayerResponse:
        """A URL that needs no credentials for an hour. What a pull-through cache does not have yet is fetched first."""
        repository = self._existing(context, request.registry_id, request.repository_name)
        digest = request.layer_digest
        if not valid_digest(digest):
            raise errors.layers_not_found([digest])
        try:
            await self._blobs.usable(repository)
        except KeyRefused as refused:
            raise AwsError("LayerInaccessibleException", refused.message) from None
        if await self._blobs.find(repository, digest) is None:
            await self._fetch(repository, digest)
        return ecr.GetDownloadUrlForLayerResponse(
            download_url=self._access.layer_url(repository, digest), layer_digest=digest
        )

    async def _fetch(self, repository: RepositoryId, digest: str) -> None:
        """Raises LayersNotFoundException, UnableToGetUpstreamLayerException."""
        download = self._pull_through.download(repository, digest)
        if download is None:
            raise errors.layers_not_found([digest])
        try:
            await download.done()
        except UpstreamFailed as error:
            if error.unknown:
                raise errors.layers_not_found([digest]) from None
            raise AwsError("UnableToGetUpstreamLayerException", str(error)) from None
        except WrongDigest as error:
            why = f"the upstream registry sent {error.actual} for {digest}"
            raise AwsError("UnableToGetUpstreamLayerException", why) from None
        except StorageFull:
            raise errors.storage_full() from None

    async def _upload(self, repository: RepositoryId, upload_id: str) -> Upload:
        try:
            return await self._blobs.upload(repository, upload_id.lower())
        except UploadUnknown:
            raise errors.upload_not_found(repository, upload_id) from None


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _invalid_part(upload: Upload, repository: RepositoryId, why: str) -> AwsError:
    return AwsError(
        "InvalidLayerPartException",
        f"Layer part is not valid: {why}",
        registryId=repository.account,
        repositoryName=repository.name,
        uploadId=upload.id,
        lastValidByteReceived=upload.size - 1 if upload.size else 0,
    )
