"""What keys, sessions, roles, secrets and parameters are. Pure."""

from services.identity.decisions.sessions import (
    MAX_SESSION_S,
    MIN_SESSION_S,
    ROOT_ACCOUNT,
    Choose,
    expired,
    new_id,
    new_pair,
    parse_role_arn,
    root_key,
    session_key,
)

__all__ = [
    "MAX_SESSION_S",
    "MIN_SESSION_S",
    "ROOT_ACCOUNT",
    "Choose",
    "expired",
    "new_id",
    "new_pair",
    "parse_role_arn",
    "root_key",
    "session_key",
]
