"""Where the account's key pair is handed to its owner: a file that only they can read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import msgspec

from services.shared.settings import SettingsError


class Credentials(msgspec.Struct, kw_only=True, frozen=True):
    """What `roadstead env` prints."""

    access_key_id: str
    secret: str
    account: str
    region: str = "us-east-1"


def choose(alphabet: str, length: int) -> str:
    """Random characters fit for a secret."""
    return "".join(secrets.choice(alphabet) for _ in range(length))


def read_credentials(path: Path) -> Credentials | None:
    """The key pair in this file, None when there is none. Raises SettingsError when it can't be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Credentials)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise SettingsError(f"{path} holds no key pair ({error}); delete it to be given a new one") from None


def write_credentials(path: Path, credentials: Credentials) -> None:
    """Write the file whole or not at all, readable by its owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(credentials) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
