"""The operations of KMS: symmetric keys whose material is made here, and what they are used for."""

from services.identity.api.kms.aliases import AliasOperations
from services.identity.api.kms.cryptography import CryptographyOperations
from services.identity.api.kms.grants import GrantOperations
from services.identity.api.kms.policies import PolicyOperations
from services.identity.api.kms.rotation import RotationOperations


class Kms(PolicyOperations, AliasOperations, CryptographyOperations, RotationOperations, GrantOperations):
    """All of them."""


__all__ = ["Kms"]
