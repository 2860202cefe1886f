"""What a key looks like, whom a role's session speaks for, and which keys are over. Pure: randomness is handed in."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from contracts.records.identity import AccessKey, Role
from services.shared.errors import AwsError

ROOT_ACCOUNT = "000000000000"
MIN_SESSION_S = 900
MAX_SESSION_S = 12 * 3600

_ROLE = re.compile(r"^arn:aws[a-z-]*:iam::(\d{12}):role/((?:[\w+=,.@-]+/)*)([\w+=,.@-]{1,64})$")
_KEY_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_SECRET_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

Choose = Callable[[str, int], str]
"""(alphabet, length) -> that many random characters of it."""


def root_key(access_key_id: str, secret: str, now: float) -> AccessKey:
    """The key pair of the account itself."""
    return AccessKey(
        access_key_id=access_key_id,
        secret=secret,
        account=ROOT_ACCOUNT,
        principal_arn=f"arn:aws:iam::{ROOT_ACCOUNT}:root",
        user_id=ROOT_ACCOUNT,
        created_at=now,
    )


def new_pair(prefix: str, choose: Choose) -> tuple[str, str]:
    """An access key id (`AKIA…` long-lived, `ASIA…` of a session; 20 characters) and its secret (40)."""
    return prefix + choose(_KEY_ALPHABET, 16), choose(_SECRET_ALPHABET, 40)


def new_id(prefix: str, choose: Choose) -> str:
    """A unique id as IAM gives it: `AROA…` a role, `ANPA…` a policy; 21 characters."""
    return prefix + choose(_KEY_ALPHABET, 17)


def parse_role_arn(arn: str) -> tuple[str, str]:
    """(account, role's name). Raises AwsError(ValidationError) for what is no role's ARN."""
    match = _ROLE.match(arn)
    if match is None:
        raise AwsError("ValidationError", f"{arn} is not the ARN of a role")
    return match[1], match[3]


def session_key(
    role: Role,
    session_name: str,
    duration_s: int,
    now: float,
    choose: Choose,
    *,
    policy: str = "",
    policy_arns: Iterable[str] = (),
    tags: dict[str, str] | None = None,
) -> AccessKey:
    """The temporary key of a role's session, between 15 minutes and 12 hours long.

    The principal is the assumed role's, as STS writes it:
    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html
    """
    name = re.sub(r"[^\w+=,.@-]", "-", session_name)[:64] or "session"
    access_key_id, secret = new_pair("ASIA", choose)
    return AccessKey(
        access_key_id=access_key_id,
        secret=secret,
        account=role.account,
        principal_arn=f"arn:aws:sts::{role.account}:assumed-role/{role.role_name}/{name}",
        user_id=f"{role.role_id}:{name}",
        created_at=now,
        session_token=choose(_SECRET_ALPHABET, 120),
        expires_at=now + max(MIN_SESSION_S, min(duration_s, MAX_SESSION_S)),
        role=role.role_name,
        session_policy=policy,
        session_policy_arns=list(policy_arns),
        session_tags=tags or {},
    )


def expired(keys: Iterable[AccessKey], now: float) -> tuple[list[AccessKey], float | None]:
    """The keys that are over, and when the next one will be (None: never)."""
    over, ends = [], []
    for key in keys:
        if key.expires_at is None:
            continue
        if key.expires_at <= now:
            over.append(key)
        else:
            ends.append(key.expires_at)
    return over, min(ends, default=None)
