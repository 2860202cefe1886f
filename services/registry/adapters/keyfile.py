"""The key that tokens and layer URLs are signed with: a file, so that they outlive the process."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from services.registry.adapters.files import sync_directory

KEY_BYTES = 32


def load_key(path: Path) -> bytes:
    """The key in this file; a new one, readable by its owner alone, when there is none."""
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        key = b""
    if len(key) == KEY_BYTES:
        return key
    path.parent.mkdir(parents=True, exist_ok=True)
    key = secrets.token_bytes(KEY_BYTES)
    part = path.with_suffix(".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    sync_directory(path.parent)
    return key
