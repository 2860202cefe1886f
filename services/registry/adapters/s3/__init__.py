"""Blobs in S3. See services.registry.adapters.s3.layout for where they lie, and why nothing is taken that is needed."""

from services.registry.adapters.s3.blobs import S3BlobStore

__all__ = ["S3BlobStore"]
