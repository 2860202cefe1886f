"""The ECR API: one class an area, all of one API."""

from services.registry.api.account_settings import AccountSettingOperations
from services.registry.api.archive import ArchiveOperations
from services.registry.api.backfills import BackfillOperations
from services.registry.api.images import ImageOperations
from services.registry.api.layers import LayerOperations
from services.registry.api.lifecycle import LifecycleOperations
from services.registry.api.policies import PolicyOperations
from services.registry.api.pull_through import PullThroughOperations
from services.registry.api.referrers import ReferrerOperations
from services.registry.api.replication import ReplicationOperations
from services.registry.api.repositories import RepositoryOperations
from services.registry.api.scanning import ScanningOperations
from services.registry.api.signing import SigningOperations
from services.registry.api.templates import TemplateOperations


class Ecr(
    RepositoryOperations,
    ImageOperations,
    LayerOperations,
    ScanningOperations,
    LifecycleOperations,
    ArchiveOperations,
    PolicyOperations,
    ReferrerOperations,
    ReplicationOperations,
    PullThroughOperations,
    TemplateOperations,
    AccountSettingOperations,
    SigningOperations,
    BackfillOperations,
):
    """The operations of ECR that exist here."""


__all__ = ["Ecr"]
