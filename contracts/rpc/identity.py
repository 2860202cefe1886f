"""What identity does for other services."""

import msgspec

from contracts.rpc.command import Command

ECS_TASKS = "ecs-tasks.amazonaws.com"
APP_RUNNER_TASKS = "tasks.apprunner.amazonaws.com"


class IssueSession(msgspec.Struct, kw_only=True, frozen=True):
    """A session of a role for a task. The agent asks; `duration_s` is bounded by identity. `service` is the principal
    that the role must trust: ECS_TASKS or APP_RUNNER_TASKS, no other."""

    role_arn: str
    session_name: str
    duration_s: int = 3600
    service: str = ECS_TASKS


class Session(msgspec.Struct, kw_only=True, frozen=True):
    """Temporary credentials, in force from the moment the reply arrives."""

    access_key_id: str
    secret: str
    session_token: str
    expires_at: float
    role_arn: str


class ResolveSecrets(msgspec.Struct, kw_only=True, frozen=True):
    """The values of a task's `secrets`, read as its execution role. `values_from` are as in the task definition, and so
    are `environment_files`, ARNs of objects in S3. `public_key` (X25519, base64) is the asker's: the values are sealed
    to it. `service` as in IssueSession."""

    role_arn: str
    task: str
    account: str
    region: str
    values_from: list[str]
    public_key: str
    service: str = ECS_TASKS
    environment_files: list[str] = []


class ResolvedSecrets(msgspec.Struct, kw_only=True, frozen=True):
    """A JSON object of the values by `valueFrom`, and of the files by ARN, sealed (base64) about the task's id. See
    services/shared/sealing."""

    sealed: str


class StoreSessionLog(msgspec.Struct, kw_only=True, frozen=True):
    """What a session of ExecuteCommand in a task wrote, to be an object in S3 that the task's role puts there.
    `content` is base64 of it. `service` as in IssueSession."""

    role_arn: str
    task: str
    account: str
    region: str
    bucket: str
    key: str
    content: str
    service: str = ECS_TASKS


class SessionLogStored(msgspec.Struct, kw_only=True, frozen=True):
    """It is there."""


class RegisterNode(msgspec.Struct, kw_only=True, frozen=True):
    """A machine wants to be a node of a cluster in the activation's account and region. It made a secret, of which it
    tells the SHA-256 (hex) alone; the same one again is the same machine."""

    activation_id: str
    activation_code: str
    region: str
    cluster: str
    secret_digest: str
    hostname: str = ""


class NodeRegistered(msgspec.Struct, kw_only=True, frozen=True):
    """Which node it is from now on. With its secret it may connect."""

    node: str
    account: str
    region: str
    cluster: str


class ReadRegistryLogin(msgspec.Struct, kw_only=True, frozen=True):
    """The login of another registry that a pull-through rule names: a secret `ecr-pullthroughcache/…`, by its ARN, no
    other. `public_key` (X25519, base64) is the asker's: the value is sealed to it."""

    credential_arn: str
    public_key: str


class RegistryLogin(msgspec.Struct, kw_only=True, frozen=True):
    """The secret's current value, sealed (base64) about its ARN as it was asked for. See services/shared/sealing."""

    sealed: str


ISSUE_SESSION = Command("identity", "issue_session", IssueSession, Session)

RESOLVE_SECRETS = Command("identity", "resolve_secrets", ResolveSecrets, ResolvedSecrets)

STORE_SESSION_LOG = Command("identity", "store_session_log", StoreSessionLog, SessionLogStored)

REGISTER_NODE = Command("identity", "register_node", RegisterNode, NodeRegistered)

READ_REGISTRY_LOGIN = Command("identity", "read_registry_login", ReadRegistryLogin, RegistryLogin)

COMMANDS = (ISSUE_SESSION, RESOLVE_SECRETS, STORE_SESSION_LOG, REGISTER_NODE, READ_REGISTRY_LOGIN)
