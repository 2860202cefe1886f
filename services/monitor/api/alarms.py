"""CloudWatch metric alarms."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from contracts.aws import cloudwatch
from contracts.records.monitor import METRIC_ALARM, MetricAlarm
from services.monitor.api.metrics import page
from services.monitor.decisions import alarms, pages, queries
from services.monitor.decisions.putting import wrong
from services.monitor.decisions.store import check_period, check_statistic
from services.shared.aws.context import RequestContext
from services.shared.aws.service import AwsService
from services.shared.clock import Clock
from services.shared.errors import AwsError
from services.shared.state import Store

PAGE = 50
MOST_TAGS = 50
LONGEST_S = 7 * 24 * 3600


class AlarmApi(AwsService):
    """The alarms of an account."""

    api = cloudwatch.API

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def put_metric_alarm(self, context: RequestContext, request: cloudwatch.PutMetricAlarmInput) -> None:
        """Make an alarm, or make another of it, which keeps its state, its history and its tags."""
        check(request)
        now = self._clock()
        tags = {tag.key: tag.value for tag in request.tags or []}
        request.tags = None
        definition = msgspec.to_builtins(request)

        def change(old: MetricAlarm | None) -> MetricAlarm:
            enabled = request.actions_enabled is not False
            if old is not None:
                new = replace(old, request=definition, configured_at=now, actions_enabled=enabled)
                return alarms.noted(new, f'Alarm "{request.alarm_name}" updated', now)
            return alarms.made(context.account, context.region, definition, tags, now, enabled=enabled)

        await self._store.update(METRIC_ALARM, self._key(context, request.alarm_name), change, "alarm.put.v1")

    async def describe_alarms(
        self, context: RequestContext, request: cloudwatch.DescribeAlarmsInput
    ) -> cloudwatch.DescribeAlarmsOutput:
        """The alarms that fit, by name."""
        if request.alarm_names and request.alarm_name_prefix:
            raise AwsError(
                "InvalidParameterCombinationException", "AlarmNames and AlarmNamePrefix are mutually exclusive."
            )
        fitting = [alarm for alarm in self._all(context) if _fits(alarm, request)]
        try:
            shown, following = pages.page(fitting, _name, request.next_token, request.max_records or PAGE)
        except pages.BadToken:
            raise AwsError("InvalidNextToken", "The next token specified is invalid.") from None
        return cloudwatch.DescribeAlarmsOutput(
            metric_alarms=[told(alarm) for alarm in shown], composite_alarms=[], next_token=following
        )

    async def describe_alarms_for_metric(
        self, context: RequestContext, request: cloudwatch.DescribeAlarmsForMetricInput
    ) -> cloudwatch.DescribeAlarmsForMetricOutput:
        """The alarms on one metric."""
        wanted = queries.dimensions_of(request.dimensions)
        found = []
        for alarm in self._all(context):
            put = alarms.request_of(alarm)
            same = (put.namespace, put.metric_name) == (request.namespace, request.metric_name)
            optional = ("statistic", "extended_statistic", "period", "unit")
            asked = all(getattr(request, name) in (None, getattr(put, name)) for name in optional)
            if same and asked and queries.dimensions_of(put.dimensions) == wanted:
                found.append(told(alarm))
        return cloudwatch.DescribeAlarmsForMetricOutput(metric_alarms=found)

    async def describe_alarm_history(
        self, context: RequestContext, request: cloudwatch.DescribeAlarmHistoryInput
    ) -> cloudwatch.DescribeAlarmHistoryOutput:
        """The last hundred lines of each alarm, newest first."""
        lines = [
            cloudwatch.AlarmHistoryItem(
                alarm_name=alarm.name,
                alarm_type="MetricAlarm",
                timestamp=line.at,
                history_item_type=line.type,  # type: ignore[arg-type]
                history_summary=line.summary,
                history_data=line.data,
            )
            for alarm in self._all(context)
            if request.alarm_name in (None, alarm.name)
            for line in alarm.history
            if request.history_item_type in (None, line.type)
            and (request.start_date or 0) <= line.at
            and (request.end_date is None or line.at <= request.end_date)
        ]
        if request.alarm_types and "MetricAlarm" not in request.alarm_types:
            lines = []
        lines.sort(key=lambda line: line.timestamp or 0, reverse=request.scan_by != "TimestampAscending")
        shown, following = page(lines, request.next_token, request.max_records or 100)
        return cloudwatch.DescribeAlarmHistoryOutput(alarm_history_items=shown, next_token=following)

    async def delete_alarms(self, context: RequestContext, request: cloudwatch.DeleteAlarmsInput) -> None:
        """Delete alarms; none when one of them does not exist."""
        for name in request.alarm_names:
            self._need(context, name)
        for name in request.alarm_names:
            await self._store.delete(METRIC_ALARM, self._key(context, name), "alarm.deleted.v1")

    async def set_alarm_state(self, context: RequestContext, request: cloudwatch.SetAlarmStateInput) -> None:
        """Put an alarm into a state, until it is judged again."""
        self._need(context, request.alarm_name)
        if request.state_reason_data is not None:
            try:
                msgspec.json.decode(request.state_reason_data)
            except msgspec.DecodeError as error:
                raise AwsError("InvalidFormatFault", f"StateReasonData is not valid JSON: {error}") from error

        def change(old: MetricAlarm) -> MetricAlarm:
            data = request.state_reason_data or ""
            return alarms.moved(old, request.state_value, request.state_reason, data, self._clock())

        await self._change(context, request.alarm_name, change, "alarm.state_changed.v1")

    async def enable_alarm_actions(self, context: RequestContext, request: cloudwatch.EnableAlarmActionsInput) -> None:
        """Who acts on alarms acts on these again."""
        await self._enable(context, request.alarm_names, True)

    async def disable_alarm_actions(
        self, context: RequestContext, request: cloudwatch.DisableAlarmActionsInput
    ) -> None:
        """Nobody acts on these any more."""
        await self._enable(context, request.alarm_names, False)

    async def tag_resource(
        self, context: RequestContext, request: cloudwatch.TagResourceInput
    ) -> cloudwatch.TagResourceOutput:
        """Add tags to an alarm."""
        added = {tag.key: tag.value for tag in request.tags}
        alarm = self._tagged(context, request.resource_arn)
        if len({**alarm.tags, **added}) > MOST_TAGS:
            raise wrong(f"An alarm can have at most {MOST_TAGS} tags.")
        await self._change(
            context, alarm.name, lambda old: replace(old, tags={**old.tags, **added}), "alarm.changed.v1"
        )
        return cloudwatch.TagResourceOutput()

    async def untag_resource(
        self, context: RequestContext, request: cloudwatch.UntagResourceInput
    ) -> cloudwatch.UntagResourceOutput:
        """Take tags off an alarm."""
        gone = set(request.tag_keys)
        alarm = self._tagged(context, request.resource_arn)

        def change(old: MetricAlarm) -> MetricAlarm:
            return replace(old, tags={k: v for k, v in old.tags.items() if k not in gone})

        await self._change(context, alarm.name, change, "alarm.changed.v1")
        return cloudwatch.UntagResourceOutput()

    async def list_tags_for_resource(
        self, context: RequestContext, request: cloudwatch.ListTagsForResourceInput
    ) -> cloudwatch.ListTagsForResourceOutput:
        """An alarm's tags."""
        tags = self._tagged(context, request.resource_arn).tags
        return cloudwatch.ListTagsForResourceOutput(tags=[cloudwatch.Tag(key=k, value=v) for k, v in tags.items()])

    async def _enable(self, context: RequestContext, names: list[str], enabled: bool) -> None:
        for name in names:
            if self._store.table(METRIC_ALARM).get(*self._key(context, name)) is not None:

                def change(old: MetricAlarm) -> MetricAlarm:
                    return old if old.actions_enabled == enabled else replace(old, actions_enabled=enabled)

                await self._change(context, name, change, "alarm.changed.v1")

    async def _change(
        self, context: RequestContext, name: str, change: Callable[[MetricAlarm], MetricAlarm], event: str
    ) -> None:
        def checked(old: MetricAlarm | None) -> MetricAlarm:
            if old is None:
                raise no_alarm()
            return change(old)

        await self._store.update(METRIC_ALARM, self._key(context, name), checked, event)

    def _key(self, context: RequestContext, name: str) -> tuple[str, str, str]:
        return context.account, context.region, name

    def _all(self, context: RequestContext) -> list[MetricAlarm]:
        found = self._store.table(METRIC_ALARM).records(context.account, context.region)
        return sorted(found, key=lambda alarm: alarm.name)

    def _need(self, context: RequestContext, name: str) -> MetricAlarm:
        alarm = self._store.table(METRIC_ALARM).record(*self._key(context, name))
        if alarm is None:
            raise no_alarm()
        return alarm

    def _tagged(self, context: RequestContext, arn: str) -> MetricAlarm:
        prefix = f"arn:aws:cloudwatch:{context.region}:{context.account}:alarm:"
        alarm = self._store.table(METRIC_ALARM).record(*self._key(context, arn.removeprefix(prefix)))
        if not arn.startswith(prefix) or alarm is None:
            raise AwsError("ResourceNotFoundException", f"{arn} does not exist")
        return alarm


