"""A kind of entity: who owns it, what its record is, and which subject one of them lives on.

The subject is `state.<service>.<kind>.<token>…`, one token a key field, so that a reader can filter on a prefix
of the key. Tokens are escaped as RFC 3986 escapes, because NATS gives `.`, `*`, `>` and white space a meaning.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar
from urllib.parse import unquote

import msgspec

Record = TypeVar("Record", bound=msgspec.Struct)
Key = tuple[str, ...]

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_:/=+@,~!")
_EMPTY = "%"


def escape(token: str) -> str:
    """A key field as a subject token. The empty string becomes a lone `%`."""
    if not token:
        return _EMPTY
    if _PLAIN.issuperset(token):
        return token
    return "".join(c if c in _PLAIN else "".join(f"%{b:02X}" for b in c.encode()) for c in token)


def unescape(token: str) -> str:
    """The key field that `escape` made this token of."""
    return "" if token == _EMPTY else unquote(token)


class Kind(Generic[Record]):
    """One kind of entity of one service.

    `key` names the record's fields that make up its key, in subject order.
    """

    def __init__(self, service: str, name: str, record: type[Record], key: tuple[str, ...]) -> None:
        missing = set(key) - set(record.__struct_fields__)
        if missing:
            raise TypeError(f"{record.__name__} has no field {', '.join(sorted(missing))}")
        self.service = service
        self.name = name
        self.record = record
        self.key_fields = key
        self.prefix = f"state.{service}.{name}"
        self.stream = f"STATE_{service.upper()}"
        self.decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(record)

    def __repr__(self) -> str:
        return f"Kind({self.service}.{self.name})"

    def key_of(self, record: Any) -> Key:
        """The key of a record of this kind."""
        return tuple(str(getattr(record, field)) for field in self.key_fields)

    def subject(self, key: Key) -> str:
        """The subject of the entity with this whole key."""
        if len(key) != len(self.key_fields):
            raise ValueError(f"{self!r} has the key {self.key_fields}, not {key}")
        return ".".join((self.prefix, *map(escape, key)))

    def filter(self, **fields: str) -> str:
        """A subject filter: the given key fields exact, the others any. No field: every entity of the kind."""
        unknown = set(fields) - set(self.key_fields)
        if unknown:
            raise ValueError(f"{self!r} has no key field {', '.join(sorted(unknown))}")
        return ".".join((self.prefix, *(escape(fields[f]) if f in fields else "*" for f in self.key_fields)))

    def key_from(self, subject: str) -> Key:
        """The key in a subject of this kind."""
        return tuple(unescape(t) for t in subject.split(".")[3:])
