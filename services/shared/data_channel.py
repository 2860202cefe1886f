"""The binary messages of Session Manager's data channel, and how they are made sure of over a way that may lose some.

The format is described by the public session-manager-plugin (github.com/aws/session-manager-plugin, src/message). All
integers are big-endian; the type is padded with spaces; a UUID has its two halves swapped:

    4 header length (116) | 32 type | 4 version | 8 created, ms | 8 sequence | 8 flags | 16 id
    | 32 SHA-256 of the payload | 4 payload type | 4 payload length | payload

A stream message (input_stream_data, output_stream_data) counts up from 0 in each direction and is acknowledged with its
number and id. Pure: the time is passed in, in seconds.
"""

from __future__ import annotations

import hashlib
import struct
import uuid
from collections import OrderedDict
from typing import Any

import msgspec

INPUT = "input_stream_data"
OUTPUT = "output_stream_data"
ACKNOWLEDGE = "acknowledge"
CHANNEL_CLOSED = "channel_closed"

DATA = 1
SIZE = 3
HANDSHAKE_REQUEST = 5
HANDSHAKE_RESPONSE = 6
HANDSHAKE_COMPLETE = 7
FLAG = 10
STDERR = 11
TERMINATE = 2
"""The value of a FLAG message that ends the session."""

MAX_DATA = 16 * 1024
WINDOW = 32
RESEND_S = 2.0
SCHEMA_VERSION = 1

_HEADER = struct.Struct(">I32sIQqQ16s32sII")
_HEADER_LENGTH = _HEADER.size - 4
_ALONE = 3
"""SYN and FIN: a message that is no part of a stream."""


class BadMessage(Exception):
    """These bytes are no message."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message. `created_ms`: milliseconds since the epoch."""

    type: str
    payload: bytes = b""
    payload_type: int = 0
    sequence: int = 0
    flags: int = 0
    id: uuid.UUID
    created_ms: int
    schema_version: int = SCHEMA_VERSION


class Acknowledged(msgspec.Struct, frozen=True, rename="pascal"):
    """The payload of an acknowledge message."""

    acknowledged_message_type: str
    acknowledged_message_id: str
    acknowledged_message_sequence_number: int
    is_sequential_message: bool = True


class Closed(msgspec.Struct, frozen=True, rename="pascal"):
    """The payload of channel_closed. `exit_code` is Roadstead's own; the plugin passes it over."""

    message_id: str
    created_date: str
    destination_id: str
    session_id: str
    message_type: str = CHANNEL_CLOSED
    schema_version: int = SCHEMA_VERSION
    output: str = ""
    exit_code: int | None = None


class Size(msgspec.Struct, frozen=True):
    """The payload of a SIZE message: a terminal's."""

    cols: int
    rows: int


class Opening(msgspec.Struct, frozen=True, rename="pascal"):
    """The first thing a client sends, as text: open_data_channel."""

    token_value: str
    message_schema_version: str = "1.0"
    request_id: str = ""
    client_id: str = ""
    client_version: str = ""


def encode(message: Message) -> bytes:
    """The bytes of a message."""
    name = message.type.encode()
    if len(name) > 32:
        raise ValueError(f"the type {message.type!r} has more than 32 bytes")
    header = _HEADER.pack(
        _HEADER_LENGTH,
        name.ljust(32),
        message.schema_version,
        message.created_ms,
        message.sequence,
        message.flags,
        _swapped(message.id.bytes),
        hashlib.sha256(message.payload).digest(),
        message.payload_type,
        len(message.payload),
    )
    return header + message.payload


def decode(data: bytes) -> Message:
    """The message of these bytes. Raises BadMessage when they are too short, or the payload is not what they say."""
    if len(data) < _HEADER.size:
        raise BadMessage(f"{len(data)} bytes are no whole header")
    length, name, version, created, sequence, flags, half, digest, kind, size = _HEADER.unpack_from(data)
    if length < _HEADER_LENGTH or length + 4 > len(data):
        raise BadMessage(f"a header of {length} bytes")
    payload = data[length + 4 :]
    if size != len(payload) or (payload and hashlib.sha256(payload).digest() != digest):
        raise BadMessage("the payload is not the one that the header tells of")
    try:
        text = name.strip(b"\0 ").decode()
    except UnicodeDecodeError:
        raise BadMessage("a type that is no UTF-8") from None
    return Message(
        type=text,
        payload=payload,
        payload_type=kind,
        sequence=sequence,
        flags=flags,
        id=uuid.UUID(bytes=_swapped(half)),
        created_ms=created,
        schema_version=version,
    )


