"""How an event is sent to a webhook, and what follows from the answer. As Standard Webhooks has it.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import hmac
from hashlib import sha256

import msgspec

SECRET_PREFIX = "whsec_"


class Rules(msgspec.Struct, frozen=True):
    """A delivery that failed is tried again after `first_s`, then twice that, up to `limit_s`; `give_up_s` after the
    event it is given up."""

    first_s: float
    limit_s: float
    give_up_s: float


def headers(secret: bytes, event_id: str, body: bytes, now: float) -> dict[str, str]:
    """The headers of a delivery: which event, when it was sent, and the proof of who sent it."""
    stamp = str(int(now))
    signed = hmac.new(secret, f"{event_id}.{stamp}.".encode() + body, sha256).digest()
    return {
        "content-type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
    }


def delivered(status: int | None) -> bool:
    """Whether a target that answered so has taken the event; None: it gave no answer."""
    return status is not None and 200 <= status < 300


def wait(rules: Rules, attempt: int, age_s: float) -> float | None:
    """How many seconds to wait after the attempt of this number (1: the first) failed, None to give up. `age_s`: how
    long ago the event was."""
    delay = min(rules.limit_s, rules.first_s * 2 ** min(attempt - 1, 30))
    return delay if age_s < rules.give_up_s else None


def read_secret(text: str) -> bytes:
    """The bytes of a secret: base64 behind `whsec_`, 24 to 64 bytes of it. Raises ValueError."""
    try:
        secret = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except ValueError:
        secret = b""
    if not 24 <= len(secret) <= 64:
        raise ValueError("secret must be 24 to 64 bytes in base64, behind whsec_")
    return secret


def write_secret(secret: bytes) -> str:
    """A secret as those who check signatures are told it."""
    return SECRET_PREFIX + base64.b64encode(secret).decode()
