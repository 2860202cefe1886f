"""What makes a webhook, and what is wrong with it."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import msgspec

from services.events.decisions import patterns
from services.events.decisions.deliveries import read_secret

NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")


class BadWebhook(ValueError):
    """The request makes no webhook; the message names the member."""


class NewWebhook(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What a webhook is made of. Without a `secret` one is made."""

    name: str
    url: str
    pattern: dict[str, Any] = {}
    secret: str = ""
    account: str = "000000000000"
    region: str = "us-east-1"


def read(body: bytes) -> NewWebhook:
    """The request, checked. Raises BadWebhook."""
    try:
        wanted = msgspec.json.decode(body, type=NewWebhook)
    except msgspec.MsgspecError as error:
        raise BadWebhook(str(error)) from None
    if not NAME.match(wanted.name):
        raise BadWebhook("name must be 1 to 64 letters, digits, dots, hyphens and underscores")
    try:
        parts = urlsplit(wanted.url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or len(wanted.url) > 2048:
        raise BadWebhook("url must be one of http or https, of at most 2048 characters")
    if not re.fullmatch(r"\d{12}", wanted.account):
        raise BadWebhook("account must be 12 digits")
    if not re.fullmatch(r"[a-z0-9-]{1,64}", wanted.region):
        raise BadWebhook("region must be the name of a region")
    try:
        patterns.check(wanted.pattern)
        if wanted.secret:
            read_secret(wanted.secret)
    except ValueError as error:
        raise BadWebhook(str(error)) from None
    return wanted
