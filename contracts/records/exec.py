"""What passes between the scheduler, the edge and an agent for a session of ExecuteCommand. Nothing of it is stored.

The subjects are `contracts.subjects.exec_…`. On `exec.in` and `exec.out` go the messages of the Session Manager data
channel as they are (services.shared.data_channel). An empty message says that this side is gone; an empty request on
`exec.in` asks whether the agent still has the session.
"""

import msgspec


class ExecOpen(msgspec.Struct, kw_only=True, frozen=True):
    """The scheduler to a task's node: somebody will come for this session with the token that has this SHA-256 (hex),
    once, within `expires_in_s` seconds. `log_group` and `log_bucket` (an S3 bucket, under `log_key`, put there as
    `log_role`): where the session's output is to be logged; empty: not there."""

    session: str
    token_digest: str
    account: str
    region: str
    cluster: str
    task: str
    container: str
    argv: list[str]
    tty: bool
    expires_in_s: float = 60.0
    log_group: str = ""
    log_bucket: str = ""
    log_key: str = ""
    log_role: str = ""


class ExecAttach(msgspec.Struct, kw_only=True, frozen=True):
    """The edge to the agent that has the session: a client is here, with this token."""

    token: str


class ExecAnswer(msgspec.Struct, kw_only=True, frozen=True):
    """The agent to either: an empty `refusal` is a yes."""

    refusal: str = ""
