"""KMS' rules for keys: names and states, deletion, rotation.

https://docs.aws.amazon.com/kms/latest/developerguide/key-state.html
"""

from __future__ import annotations

import json
import re
import uuid

import msgspec

from contracts.records.kms import KeyMaterial, KmsKey
from services.shared.errors import AwsError

DAY_S = 86_400.0
DELETION_DAYS = (7, 30)
ROTATION_DAYS = (90, 2560)
DEFAULT_ROTATION_DAYS = 365
MAX_ON_DEMAND = 25
MAX_TAGS = 50
ENABLED, DISABLED, PENDING_DELETION = "Enabled", "Disabled", "PendingDeletion"

_KEY_ID = re.compile(r"(mrk-[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})\Z")
_ALIAS = re.compile(r"alias/[a-zA-Z0-9/_-]+\Z")
_MANAGED = uuid.UUID("8c3f5b0e-6a64-4d0e-9a60-2f8c1f4a7d11")
_replace = msgspec.structs.replace


class Reference(msgspec.Struct, frozen=True):
    """What a request calls a key: its id, or an alias (`alias/…`); whose it is."""

    account: str
    name: str

    @property
    def is_alias(self) -> bool:
        """Whether it is an alias."""
        return self.name.startswith("alias/")


def read_reference(text: str, account: str, region: str, *, aliases: bool = True) -> Reference:
    """A key id, key ARN, alias or alias ARN. Raises NotFoundException, in KMS' words, for what can be none of here."""
    owner, name = account, text
    if text.startswith("arn:"):
        parts = text.split(":", 5)
        if len(parts) != 6 or parts[2] != "kms":
            raise AwsError("InvalidArnException", f"{text} is not the ARN of a key or an alias")
        if parts[3] != region:
            raise AwsError("NotFoundException", f"Invalid arn {parts[3]}")
        owner, name = parts[4], parts[5].removeprefix("key/")
    if not (aliases and _ALIAS.match(name)) and not _KEY_ID.match(name):
        raise AwsError("NotFoundException", f"Invalid keyId '{text}'")
    return Reference(owner, name)


def check_alias(name: str) -> None:
    """Raises unless an account may make an alias of this name. Those of `alias/aws/` are AWS' own."""
    if not name.startswith("alias/") or name == "alias/":
        raise AwsError("ValidationException", "Alias must start with the prefix \"alias/\". Please see "
                       "https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html")  # fmt: skip
    if not _ALIAS.match(name):
        raise AwsError("InvalidAliasNameException", f"{name} is not the name of an alias")
    if name.startswith("alias/aws/"):
        raise AwsError("InvalidAliasNameException", "Names that begin with alias/aws/ are for keys that AWS manages")


def managed_key_id(account: str, region: str, service: str) -> str:
    """The id of the key that AWS manages for a service: always the same, so that it is made once."""
    return str(uuid.uuid5(_MANAGED, f"{account}/{region}/{service}"))


def managed_service(alias: str) -> str:
    """`ecr` of `alias/aws/ecr`; empty for an alias of the account's own."""
    return alias.removeprefix("alias/aws/") if alias.startswith("alias/aws/") else ""


def state(key: KmsKey) -> str:
    """Enabled, Disabled or PendingDeletion."""
    if key.deletion_at is not None:
        return PENDING_DELETION
    return ENABLED if key.enabled else DISABLED


def is_gone(key: KmsKey, now: float) -> bool:
    """Whether its deletion is due: then there is no such key, whether its record is deleted yet or not."""
    return key.deletion_at is not None and key.deletion_at <= now


def require_enabled(key: KmsKey) -> None:
    """Raises DisabledException, KMSInvalidStateException."""
    require_kept(key)
    if not key.enabled:
        raise AwsError("DisabledException", f"{key.arn} is disabled.")


def require_kept(key: KmsKey) -> None:
    """Raises KMSInvalidStateException when it is to be deleted."""
    if key.deletion_at is not None:
        raise AwsError("KMSInvalidStateException", f"{key.arn} is pending deletion.")


def next_rotation(key: KmsKey) -> float | None:
    """When it is rotated by itself next; None for never. A disabled key is not rotated."""
    if key.rotation_days is None or state(key) != ENABLED:
        return None
    return key.rotation_from + key.rotation_days * DAY_S


def rotated(key: KmsKey, material: KeyMaterial) -> KmsKey:
    """With new material; what was encrypted before can still be decrypted."""
    if material.rotation == "ON_DEMAND":
        if sum(m.rotation == "ON_DEMAND" for m in key.materials) >= MAX_ON_DEMAND:
            raise AwsError("LimitExceededException", f"A key can be rotated on demand {MAX_ON_DEMAND} times")
        return _replace(key, materials=[*key.materials, material])
    return _replace(key, materials=[*key.materials, material], rotation_from=material.created_at)


def default_policy(account: str) -> str:
    """The key policy of a key that was given none: the account's IAM policies say who may use it.
    https://docs.aws.amazon.com/kms/latest/developerguide/key-policy-default.html"""
    root = {"AWS": f"arn:aws:iam::{account}:root"}
    enable = {
        "Sid": "Enable IAM User Permissions",
        "Effect": "Allow",
        "Principal": root,
        "Action": "kms:*",
        "Resource": "*",
    }
    return json.dumps({"Version": "2012-10-17", "Id": "key-default-1", "Statement": [enable]})


def managed_policy(account: str, region: str, service: str) -> str:
    """The key policy of a key that AWS manages: used through its service alone, looked at by the account."""
    through = {"kms:CallerAccount": account, "kms:ViaService": f"{service}.{region}.amazonaws.com"}
    used = ("Encrypt", "Decrypt", "ReEncrypt*", "GenerateDataKey*", "CreateGrant", "RetireGrant", "DescribeKey")
    uses = {
        "Sid": f"Allow access through {service} for all principals of the account that may use it",
        "Effect": "Allow",
        "Principal": {"AWS": "*"},
        "Action": [f"kms:{action}" for action in used],
        "Resource": "*",
        "Condition": {"StringEquals": through},
    }
    looks = {
        "Sid": "Allow direct access to key metadata to the account",
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{account}:root"},
        "Action": ["kms:Describe*", "kms:Get*", "kms:List*", "kms:RevokeGrant"],
        "Resource": "*",
    }
    return json.dumps({"Version": "2012-10-17", "Id": f"auto-{service}-1", "Statement": [uses, looks]})
