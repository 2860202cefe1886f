"""One trace for one push. Clients send no trace context, so the requests of a push are joined by who sends them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

from opentelemetry.trace import Span

from services.registry.decisions.names import RepositoryId
from services.shared import telemetry
from services.shared.clock import Clock

IDLE_S = 60.0
MAX_OPEN = 1000


class Client(NamedTuple):
    """Who pushes what: the same for all requests of one push."""

    repository: RepositoryId
    authorization: str
    address: str
    agent: str


class _Push(NamedTuple):
    span: Span
    traceparent: str | None
    last: float


class PushTraces:
    """The pushes that go on. A push begins with its first change and ends with a tag, or when nothing comes for a
    minute."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._open: OrderedDict[Client, _Push] = OrderedDict()

    def parent(self, client: Client, headers: Mapping[str, str], *, changes: bool) -> str | None:
        """The traceparent of a request's span: what the client sent, else its push's; None when there is neither.

        A change begins a push.
        """
        sent = headers.get("traceparent")
        if sent:
            return sent
        now = self._clock()
        self._end_idle(now)
        push = self._open.pop(client, None)
        if push is None:
            if not changes:
                return None
            push = self._begin(client, now)
        self._open[client] = push._replace(last=now)
        return push.traceparent

    def end(self, client: Client) -> None:
        """The push is complete."""
        push = self._open.pop(client, None)
        if push is not None:
            push.span.end()

    def close(self) -> None:
        """End them all."""
        for client in list(self._open):
            self.end(client)

    def _begin(self, client: Client, now: float) -> _Push:
        repository = client.repository
        span = telemetry.start_server_span(
            f"push {repository.name}",
            None,
            {"account": repository.account, "region": repository.region, "repository": repository.name},
        )
        with telemetry.current(span):
            return _Push(span, telemetry.traceparent(), now)

    def _end_idle(self, now: float) -> None:
        while self._open:
            client, push = next(iter(self._open.items()))
            if now - push.last < IDLE_S and len(self._open) < MAX_OPEN:
                return
            self.end(client)
