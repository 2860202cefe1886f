"""Log events: written, read back, searched.

The order of events is the order in which they came in; a page of a search is sorted by time.
"""

from __future__ import annotations

import msgspec

from contracts.aws import logs
from contracts.kinds import unescape
from contracts.records.logs import LogBatch, LogEvent
from services.monitor.api.places import Places, group_name
from services.monitor.decisions.logs import (
    EVENT_OVERHEAD,
    Page,
    Pattern,
    Placed,
    Position,
    accept,
    invalid,
    read_token,
    token,
    within,
)
from services.shared.aws.context import RequestContext
from services.shared.aws.service import AwsService

_DAY_MS = 24 * 3600 * 1000


class LogEvents(Places, AwsService):
    """What was logged."""

    api = logs.API

    async def put_log_events(
        self, context: RequestContext, request: logs.PutLogEventsRequest
    ) -> logs.PutLogEventsResponse:
        """Write events; what is too old or too new is told and not written."""
        group, stream = request.log_group_name, request.log_stream_name
        await self._need_stream(context, group, stream)
        record = self._record(context, group)
        events = [LogEvent(e.timestamp, e.message) for e in request.log_events]
        now = self._now_ms()
        accepted = accept(events, now, record.retention_days if record else None)
        sequence = 0
        if accepted.events:
            batch = LogBatch(events=accepted.events, ingested_at=now)
            sequence = await self._bus.publish(self._subject(context, group, stream), msgspec.json.encode(batch))
        rejected = None
        if len(accepted.events) < len(events):
            rejected = logs.RejectedLogEventsInfo(
                too_new_log_event_start_index=accepted.too_new_start,
                too_old_log_event_end_index=accepted.too_old_end,
                expired_log_event_end_index=accepted.expired_end,
            )
        return logs.PutLogEventsResponse(next_sequence_token=f"{sequence:056d}", rejected_log_events_info=rejected)

    def _start(self, context: RequestContext, group: str, start: int | None) -> int | None:
        """Where shown events begin: what is older than the group's retention is over."""
        record = self._record(context, group)
        if record is None or not record.retention_days:
            return start
        return max(start or 0, self._now_ms() - record.retention_days * _DAY_MS)

    async def get_log_events(
        self, context: RequestContext, request: logs.GetLogEventsRequest
    ) -> logs.GetLogEventsResponse:
        """A page of one stream, forward from a token or the head, or backward from a token or the end. At either end
        the token that was given comes back."""
        group = group_name(request.log_group_name, request.log_group_identifier)
        await self._need_stream(context, group, request.log_stream_name)
        subject = self._subject(context, group, request.log_stream_name)
        start = self._start(context, group, request.start_time)
        direction, position = read_token(request.next_token) if request.next_token else ("", None)
        page = Page(request.limit)
        if direction == "f" or (not direction and request.start_from_head):
            end = await self._fill_forward(page, subject, position or Position(), start, request.end_time)
            begin = page.events[0].position if page.events else end
        else:
            begin, end = await self._fill_backward(page, subject, position, start, request.end_time)
        return logs.GetLogEventsResponse(
            events=[
                logs.OutputLogEvent(timestamp=p.event.timestamp, message=p.event.message, ingestion_time=p.ingested_at)
                for p in page.events
            ],
            next_forward_token=token("f", end),
            next_backward_token=token("b", begin),
        )

    async def _fill_forward(
        self, page: Page, subject: str, position: Position, start: int | None, end: int | None
    ) -> Position:
        """Where the next page begins."""
        async for placed in self._reader.forward(subject, position):
            if within(placed.event, start, end) and not page.add(placed):
                return placed.position
            position = _behind(placed)
        return position

    async def _fill_backward(
        self, page: Page, subject: str, position: Position | None, start: int | None, end: int | None
    ) -> tuple[Position, Position]:
        """Where the pages before and after this one begin. Fills the page with its events in their order."""
        behind = position
        async for placed in self._reader.backward(subject, position):
            behind = behind or _behind(placed)
            if start is not None and placed.event.timestamp < start and placed.ingested_at < start:
                break
            if within(placed.event, start, end) and not page.add(placed):
                break
        page.events.reverse()
        begin = page.events[0].position if page.events else position
        after = _behind(page.events[-1]) if page.events else behind
        return begin or behind or Position(), after or Position()

    async def filter_log_events(
        self, context: RequestContext, request: logs.FilterLogEventsRequest
    ) -> logs.FilterLogEventsResponse:
        """Search a group, or some of its streams, for lines that a pattern means."""
        if request.start_from_head is False:
            raise invalid("startFromHead=false is not supported by Roadstead yet.")
        if request.log_stream_names and request.log_stream_name_prefix:
            raise invalid("LogStreamNames and LogStreamNamePrefix are mutually exclusive parameters.")
        group = group_name(request.log_group_name, request.log_group_identifier)
        names = await self._streams(context, group)
        if request.log_stream_names:
            for name in request.log_stream_names:
                await self._need_stream(context, group, name)
            names &= set(request.log_stream_names)
        names = {n for n in names if n.startswith(request.log_stream_name_prefix or "")}
        position = read_token(request.next_token)[1] if request.next_token else Position()
        page, following = await self._search(context, request, group, names, position)
        found = sorted(page.events, key=lambda p: p.event.timestamp)
        return logs.FilterLogEventsResponse(
            events=[
                logs.FilteredLogEvent(
                    log_stream_name=unescape(p.subject.split(".")[4]),
                    timestamp=p.event.timestamp,
                    message=p.event.message,
                    ingestion_time=p.ingested_at,
                    event_id=f"{p.event.timestamp:016d}{p.position.sequence:032d}{p.position.index:08d}",
                )
                for p in found
            ],
            searched_log_streams=[],
            next_token=following,
        )

    async def _search(
        self,
        context: RequestContext,
        request: logs.FilterLogEventsRequest,
        group: str,
        names: set[str],
        position: Position,
    ) -> tuple[Page, str | None]:
        subjects = {self._subject(context, group, name) for name in names}
        where = next(iter(subjects)) if len(subjects) == 1 else self._pattern(context, group)
        pattern, page, scanned = Pattern(request.filter_pattern), Page(request.limit), 0
        start = self._start(context, group, request.start_time)
        async for placed in self._reader.forward(where, position):
            wanted = placed.subject in subjects and within(placed.event, start, request.end_time)
            if wanted and pattern.matches(placed.event.message) and not page.add(placed):
                return page, token("f", placed.position)
            scanned += len(placed.event.message) + EVENT_OVERHEAD
            if scanned > self._scan_bytes:
                return page, token("f", _behind(placed))
        return page, None


def _behind(placed: Placed) -> Position:
    return Position(placed.position.sequence, placed.position.index + 1)