def _name(alarm: MetricAlarm) -> str:
    return alarm.name


def no_alarm() -> AwsError:
    """ResourceNotFound."""
    return AwsError("ResourceNotFound", "The alarm does not exist.")


def _fits(alarm: MetricAlarm, request: cloudwatch.DescribeAlarmsInput) -> bool:
    put = alarm.request
    actions = [*put.get("AlarmActions", ()), *put.get("OKActions", ()), *put.get("InsufficientDataActions", ())]
    return (
        (not request.alarm_types or "MetricAlarm" in request.alarm_types)
        and (not request.alarm_names or alarm.name in request.alarm_names)
        and alarm.name.startswith(request.alarm_name_prefix or "")
        and request.state_value in (None, alarm.state)
        and (not request.action_prefix or any(a.startswith(request.action_prefix) for a in actions))
    )


def told(alarm: MetricAlarm) -> cloudwatch.MetricAlarm:
    """An alarm as DescribeAlarms tells it."""
    put = alarms.request_of(alarm)
    shared = {
        name: getattr(put, name)
        for name in cloudwatch.PutMetricAlarmInput.__struct_fields__
        if name in cloudwatch.MetricAlarm.__struct_fields__
    }
    shared["actions_enabled"] = alarm.actions_enabled
    for name in ("ok_actions", "alarm_actions", "insufficient_data_actions", "dimensions"):
        shared[name] = shared[name] or []
    return cloudwatch.MetricAlarm(
        **shared,
        alarm_arn=f"arn:aws:cloudwatch:{alarm.region}:{alarm.account}:alarm:{alarm.name}",
        alarm_configuration_updated_timestamp=alarm.configured_at,
        state_value=alarm.state,  # type: ignore[arg-type]
        state_reason=alarm.state_reason,
        state_reason_data=alarm.state_data or None,
        state_updated_timestamp=alarm.state_updated_at,
        state_transitioned_timestamp=alarm.state_changed_at,
    )


