"""What a session of ExecuteCommand wrote, for CloudWatch Logs and for S3: the cluster's configuration says whether and
where."""

from __future__ import annotations

import base64

import msgspec
import structlog

from contracts.records.exec import ExecOpen
from contracts.records.logs import LogBatch, LogEvent
from contracts.rpc.identity import STORE_SESSION_LOG, StoreSessionLog
from contracts.subjects import log_stream
from services.shared.bus import Bus, CommandRefused
from services.shared.clock import Clock
from services.shared.errors import StateUnavailable

log = structlog.get_logger()

PIECE = 128 * 1024
MOST = 4 * 1024 * 1024
"""A session's log has so many bytes at most; what comes after is not logged, and the log says so."""
CUT = f"[the log of a session has {MOST} bytes at most]"
STORED_WITHIN_S = 25.0


class SessionLog:
    """Collects a session's output and writes it when the session is over, as Session Manager's agent does: as the log
    stream of the session's name, and as an object in S3."""

    def __init__(self, bus: Bus, wanted: ExecOpen, clock: Clock) -> None:
        self._bus = bus
        self._wanted = wanted
        self._clock = clock
        self._said = bytearray()
        self._cut = False

    def take(self, data: bytes) -> None:
        """The command wrote this."""
        if self._wanted.log_group or self._wanted.log_bucket:
            self._cut = self._cut or len(self._said) + len(data) > MOST
            self._said += data[: MOST - len(self._said)]

    async def close(self) -> str:
        """Write it. What it says, if anything, is why it could not be logged, for whoever is at the session."""
        if not self._said:
            return ""
        lost = []
        if self._wanted.log_group and not await self._to_log_group():
            lost.append(f"The session could not be logged to the log group {self._wanted.log_group}.")
        if self._wanted.log_bucket and (why := await self._to_bucket()):
            lost.append(f"The session could not be logged to the bucket {self._wanted.log_bucket}: {why}")
        for told in lost:
            log.warning("exec.not_logged", session=self._wanted.session, why=told)
        return "\n".join(lost)

    async def _to_log_group(self) -> bool:
        now = int(self._clock() * 1000)
        wanted = self._wanted
        subject = log_stream(wanted.account, wanted.region, wanted.log_group, wanted.session)
        text = bytes(self._said).decode(errors="replace")
        pieces = [text[start : start + PIECE] for start in range(0, len(text), PIECE)]
        for number, piece in enumerate([*pieces, CUT] if self._cut else pieces):
            batch = LogBatch(events=[LogEvent(now, piece)], ingested_at=now)
            try:
                await self._bus.publish(
                    subject, msgspec.json.encode(batch), {"Nats-Msg-Id": f"{wanted.session}:{number}"}
                )
            except StateUnavailable:
                return False
        return True

    async def _to_bucket(self) -> str:
        """Why not; empty when it is there. As with ECS it is the task's role that puts it there."""
        wanted = self._wanted
        if not wanted.log_role:
            return "the task has no task role, which would have to be allowed s3:PutObject"
        content = bytes(self._said) + (f"\n{CUT}\n".encode() if self._cut else b"")
        request = StoreSessionLog(
            role_arn=wanted.log_role,
            task=wanted.task,
            account=wanted.account,
            region=wanted.region,
            bucket=wanted.log_bucket,
            key=wanted.log_key,
            content=base64.b64encode(content).decode(),
        )
        try:
            await self._bus.call(STORE_SESSION_LOG, request, timeout=STORED_WITHIN_S)
        except CommandRefused as refused:
            return refused.message
        except StateUnavailable as error:
            return error.message
        return ""
