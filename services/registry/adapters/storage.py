"""Which storage the registry has, as its settings say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from services.registry.adapters.blobs import FileBlobStore
from services.registry.settings import RegistrySettings
from services.shared.settings import SettingsError, load

if TYPE_CHECKING:
    from services.registry.adapters.s3 import S3BlobStore


async def open_storage(root: Path, settings: RegistrySettings) -> FileBlobStore | S3BlobStore:
    """The store, ready. Raises SettingsError when the bucket is not there, can't be reached or may not be used."""
    if settings.storage == "files":
        return FileBlobStore(root)
    from services.registry.adapters.s3 import S3BlobStore  # whoever has no S3 does not wait for what speaks with it
    from services.shared.s3 import S3Client, S3Error, S3NotFound, S3Settings

    s3 = load(S3Settings, "ROADSTEAD_S3_")
    if settings.redirect and settings.sealed:
        raise SettingsError(
            "ROADSTEAD_REGISTRY_REDIRECT sends clients to S3, where content is sealed and they can't open it: set "
            "ROADSTEAD_REGISTRY_SEALED=false as well, and let S3 encrypt what AES256 repositories have"
        )
    if not settings.bucket:
        raise SettingsError("ROADSTEAD_REGISTRY_STORAGE=s3 needs a bucket: set ROADSTEAD_REGISTRY_BUCKET")
    client = S3Client(s3)
    store = S3BlobStore(root, client, settings.bucket, settings.bucket_prefix, redirect=settings.redirect)
    try:
        await store.open_bucket()
    except S3Error as error:
        await store.close()
        what = f"The registry can't keep blobs in the bucket {settings.bucket!r} at {s3.base}"
        missing = "there is no such bucket; make it first" if isinstance(error, S3NotFound) else str(error)
        raise SettingsError(f"{what}: {missing}") from error
    return store