def _swapped(data: bytes) -> bytes:
    return data[8:] + data[:8]


def acknowledgement(of: Message, now: float) -> bytes:
    """The message that says that another has come."""
    payload = msgspec.json.encode(Acknowledged(of.type, str(of.id), of.sequence))
    return encode(Message(type=ACKNOWLEDGE, payload=payload, flags=_ALONE, id=uuid.uuid4(), created_ms=int(now * 1000)))


def closing(session: str, now: float, *, output: str = "", exit_code: int | None = None) -> bytes:
    """The message that ends a session. The plugin prints `output`."""
    number = uuid.uuid4()
    payload = msgspec.json.encode(
        Closed(str(number), str(int(now * 1000)), session, session, output=output, exit_code=exit_code)
    )
    return encode(Message(type=CHANNEL_CLOSED, payload=payload, flags=_ALONE, id=number, created_ms=int(now * 1000)))


class Sender:
    """One direction of a channel at who sends: gives numbers, keeps what is not acknowledged to send it again."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._next = 0
        self._unacknowledged: OrderedDict[int, tuple[float, bytes]] = OrderedDict()

    @property
    def pending(self) -> int:
        """How many messages are not acknowledged. Who sends at its own pace waits while it is WINDOW or more."""
        return len(self._unacknowledged)

    def send(self, payload_type: int, payload: bytes, now: float) -> bytes:
        """The next message."""
        message = Message(
            type=self._kind,
            payload=payload,
            payload_type=payload_type,
            sequence=self._next,
            id=uuid.uuid4(),
            created_ms=int(now * 1000),
        )
        data = encode(message)
        self._unacknowledged[self._next] = (now, data)
        self._next += 1
        return data

    def acknowledged(self, message: Message) -> None:
        """An acknowledge message came. Raises BadMessage."""
        try:
            content = msgspec.json.decode(message.payload, type=Acknowledged)
        except msgspec.MsgspecError as error:
            raise BadMessage(str(error)) from None
        self._unacknowledged.pop(content.acknowledged_message_sequence_number, None)

    def overdue(self, now: float) -> list[bytes]:
        """What was sent RESEND_S ago or longer and nobody acknowledged: to be sent again."""
        late = [number for number, (sent, _) in self._unacknowledged.items() if now - sent >= RESEND_S]
        for number in late:
            self._unacknowledged[number] = (now, self._unacknowledged[number][1])
        return [self._unacknowledged[number][1] for number in late]


class Receiver:
    """The same direction at who receives: each message once, in order."""

    def __init__(self) -> None:
        self._expected = 0
        self._early: dict[int, Message] = {}

    def take(self, message: Message) -> tuple[list[Message], bool]:
        """(what is now to be acted upon, in order; whether this one is to be acknowledged). One that is further ahead
        than a WINDOW is not: it has to come again."""
        if message.sequence >= self._expected + WINDOW:
            return [], False
        if message.sequence >= self._expected:
            self._early[message.sequence] = message
        ready = []
        while (following := self._early.pop(self._expected, None)) is not None:
            ready.append(following)
            self._expected += 1
        return ready, True


def handshake_request(version: str, *, tty: bool) -> bytes:
    """The payload that says what kind of session it is. Both kinds are a shell's to the plugin."""
    session: dict[str, Any] = {"SessionType": "InteractiveCommands" if tty else "NonInteractiveCommands"}
    action = {"ActionType": "SessionType", "ActionParameters": {**session, "Properties": {}}}
    return msgspec.json.encode({"AgentVersion": version, "RequestedClientActions": [action]})


def handshake_complete() -> bytes:
    """The payload after which a client starts to send its input."""
    return msgspec.json.encode({"HandshakeTimeToComplete": 0, "CustomerMessage": ""})
