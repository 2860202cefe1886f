"""A command that one service asks of another: request/reply over NATS, on `rpc.<service>.<command>`."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

Request = TypeVar("Request", bound=msgspec.Struct)
Reply = TypeVar("Reply", bound=msgspec.Struct)


class Command(Generic[Request, Reply]):
    """One command: who carries it out, its name (imperative), and the shapes of request and reply."""

    def __init__(self, service: str, name: str, request: type[Request], reply: type[Reply]) -> None:
        self.service = service
        self.name = name
        self.request = request
        self.reply = reply
        self.subject = f"rpc.{service}.{name}"
        self.request_decoder: msgspec.json.Decoder[Request] = msgspec.json.Decoder(request)
        self.reply_decoder: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(reply)
