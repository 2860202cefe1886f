"""The real things: blobs in the file system, the signing key in a file."""

from services.registry.adapters.blobs import FileBlobStore
from services.registry.adapters.keyfile import load_key

__all__ = ["FileBlobStore", "load_key"]
