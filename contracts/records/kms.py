"""What identity stores for KMS. Key material is sealed in the record: nobody but identity opens it."""

import msgspec

from contracts.kinds import Kind

ECR = "ecr.amazonaws.com"
"""The service principal of the registry, as grants name it."""


class KeyMaterial(msgspec.Struct, kw_only=True, frozen=True):
    """One generation of a key's material, sealed (base64), in force from `created_at` on. `rotation`: AUTOMATIC |
    ON_DEMAND, empty for the first. `material_id`: 64 hexadecimal digits, random."""

    material_id: str
    sealed: str
    created_at: float
    rotation: str = ""


class KmsGrant(msgspec.Struct, kw_only=True, frozen=True):
    """That somebody may use a key: an AWS principal (`grantee`, an ARN) or a service (`grantee_service`), for these
    operations, with an encryption context that equals `context_equals` and contains `context_subset`. One whose key is
    gone allows nothing."""

    account: str
    region: str
    key_id: str
    grant_id: str
    token: str
    created_at: float
    operations: list[str]
    issuer: str
    name: str = ""
    grantee: str = ""
    retiring: str = ""
    grantee_service: str = ""
    retiring_service: str = ""
    context_equals: dict[str, str] | None = None
    context_subset: dict[str, str] | None = None


class KmsKey(msgspec.Struct, kw_only=True, frozen=True):
    """A symmetric key. `materials`, oldest first: the last one encrypts, all of them decrypt. `service` is empty for
    the account's own keys, else the key is the one that AWS manages for it (`ecr`: alias/aws/ecr).

    `deletion_at`: when its deletion is due (epoch seconds), which took `deletion_days` to come. `rotation_days`: how
    often it is rotated by itself, counted from `rotation_from`; None for never. After `ScheduleKeyDeletion` nothing
    is written until the key is deleted or kept, so that by then the event log (7 days) has none of its material.
    """

    account: str
    region: str
    key_id: str
    created_at: float
    policy: str
    materials: list[KeyMaterial]
    service: str = ""
    enabled: bool = True
    description: str = ""
    tags: dict[str, str] = {}
    deletion_at: float | None = None
    deletion_days: int = 0
    rotation_days: int | None = None
    rotation_from: float = 0.0

    @property
    def arn(self) -> str:
        """The key's ARN."""
        return f"arn:aws:kms:{self.region}:{self.account}:key/{self.key_id}"


class KmsAlias(msgspec.Struct, kw_only=True, frozen=True):
    """Another name of a key (`alias/…`). One whose key is gone names nothing."""

    account: str
    region: str
    name: str
    key_id: str
    created_at: float
    changed_at: float


KMS_KEY = Kind("identity", "kms_key", KmsKey, ("account", "region", "key_id"))
KMS_GRANT = Kind("identity", "kms_grant", KmsGrant, ("account", "region", "key_id", "grant_id"))
KMS_ALIAS = Kind("identity", "kms_alias", KmsAlias, ("account", "region", "name"))
