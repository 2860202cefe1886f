"""A command that one service asks of another: request/reply over NATS, on `rpc.<service>.<command>`."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

Request = TypeVar("Request", bound=msgspec.Struct)
Reply = TypeVar("Reply", bound=msgspec.Struct)


class Command(Generic[Request, Reply]):
    """One command: who carries it out, its name (imperative), and the shapes of request and reply. An external node
    asks on a subject of its own (`node_subject` with its name), so that who answers knows who asks."""

    def __init__(self, service: str, name: str, request: type[Request], reply: type[Reply]) -> None:
        self.service = service
        self.name = name
        self.request = request
        self.reply = reply
        self.subject = f"rpc.{service}.{name}"
        self.request_decoder: msgspec.json.Decoder[Request] = msgspec.json.Decoder(request)
        self.node_subject = f"node.*.{self.subject}"
        self.reply_decoder: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(reply)
