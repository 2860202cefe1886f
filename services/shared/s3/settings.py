"""Where an S3 is, and the keys to it (`ROADSTEAD_S3_…`)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from services.shared.aws.signer import Credentials
from services.shared.settings import SettingsError


class S3Settings(msgspec.Struct, kw_only=True, frozen=True):
    """`endpoint` is a URL without a path; empty, it is AWS' own of the region. The secret is given as it is or, better,
    as a file that has nothing else in it. `addressing`: whether a bucket is the first part of the path or of the
    host's name. `ca_file` are certificates to trust in place of the system's.

    A request is tried `attempts` times in all, each waiting `timeout_s` at most for the next bytes.
    """

    endpoint: str = ""
    region: str = "us-east-1"
    access_key_id: str = ""
    secret_access_key: str = ""
    secret_access_key_file: str = ""
    session_token: str = ""
    addressing: Literal["path", "virtual"] = "path"
    ca_file: str = ""
    attempts: int = 4
    timeout_s: float = 30.0
    connections: int = 64

    def __repr__(self) -> str:
        return f"S3Settings(endpoint={self.base!r}, access_key_id={self.access_key_id!r})"

    @property
    def base(self) -> str:
        """The endpoint's URL."""
        return self.endpoint.rstrip("/") or f"https://s3.{self.region}.amazonaws.com"

    @property
    def credentials(self) -> Credentials:
        """The keys. Raises SettingsError when there are none, or the file can't be read."""
        secret = self.secret_access_key
        if self.secret_access_key_file:
            try:
                secret = Path(self.secret_access_key_file).read_text().strip()
            except (OSError, UnicodeDecodeError) as error:
                raise SettingsError(f"ROADSTEAD_S3_SECRET_ACCESS_KEY_FILE can't be read: {error}") from None
        if not self.access_key_id or not secret:
            raise SettingsError(
                "S3 needs keys: set ROADSTEAD_S3_ACCESS_KEY_ID and ROADSTEAD_S3_SECRET_ACCESS_KEY_FILE "
                "(or ROADSTEAD_S3_SECRET_ACCESS_KEY)"
            )
        return Credentials(self.access_key_id, secret, self.session_token)
