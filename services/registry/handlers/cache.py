"""Manifests in memory, the least recently asked for going first."""

from __future__ import annotations

from collections import OrderedDict


class ManifestCache:
    """Bytes by digest, at most `limit` of them. What a digest names never changes, so nothing is ever stale."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0

    def get(self, digest: str) -> bytes | None:
        """The manifest, if it is held."""
        data = self._held.get(digest)
        if data is not None:
            self._held.move_to_end(digest)
        return data

    def put(self, digest: str, data: bytes) -> None:
        """Hold it, letting go of others as need be."""
        if digest in self._held or len(data) > self._limit:
            return
        self._held[digest] = data
        self._size += len(data)
        while self._size > self._limit:
            self._size -= len(self._held.popitem(last=False)[1])