def check(request: cloudwatch.PutMetricAlarmInput) -> None:
    """Raises what CloudWatch raises for an alarm that can't be: the member is named."""
    for member in ("evaluation_window", "warm_up_configuration", "evaluation_criteria", "threshold_metric_id"):
        if getattr(request, member) is not None:
            raise queries.invalid(f"The parameter {member} is not supported by Roadstead.")
    if request.comparison_operator not in alarms.COMPARISONS:
        raise queries.invalid(f"ComparisonOperator must be one of {', '.join(sorted(alarms.COMPARISONS))}")
    for member in ("threshold", "evaluation_periods"):
        if getattr(request, member) is None:
            raise AwsError("MissingRequiredParameterException", f"The parameter {member} must be given.")
    if request.treat_missing_data is not None and request.treat_missing_data not in alarms.TREATMENTS:
        raise queries.invalid(f"TreatMissingData must be one of {', '.join(sorted(alarms.TREATMENTS))}")
    if (request.datapoints_to_alarm or 1) > (request.evaluation_periods or 1):
        raise queries.invalid("DatapointsToAlarm must be less than or equal to EvaluationPeriods")
    _check_metrics(request) if request.metrics else _check_metric(request)
    rule = alarms.rule_of(request)
    if rule.periods * rule.period_s > LONGEST_S:
        raise queries.invalid("EvaluationPeriods times Period must not be more than seven days")


def _check_metric(request: cloudwatch.PutMetricAlarmInput) -> None:
    for member in ("metric_name", "namespace", "period"):
        if getattr(request, member) is None:
            raise AwsError("MissingRequiredParameterException", f"The parameter {member} must be given.")
    if (request.statistic is None) == (request.extended_statistic is None):
        raise AwsError(
            "InvalidParameterCombinationException", "Exactly one of Statistic and ExtendedStatistic must be given."
        )
    check_statistic(request.statistic or request.extended_statistic or "")
    check_period(request.period or 0)
    queries.dimensions_of(request.dimensions)


def _check_metrics(request: cloudwatch.PutMetricAlarmInput) -> None:
    if request.metric_name or request.namespace or request.statistic or request.extended_statistic or request.period:
        raise AwsError(
            "InvalidParameterCombinationException", "Metrics can't be given together with a metric of its own."
        )
    queries.check(request.metrics or [])
    returned = [query for query in request.metrics or [] if query.return_data is not False]
    if len(returned) != 1:
        raise queries.invalid("Exactly one member of Metrics must have ReturnData true")
