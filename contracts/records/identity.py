"""What identity stores: access keys of accounts and sessions, roles and policies, secrets and parameters (sealed),
activations and the machines that joined with them."""

import msgspec

from contracts.kinds import Kind
from contracts.records.kms import KMS_ALIAS, KMS_GRANT, KMS_KEY


class AccessKey(msgspec.Struct, kw_only=True, frozen=True):
    """A key pair that may sign requests.

    A session's key (a task role's) has a session token and an end; an account's own has neither.
    `principal_arn` is who the bearer is, `user_id` as GetCallerIdentity shows it.
    A session has its role's name, its tags, and the policies that bound it further (a document, managed ones' ARNs).
    """

    access_key_id: str
    secret: str
    account: str
    principal_arn: str
    user_id: str
    created_at: float
    session_token: str | None = None
    expires_at: float | None = None
    role: str = ""
    session_policy: str = ""
    session_policy_arns: list[str] = []
    session_tags: dict[str, str] = {}


class Role(msgspec.Struct, kw_only=True, frozen=True):
    """A role: who may assume it (`trust`, a policy document), and what it then may do: its own policies by name
    (`inline`) and the ARNs of those attached. `max_session_s` bounds a session's length."""

    account: str
    role_name: str
    role_id: str
    path: str
    arn: str
    trust: str
    created_at: float
    description: str = ""
    max_session_s: int = 3600
    tags: dict[str, str] = {}
    inline: dict[str, str] = {}
    attached: list[str] = []


class Policy(msgspec.Struct, kw_only=True, frozen=True):
    """A managed policy of the account's own; it has one version, v1."""

    account: str
    policy_name: str
    policy_id: str
    path: str
    arn: str
    document: str
    created_at: float
    description: str = ""
    tags: dict[str, str] = {}


class SecretVersion(msgspec.Struct, kw_only=True, frozen=True):
    """One value of a secret, sealed (base64). `stages` are its staging labels. `digest` is a keyed hash of the value:
    whether a token is used again for the same value is told by it."""

    version_id: str
    sealed: str
    binary: bool
    stages: list[str]
    created_at: float
    digest: str = ""


class Secret(msgspec.Struct, kw_only=True, frozen=True):
    """A secret of Secrets Manager, with its versions, oldest first. `deleted_at`: when it was scheduled for deletion;
    `deletion_at`: when that is due."""

    account: str
    region: str
    name: str
    arn: str
    created_at: float
    changed_at: float
    description: str = ""
    kms_key_id: str = ""
    tags: dict[str, str] = {}
    versions: list[SecretVersion] = []
    deleted_at: float | None = None
    deletion_at: float | None = None


class ParameterVersion(msgspec.Struct, kw_only=True, frozen=True):
    """One version of a parameter: its value, sealed (base64) whatever its type, and what was said of it."""

    version: int
    sealed: str
    type: str
    modified_at: float
    modified_by: str
    description: str = ""
    key_id: str = ""
    allowed_pattern: str = ""
    data_type: str = "text"
    tier: str = "Standard"


class Parameter(msgspec.Struct, kw_only=True, frozen=True):
    """A parameter of SSM Parameter Store, with its latest versions, oldest first."""

    account: str
    region: str
    name: str
    versions: list[ParameterVersion]
    tags: dict[str, str] = {}


class Activation(msgspec.Struct, kw_only=True, frozen=True):
    """Leave for up to `limit` machines to join until `expires_at` (seconds since the epoch), given to who shows the
    code, of which only the SHA-256 is kept (it is random, so no slower hash is needed)."""

    account: str
    region: str
    activation: str
    code_digest: str
    iam_role: str
    limit: int
    created_at: float
    expires_at: float
    description: str = ""
    instance_name: str = ""
    tags: dict[str, str] = {}


class ManagedNode(msgspec.Struct, kw_only=True, frozen=True):
    """A machine that joined with an activation, in one of its slots (1 to its limit): a node of one cluster.

    `node` is its name (`mi-…`), `secret_digest` the SHA-256 of what it shows when it connects. status: ACTIVE |
    INACTIVE (DeregisterManagedInstance). It may be out by its cluster's owner's word too (`ContainerInstance`).
    """

    account: str
    region: str
    activation: str
    slot: int
    node: str
    cluster: str
    secret_digest: str
    registered_at: float
    hostname: str = ""
    status: str = "ACTIVE"


ACCESS_KEY = Kind("identity", "access_key", AccessKey, ("access_key_id",))

ROLE = Kind("identity", "role", Role, ("account", "role_name"))
POLICY = Kind("identity", "policy", Policy, ("account", "policy_name"))
SECRET = Kind("identity", "secret", Secret, ("account", "region", "name"))
PARAMETER = Kind("identity", "parameter", Parameter, ("account", "region", "name"))
ACTIVATION = Kind("identity", "activation", Activation, ("account", "region", "activation"))
MANAGED_NODE = Kind("identity", "managed_node", ManagedNode, ("account", "region", "activation", "slot"))

KINDS = (ACCESS_KEY, ROLE, POLICY, SECRET, PARAMETER, ACTIVATION, MANAGED_NODE, KMS_KEY, KMS_ALIAS, KMS_GRANT)
