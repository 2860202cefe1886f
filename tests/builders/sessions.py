"""Roles and their sessions, as identity would keep them: `key = await a_session(store, "builder", ["ecr:*"])`."""

from __future__ import annotations

import json

from contracts.records.identity import ACCESS_KEY, ROLE, AccessKey, Role
from services.shared.state import Store
from tests.builders.registry import ACCOUNT, SECRET

TOKEN = "token"


async def a_role(store: Store, name: str, actions: list[str], service: str = "") -> Role:
    """A role of this name that may do `actions` with everything, and that this service of AWS' may assume."""
    statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
    trust = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    role = Role(
        account=ACCOUNT,
        role_name=name,
        role_id=f"AROA{name.upper()}",
        path="/",
        arn=f"arn:aws:iam::{ACCOUNT}:role/{name}",
        trust=json.dumps({"Statement": trust}) if service else "{}",
        created_at=0.0,
        inline={"own": json.dumps({"Statement": statement})},
    )
    await store.put(ROLE, role, "role.created.v1")
    return role


async def a_session(store: Store, name: str, actions: list[str]) -> str:
    """A role of this name that may do `actions` with everything, and a session of it with TOKEN; its access key."""
    role = await a_role(store, name, actions)
    session = AccessKey(
        access_key_id=f"ASIA{name.upper()}",
        secret=SECRET,
        account=ACCOUNT,
        principal_arn=f"arn:aws:sts::{ACCOUNT}:assumed-role/{name}/ci",
        user_id=f"{role.role_id}:ci",
        created_at=0.0,
        role=name,
        session_token=TOKEN,
    )
    await store.put(ACCESS_KEY, session, "session.issued.v1")
    return session.access_key_id
