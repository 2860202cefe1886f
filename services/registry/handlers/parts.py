"""The registry's parts, as its doors get them."""

from __future__ import annotations

from typing import NamedTuple

from services.registry.handlers.access import Access
from services.registry.handlers.arrivals import Arrivals
from services.registry.handlers.images import Images
from services.registry.handlers.peers import Grants
from services.registry.handlers.pull_through import PullThrough
from services.registry.handlers.pushes import Pushes
from services.registry.handlers.replicas import Replicas
from services.registry.handlers.repositories import Repositories
from services.registry.handlers.settings import Settings
from services.registry.handlers.signing import ManagedSigning
from services.registry.ports import BlobStore


class RegistryParts(NamedTuple):
    """What both APIs lead to."""

    repositories: Repositories
    images: Images
    blobs: BlobStore
    access: Access
    pull_through: PullThrough
    settings: Settings
    signing: ManagedSigning
    replicas: Replicas
    grants: Grants
    pushes: Pushes
    arrivals: Arrivals
