"""The key of a service's own door: what changes something over its own HTTP takes it.

Reading is open to whoever reaches the port. A container that reaches the host's loopback must not change anything.
"""

from __future__ import annotations

import contextlib
import hmac
import secrets
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from services.shared.errors import AwsError
from services.shared.http import Handler, problem
from services.shared.private_files import write_private

KEY_DIGITS = 48


def door_key(path: Path) -> str:
    """The secret in this file; made once, readable by its owner alone."""
    with contextlib.suppress(FileNotFoundError):
        if len(key := path.read_text().strip()) == KEY_DIGITS:
            return key
    # None, or a broken one: an empty key would be anybody's.
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    key = secrets.token_hex(KEY_DIGITS // 2)
    write_private(path, key.encode())
    return key


def shows_key(request: web.BaseRequest, key: str) -> bool:
    """Whether the request has the header `Authorization: Bearer KEY`."""
    scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(shown.strip().encode(), key.encode())


class KeyedDoor:
    """Holds a service's own routes; those that are `locked` (services.shared.http.Route) take the key in this file.
    `refuses` are the errors of bad input: 400 with what they say. What can't be done now is 503. `says_no` gives an
    answer its form."""

    refuses: tuple[type[Exception], ...] = ()
    says_no: Callable[[str, int], web.Response] = staticmethod(problem)

    def __init__(self, key: Path) -> None:
        self._key_file, self._door_key = key, door_key(key)

    def locked(self, handler: Handler) -> Handler:
        """The handler, for those who show the key."""

        async def checked(request: web.Request) -> web.StreamResponse:
            if not shows_key(request, self._door_key):
                return self.says_no(f"show the key of {self._key_file} (Authorization: Bearer …)", 401)
            try:
                return await handler(request)
            except self.refuses as error:
                return self.says_no(str(error), 400)
            except AwsError as error:
                return self.says_no(error.message, 503)

        return checked
