"""Log groups and log streams."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from contracts.aws import logs
from contracts.kinds import unescape
from contracts.records.monitor import LOG_GROUP, LOG_STREAM, LogGroup, LogStream
from services.monitor.adapters.streams import edge_event
from services.monitor.api.places import NO_GROUP, Places, group_arn, group_name, name_in_arn
from services.monitor.decisions import pages
from services.monitor.decisions.logs import RETENTION_DAYS, invalid
from services.shared.aws.context import RequestContext
from services.shared.aws.service import AwsService
from services.shared.bus import Conflict
from services.shared.errors import AwsError

PAGE = 50


class LogGroups(Places, AwsService):
    """What holds the events."""

    api = logs.API

    async def create_log_group(self, context: RequestContext, request: logs.CreateLogGroupRequest) -> None:
        """Make a group; it must not exist, not even by events."""
        if request.kms_key_id:
            raise invalid("Encryption with a KMS key is not supported by Roadstead.")
        name = request.log_group_name
        if await self._written(context, name):
            raise AwsError("ResourceAlreadyExistsException", "The specified log group already exists")
        record = LogGroup(
            account=context.account,
            region=context.region,
            name=name,
            created_at=self._now_ms(),
            log_group_class=request.log_group_class or "STANDARD",
            deletion_protection=bool(request.deletion_protection_enabled),
            tags=request.tags or {},
        )
        try:
            await self._store.put(LOG_GROUP, record, "log_group.created.v1", expect=0)
        except Conflict:
            raise AwsError("ResourceAlreadyExistsException", "The specified log group already exists") from None

    async def create_log_stream(self, context: RequestContext, request: logs.CreateLogStreamRequest) -> None:
        """Make a stream in a group that exists."""
        group, name = request.log_group_name, request.log_stream_name
        taken = AwsError("ResourceAlreadyExistsException", "The specified log stream already exists")
        if name in await self._streams(context, group):
            raise taken
        record = LogStream(
            account=context.account, region=context.region, group=group, name=name, created_at=self._now_ms()
        )
        try:
            await self._store.put(LOG_STREAM, record, "log_stream.created.v1", expect=0)
        except Conflict:
            raise taken from None

    async def delete_log_group(self, context: RequestContext, request: logs.DeleteLogGroupRequest) -> None:
        """Delete a group with its streams and events. A container that still runs makes it anew with its next line."""
        name = request.log_group_name
        group = await self._group(context, name)
        if group.deletion_protection:
            raise AwsError("InvalidOperationException", "The log group has deletion protection enabled.")
        await self._purge(self._pattern(context, name))
        for stream in self._store.table(LOG_STREAM).records(context.account, context.region, name):
            await self._store.delete(LOG_STREAM, LOG_STREAM.key_of(stream), "log_stream.deleted.v1")
        await self._store.delete(LOG_GROUP, LOG_GROUP.key_of(group), "log_group.deleted.v1")

    async def delete_log_stream(self, context: RequestContext, request: logs.DeleteLogStreamRequest) -> None:
        """Delete a stream with its events."""
        group, name = request.log_group_name, request.log_stream_name
        await self._need_stream(context, group, name)
        if self._record(context, group) is None:
            await self._change_group(context, group, "log_group.created.v1")
        await self._purge(self._subject(context, group, name))
        key = (context.account, context.region, group, name)
        await self._store.delete(LOG_STREAM, key, "log_stream.deleted.v1")

    async def _purge(self, pattern: str) -> None:
        await self._bus.api("STREAM.PURGE.LOGS", {"filter": pattern})

    async def describe_log_groups(
        self, context: RequestContext, request: logs.DescribeLogGroupsRequest
    ) -> logs.DescribeLogGroupsResponse:
        """The groups by name, those that exist by their events among them."""
        if request.log_group_name_prefix and request.log_group_name_pattern:
            raise invalid("LogGroupNamePrefix and LogGroupNamePattern are mutually exclusive parameters.")
        made = {g.name for g in self._store.table(LOG_GROUP).records(context.account, context.region)}
        written = await self._reader.subjects(self._pattern(context))
        names = made | {unescape(subject.split(".")[3]) for subject in written}
        prefix, part = request.log_group_name_prefix or "", (request.log_group_name_pattern or "").lower()
        asked = {name_in_arn(i) for i in request.log_group_identifiers or []}
        fitting = [n for n in names if n.startswith(prefix) and part in n.lower() and (not asked or n in asked)]
        shown, following = _page(fitting, str, request)
        groups = []
        for name in shown:
            with contextlib.suppress(AwsError):  # gone since
                group = await self._group(context, name)
                if request.log_group_class in (None, group.log_group_class):
                    groups.append(_shown(group))
        return logs.DescribeLogGroupsResponse(log_groups=groups, next_token=following)

    async def describe_log_streams(
        self, context: RequestContext, request: logs.DescribeLogStreamsRequest
    ) -> logs.DescribeLogStreamsResponse:
        """The streams of a group, by name or by their last event."""
        group = group_name(request.log_group_name, request.log_group_identifier)
        by_time = request.order_by == "LastEventTime"
        if by_time and request.log_stream_name_prefix:
            raise invalid("Cannot order by LastEventTime with a logStreamNamePrefix.")
        names = await self._streams(context, group)
        fitting = [n for n in names if n.startswith(request.log_stream_name_prefix or "")]
        told: dict[str, logs.LogStream] = {}
        if by_time:
            told = await self._told(context, group, fitting)
        place = (lambda n: f"{told[n].last_event_timestamp or 0:020d} {n}") if by_time else str
        shown, following = _page(fitting, place, request, descending=bool(request.descending))
        if not by_time:
            told = await self._told(context, group, shown)
        return logs.DescribeLogStreamsResponse(log_streams=[told[n] for n in shown], next_token=following)

    async def _told(self, context: RequestContext, group: str, names: list[str]) -> dict[str, logs.LogStream]:
        told = await asyncio.gather(*(self._stream(context, group, name) for name in names))
        return dict(zip(names, told, strict=True))

    async def _stream(self, context: RequestContext, group: str, name: str) -> logs.LogStream:
        subject = self._subject(context, group, name)
        record = self._store.table(LOG_STREAM).record(context.account, context.region, group, name)
        oldest, newest = await asyncio.gather(self._reader.first(subject), self._reader.last(subject))
        first, last = edge_event(oldest, 0), edge_event(newest, -1)
        return logs.LogStream(
            log_stream_name=name,
            creation_time=record.created_at if record else (first[1] if first else None),
            first_event_timestamp=first[0].timestamp if first else None,
            last_event_timestamp=last[0].timestamp if last else None,
            last_ingestion_time=last[1] if last else None,
            upload_sequence_token=f"{newest.sequence if newest else 0:056d}",
            arn=f"arn:aws:logs:{context.region}:{context.account}:log-group:{group}:log-stream:{name}",
            stored_bytes=0,
        )

    async def put_retention_policy(self, context: RequestContext, request: logs.PutRetentionPolicyRequest) -> None:
        """Events older than that are not shown any more."""
        if request.retention_in_days not in RETENTION_DAYS:
            raise invalid(f"Invalid retention value. Valid values are: {sorted(RETENTION_DAYS)}")
        days = request.retention_in_days
        await self._change_group(context, request.log_group_name, "log_group.changed.v1", retention_days=days)

    async def delete_retention_policy(
        self, context: RequestContext, request: logs.DeleteRetentionPolicyRequest
    ) -> None:
        """Events are shown as long as they are kept."""
        await self._change_group(context, request.log_group_name, "log_group.changed.v1", retention_days=None)

    async def tag_resource(self, context: RequestContext, request: logs.TagResourceRequest) -> None:
        """Add tags to a group."""
        name = self._tagged(request.resource_arn)
        group = await self._group(context, name)
        await self._change_group(context, name, "log_group.changed.v1", tags={**group.tags, **request.tags})

    async def untag_resource(self, context: RequestContext, request: logs.UntagResourceRequest) -> None:
        """Take tags off a group."""
        name = self._tagged(request.resource_arn)
        group = await self._group(context, name)
        left = {k: v for k, v in group.tags.items() if k not in request.tag_keys}
        await self._change_group(context, name, "log_group.changed.v1", tags=left)

    async def list_tags_for_resource(
        self, context: RequestContext, request: logs.ListTagsForResourceRequest
    ) -> logs.ListTagsForResourceResponse:
        """A group's tags."""
        group = await self._group(context, self._tagged(request.resource_arn))
        return logs.ListTagsForResourceResponse(tags=group.tags)

    def _tagged(self, arn: str) -> str:
        if not arn.startswith("arn:"):
            raise AwsError("ResourceNotFoundException", NO_GROUP)
        return name_in_arn(arn)


def _page(
    names: list[str], place: Callable[[str], str], request: Any, *, descending: bool = False
) -> tuple[list[str], str | None]:
    try:
        return pages.page(names, place, request.next_token, request.limit or PAGE, descending=descending)
    except pages.BadToken:
        raise invalid("The specified nextToken is invalid.") from None


def _shown(group: LogGroup) -> logs.LogGroup:
    return logs.LogGroup(
        log_group_name=group.name,
        creation_time=group.created_at,
        retention_in_days=group.retention_days,
        metric_filter_count=0,
        arn=group_arn(group) + ":*",
        log_group_arn=group_arn(group),
        stored_bytes=0,
        kms_key_id=group.kms_key_id,
        log_group_class=group.log_group_class,  # type: ignore[arg-type]
        deletion_protection_enabled=group.deletion_protection,
    )
