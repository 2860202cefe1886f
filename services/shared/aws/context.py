"""Who asks, for what, from where."""

from __future__ import annotations

import msgspec


class Identity(msgspec.Struct, frozen=True):
    """Who signed a request, and for which region and service (the credential scope)."""

    account: str
    principal_arn: str
    user_id: str
    access_key_id: str
    session: bool
    region: str
    service: str


#: The caller of an operation that needs no signature (sts AssumeRoleWithWebIdentity).
ANONYMOUS = Identity("", "", "", "", False, "us-east-1", "")


class RequestContext(msgspec.Struct, frozen=True):
    """What an operation knows of its caller. `session`: temporary credentials; `api`: the module's name; `host`: the
    Host header, by which the caller names the platform (name and port)."""

    account: str
    region: str
    principal_arn: str
    user_id: str
    access_key_id: str
    session: bool
    request_id: str
    source_ip: str
    api: str
    operation: str
    user_agent: str
    host: str = ""
