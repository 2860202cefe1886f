"""What a session of ExecuteCommand wrote, for CloudWatch Logs: the cluster's configuration says whether and where."""

from __future__ import annotations

import msgspec

from contracts.records.exec import ExecOpen
from contracts.records.logs import LogBatch, LogEvent
from contracts.subjects import log_stream
from services.shared.bus import Bus
from services.shared.clock import Clock
from services.shared.errors import StateUnavailable

PIECE = 128 * 1024
MOST = 4 * 1024 * 1024
"""A session's log has so many bytes at most; what comes after is not logged, and the log says so."""


class SessionLog:
    """Collects a session's output and writes it as the log stream of the session's name when the session is over, as
    Session Manager's agent does."""

    def __init__(self, bus: Bus, wanted: ExecOpen, clock: Clock) -> None:
        self._bus = bus
        self._wanted = wanted
        self._clock = clock
        self._said = bytearray()
        self._cut = False

    def take(self, data: bytes) -> None:
        """The command wrote this."""
        if self._wanted.log_group:
            self._cut = self._cut or len(self._said) + len(data) > MOST
            self._said += data[: MOST - len(self._said)]

    async def close(self) -> None:
        """Write it. One that can't be stored is lost with a warning at the caller's."""
        if not self._wanted.log_group or not self._said:
            return
        now = int(self._clock() * 1000)
        wanted = self._wanted
        subject = log_stream(wanted.account, wanted.region, wanted.log_group, wanted.session)
        text = bytes(self._said).decode(errors="replace")
        pieces = [text[start : start + PIECE] for start in range(0, len(text), PIECE)]
        if self._cut:
            pieces.append(f"[the log of a session has {MOST} bytes at most]")
        for number, piece in enumerate(pieces):
            batch = LogBatch(events=[LogEvent(now, piece)], ingested_at=now)
            try:
                await self._bus.publish(
                    subject, msgspec.json.encode(batch), {"Nats-Msg-Id": f"{wanted.session}:{number}"}
                )
            except StateUnavailable:
                return
