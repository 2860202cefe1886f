"""What a bearer may show at the registry's door: signed tokens, and signed URLs of layers. HMAC-SHA256 throughout."""

from __future__ import annotations

import base64
import binascii
import hmac
from hashlib import sha256

import msgspec

from services.registry.decisions.names import RepositoryId

USERNAME = "AWS"
TOKEN_LIFE_S = 12 * 3600.0
PULL_LIFE_S = 3600.0
URL_LIFE_S = 3600.0
PEER_LIFE_S = 3600.0


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """Who the bearer is until when (epoch seconds). `only` bounds it to pulling from one repository (its ARN).
    `session` is the access key of the role's session that asked for it, whose rights it has. What is pulled with a
    `quiet` one does not count as pulled: it is looked at, not run. `peer` is the installation that it was given to, for
    replication if it `replicates`, else for pulls. With `attaches` it may also put manifests whose subject is this
    digest into that repository, and what they are made of."""

    account: str
    principal: str
    expires_at: float
    only: str | None = None
    session: str = ""
    quiet: bool = False
    peer: str = ""
    replicates: bool = False
    attaches: str = ""

    def may_reach(self, repository: RepositoryId, write: bool) -> bool:
        """Whether the token is meant for reading (or writing) this repository. Whether its bearer may is for the
        policies to say."""
        if self.peer and write and not self.replicates:
            return False
        return self.only is None or (self.only == repository.arn and (not write or bool(self.attaches)))


_decoder = msgspec.json.Decoder(Token)


def seal(token: Token, key: bytes) -> str:
    """The token as text that only the holder of `key` can have made."""
    payload = msgspec.json.encode(token)
    return f"{_text(payload)}.{_text(_mac(b'token', payload, key))}"


def unseal(text: str, key: bytes, now: float) -> Token | None:
    """The token that this text was made of; None when it was not made here, or is over."""
    payload_text, _, mac_text = text.partition(".")
    try:
        payload, mac = _bytes(payload_text), _bytes(mac_text)
    except (binascii.Error, ValueError):
        return None
    if not hmac.compare_digest(mac, _mac(b"token", payload, key)):
        return None
    token = _decoder.decode(payload)
    return token if token.expires_at > now else None


def basic_password(header: str) -> str | None:
    """The password in an Authorization header of the Basic scheme whose user is AWS; else None."""
    user, colon, password = (basic_pair(header) or "").partition(":")
    return password if colon and user == USERNAME else None


def basic_pair(header: str) -> str | None:
    """`user:password` of an Authorization header of the Basic scheme (RFC 7617); None when it is none."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        return None


def sign_layer(repository: RepositoryId, digest: str, expires: int, key: bytes) -> str:
    """The signature of a URL from which one layer may be fetched until `expires` (epoch seconds)."""
    return _mac(b"layer", f"{repository.arn}\n{digest}\n{expires}".encode(), key).hex()


def layer_signature_holds(
    repository: RepositoryId, digest: str, expires: str, signature: str, key: bytes, now: float
) -> bool:
    """Whether a URL's signature is ours and its time not over."""
    if not expires.isascii() or not expires.isdigit() or len(expires) > 12 or int(expires) <= now:
        return False
    expected = sign_layer(repository, digest, int(expires), key)
    return hmac.compare_digest(expected.encode(), signature.encode())


def _mac(purpose: bytes, payload: bytes, key: bytes) -> bytes:
    return hmac.new(key, purpose + b"\n" + payload, sha256).digest()


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
