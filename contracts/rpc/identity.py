"""What identity does for other services."""

import msgspec

from contracts.rpc.command import Command


class IssueSession(msgspec.Struct, kw_only=True, frozen=True):
    """A session of a role for a task. The agent asks; `duration_s` is bounded by identity."""

    role_arn: str
    session_name: str
    duration_s: int = 3600


class Session(msgspec.Struct, kw_only=True, frozen=True):
    """Temporary credentials, in force from the moment the reply arrives."""

    access_key_id: str
    secret: str
    session_token: str
    expires_at: float
    role_arn: str


class ResolveSecrets(msgspec.Struct, kw_only=True, frozen=True):
    """The values of a task's `secrets`, read as its execution role. `values_from` are as in the task definition.
    `public_key` (X25519, base64) is the asker's: the values are sealed to it."""

    role_arn: str
    task: str
    account: str
    region: str
    values_from: list[str]
    public_key: str


class ResolvedSecrets(msgspec.Struct, kw_only=True, frozen=True):
    """A JSON object of the values by `valueFrom`, sealed (base64) about the task's id. See services/shared/sealing."""

    sealed: str


ISSUE_SESSION = Command("identity", "issue_session", IssueSession, Session)

RESOLVE_SECRETS = Command("identity", "resolve_secrets", ResolveSecrets, ResolvedSecrets)

COMMANDS = (ISSUE_SESSION, RESOLVE_SECRETS)
