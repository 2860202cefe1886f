"""What exists: groups and streams that were made by name, and those that exist because something was written there."""

from __future__ import annotations

import re

import msgspec

from contracts.kinds import escape, unescape
from contracts.records.monitor import LOG_GROUP, LOG_STREAM, LogGroup
from contracts.subjects import log_stream
from services.monitor.adapters.streams import LogReader, edge_event
from services.monitor.decisions.logs import invalid
from services.shared.aws.context import RequestContext
from services.shared.bus import Bus
from services.shared.clock import Clock
from services.shared.errors import AwsError
from services.shared.state import Store

NO_GROUP = "The specified log group does not exist."
NO_STREAM = "The specified log stream does not exist."
_ARN = re.compile(r"arn:aws[\w-]*:logs:([^:]*):([^:]*):log-group:([^:]+)(:\*)?\Z")


class Places:
    """The base of the API's classes: the records, the stream, and what both say together."""

    def __init__(self, bus: Bus, store: Store, reader: LogReader, clock: Clock, scan_bytes: int) -> None:
        self._bus = bus
        self._store = store
        self._reader = reader
        self._clock = clock
        self._scan_bytes = scan_bytes

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)

    def _record(self, context: RequestContext, group: str) -> LogGroup | None:
        return self._store.table(LOG_GROUP).record(context.account, context.region, group)

    async def _written(self, context: RequestContext, group: str) -> set[str]:
        """The streams of a group that have events."""
        pattern = self._pattern(context, group)
        return {unescape(subject.split(".")[4]) for subject in await self._reader.subjects(pattern)}

    def _pattern(self, context: RequestContext, group: str = "") -> str:
        """The subjects of a group's streams; without a group, of all groups'."""
        return f"logs.{escape(context.account)}.{escape(context.region)}.{escape(group) if group else '*'}.*"

    def _subject(self, context: RequestContext, group: str, stream: str) -> str:
        return log_stream(context.account, context.region, group, stream)

    async def _streams(self, context: RequestContext, group: str) -> set[str]:
        """All streams of a group. Raises ResourceNotFoundException when there is no such group."""
        made = {r.name for r in self._store.table(LOG_STREAM).records(context.account, context.region, group)}
        streams = made | await self._written(context, group)
        if not streams and self._record(context, group) is None:
            raise AwsError("ResourceNotFoundException", NO_GROUP)
        return streams

    async def _need_stream(self, context: RequestContext, group: str, stream: str) -> None:
        """Raises ResourceNotFoundException when there is no such group or stream."""
        if self._store.table(LOG_STREAM).get(context.account, context.region, group, stream) is not None:
            return
        if await self._reader.last(self._subject(context, group, stream)) is not None:
            return
        await self._streams(context, group)
        raise AwsError("ResourceNotFoundException", NO_STREAM)

    async def _group(self, context: RequestContext, group: str) -> LogGroup:
        """The group's record, made up for one that only exists by its events. Raises ResourceNotFoundException."""
        record = self._record(context, group)
        if record is not None:
            return record
        first = edge_event(await self._reader.first(self._pattern(context, group)), 0)
        if first is None:
            await self._streams(context, group)
        created = first[1] if first else self._now_ms()
        return LogGroup(account=context.account, region=context.region, name=group, created_at=created)

    async def _change_group(self, context: RequestContext, group: str, event: str, **members: object) -> None:
        """Write members of a group's record; one that exists by its events gets a record."""
        implied = await self._group(context, group)
        key = (context.account, context.region, group)
        await self._store.update(LOG_GROUP, key, lambda old: msgspec.structs.replace(old or implied, **members), event)


def group_name(name: str | None, identifier: str | None) -> str:
    """The group that a request names, by name or by ARN. Raises InvalidParameterException."""
    if bool(name) == bool(identifier):
        raise invalid("Exactly one of logGroupName and logGroupIdentifier must be given.")
    return name or name_in_arn(identifier or "")


def name_in_arn(identifier: str) -> str:
    """The group's name in an ARN; what is no ARN is the name. Raises InvalidParameterException."""
    if not identifier.startswith("arn:"):
        return identifier
    found = _ARN.match(identifier)
    if found is None:
        raise invalid(f"{identifier} is not the ARN of a log group.")
    return found[3]


def group_arn(group: LogGroup) -> str:
    """Its ARN, without `:*`."""
    return f"arn:aws:logs:{group.region}:{group.account}:log-group:{group.name}"
