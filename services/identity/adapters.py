"""Where the account's key pair is handed to its owner: a file that only they can read."""

from __future__ import annotations

import secrets
from pathlib import Path

import msgspec

from services.shared.private_files import write_private
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
    write_private(path, msgspec.json.encode(credentials) + b"\n")
