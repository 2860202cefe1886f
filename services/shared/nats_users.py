"""Users that nats-server's configuration does not name: external nodes. It asks identity (NATS' "auth callout"), whose
answer is a user with permissions of its own, as a JWT that the issuer signed.

https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_callout
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ACCOUNT_PREFIX = 0
"""What makes the key of an account begin with A in base 32."""
GLOBAL_ACCOUNT = "$G"


class ConnectOptions(msgspec.Struct, frozen=True):
    """What a client said when it connected."""

    user: str = ""
    password: str = msgspec.field(default="", name="pass")


class ServerId(msgspec.Struct, frozen=True):
    """Who asks."""

    id: str


class Login(msgspec.Struct, frozen=True):
    """Whether this client may connect. `user_nkey` names the connection."""

    server_id: ServerId
    user_nkey: str
    connect_opts: ConnectOptions = ConnectOptions()


class _Claims(msgspec.Struct, frozen=True):
    nats: Login


def read_login(token: bytes) -> Login:
    """nats-server's question. Raises ValueError for what is none (msgspec's errors are ValueErrors)."""
    parts = token.split(b".")
    if len(parts) != 3:
        raise ValueError("this is no JWT")
    return msgspec.json.decode(base64.urlsafe_b64decode(parts[1] + b"=" * (-len(parts[1]) % 4)), type=_Claims).nats


class Issuer:
    """Signs users. Its key is made of a secret that nats-server's configuration and identity both know: identity's own
    password, so nothing more has to be handed out, and who knows it is identity anyway."""

    def __init__(self, secret: str) -> None:
        seed = hashlib.sha256(b"issuer of nodes\0" + secret.encode()).digest()
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = _nkey(ACCOUNT_PREFIX, self._key.public_key().public_bytes_raw())

    def admit(self, login: Login, permissions: Mapping[str, Any], now: float) -> bytes:
        """The answer that lets the client in, with these permissions (`contracts.grants.node_permissions`)."""
        replies = permissions["allow_responses"]
        user = {
            "pub": permissions["publish"],
            "sub": permissions["subscribe"],
            "resp": {"max": replies["max"], "ttl": replies["expires_s"] * 1_000_000_000},
            "subs": -1,
            "data": -1,
            "payload": -1,
            "type": "user",
            "version": 2,
        }
        about = {"aud": GLOBAL_ACCOUNT, "name": login.connect_opts.user}
        token = self._sign({"sub": login.user_nkey, **about, "nats": user}, now)
        return self._answer(login, {"jwt": token.decode()}, now)

    def refuse(self, login: Login, why: str, now: float) -> bytes:
        """The answer that does not."""
        return self._answer(login, {"error": why}, now)

    def _answer(self, login: Login, said: dict[str, Any], now: float) -> bytes:
        answer = {**said, "type": "authorization_response", "version": 2}
        return self._sign({"sub": login.user_nkey, "aud": login.server_id.id, "nats": answer}, now)

    def _sign(self, claims: dict[str, Any], now: float) -> bytes:
        whole = {"iss": self.public, "iat": int(now), **claims}
        whole["jti"] = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
        body = b".".join(_base64(json.dumps(part).encode()) for part in ({"typ": "JWT", "alg": "ed25519-nkey"}, whole))
        return body + b"." + _base64(self._key.sign(body))


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _nkey(prefix: int, raw: bytes) -> str:
    """A key as NATS writes it: base 32 of a prefix, the key and their CRC-16."""
    data = bytes([prefix]) + raw
    return base64.b32encode(data + binascii.crc_hqx(data, 0).to_bytes(2, "little")).decode().rstrip("=")
