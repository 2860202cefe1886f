"""What KMS does for other services, which keep things of their callers under their callers' keys."""

import msgspec

from contracts.rpc.command import Command


class GrantDataKey(msgspec.Struct, kw_only=True, frozen=True):
    """A data key for one resource of a service, and a grant by which the service may open it again.

    `service` is the principal (`ecr.amazonaws.com`), `key` an id, ARN or alias; empty: the key that AWS manages for the
    service. Who asked the service must be allowed kms:DescribeKey and kms:CreateGrant: `principal`, with the access key
    of the session if it is one. `context` is the encryption context; `public_key` (X25519, base64) the asker's.
    With `role` (its ARN) it is the service in that role. `only_check`: nothing is granted, and the answer has the key's
    ARN alone.
    """

    service: str
    account: str
    region: str
    key: str
    principal: str
    session: str
    context: dict[str, str]
    public_key: str
    only_check: bool = False
    role: str = ""


class GrantedDataKey(msgspec.Struct, kw_only=True, frozen=True):
    """The key's ARN, the grant's id, and a data key of 32 bytes: encrypted under the key (`wrapped`, base64), and
    sealed to the asker about `wrapped`. See services/shared/sealing."""

    key_arn: str
    grant_id: str = ""
    wrapped: str = ""
    sealed: str = ""


class OpenDataKey(msgspec.Struct, kw_only=True, frozen=True):
    """Decrypt a data key by the grant of a service."""

    service: str
    key_arn: str
    wrapped: str
    context: dict[str, str]
    public_key: str


class OpenedDataKey(msgspec.Struct, kw_only=True, frozen=True):
    """The data key, sealed to the asker about `wrapped`."""

    sealed: str


class RetireDataKey(msgspec.Struct, kw_only=True, frozen=True):
    """The resource is gone: so is the grant, if it was this service's."""

    service: str
    key_arn: str
    grant_id: str


class Retired(msgspec.Struct, kw_only=True, frozen=True):
    """`there`: there was such a grant."""

    there: bool


GRANT_DATA_KEY = Command("identity", "grant_data_key", GrantDataKey, GrantedDataKey)
OPEN_DATA_KEY = Command("identity", "open_data_key", OpenDataKey, OpenedDataKey)
RETIRE_DATA_KEY = Command("identity", "retire_data_key", RetireDataKey, Retired)

COMMANDS = (GRANT_DATA_KEY, OPEN_DATA_KEY, RETIRE_DATA_KEY)
