"""What the scanner's doors have in common: reading is open, what changes something takes the key."""

from __future__ import annotations

import msgspec
from aiohttp import web

from services.scanner.adapters.files import Files
from services.scanner.decisions import gates
from services.shared.door_key import KeyedDoor
from services.shared.http import answer


class Refused(msgspec.Struct, frozen=True):
    """Why not."""

    error: str


LOCK = {401: "the key is missing or wrong", 503: "NATS is away"}


def refusal(why: str, status: int) -> web.Response:
    """An answer that says why not."""
    return answer(Refused(why), status)


class Locked(KeyedDoor):
    """A door with the key that lies in the scanner's directory."""

    refuses = (gates.BadGate,)
    says_no = staticmethod(refusal)

    def __init__(self, files: Files) -> None:
        super().__init__(files.key)
        self._files = files
