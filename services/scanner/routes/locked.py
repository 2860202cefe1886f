"""What the scanner's doors have in common: reading is open, what changes something takes the key."""

from __future__ import annotations

import msgspec
from aiohttp import web

from services.scanner.adapters.files import Files
from services.scanner.decisions import gates
from services.shared.door_key import shows_key
from services.shared.errors import AwsError
from services.shared.http import Handler, answer


class Refused(msgspec.Struct, frozen=True):
    """Why not."""

    error: str


LOCK = {401: "the key is missing or wrong", 503: "NATS is away"}


def refusal(status: int, why: str) -> web.Response:
    """An answer that says why not."""
    return answer(Refused(why), status)


class Locked:
    """A door with the key that lies in the scanner's directory."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._key = files.door_key()

    def locked(self, handler: Handler) -> Handler:
        """The handler, for those who show the key."""

        async def checked(request: web.Request) -> web.StreamResponse:
            if not shows_key(request, self._key):
                return refusal(401, f"show the key of {self._files.key} (Authorization: Bearer …)")
            try:
                return await handler(request)
            except gates.BadGate as error:
                return refusal(400, str(error))
            except AwsError as error:
                return refusal(503, error.message)

        return checked
