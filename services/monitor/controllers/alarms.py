"""Judges each alarm when a period of its metrics is over, and when values come in late. With no alarm it waits."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import structlog

from contracts.kinds import Key
from contracts.records.monitor import METRIC_ALARM, MetricAlarm
from services.monitor.adapters.metrics import Measurements
from services.monitor.decisions import alarms, queries
from services.monitor.decisions.expressions import Values
from services.monitor.decisions.store import MetricKey, key_of
from services.shared.errors import AwsError, StateUnavailable
from services.shared.state import Change, Conflict, Store
from services.shared.waiting import woken

log = structlog.get_logger()

RETRY_S = 1.0


class AlarmController:
    """The alarms, each with the time when it is due."""

    def __init__(self, store: Store, measurements: Measurements) -> None:
        self._store = store
        self._measurements = measurements
        self._clock = measurements.clock
        self._due: dict[Key, float] = {}
        self._watched: dict[MetricKey, set[Key]] = defaultdict(set)
        self._periods: dict[Key, int] = {}
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        for entry in self._store.table(METRIC_ALARM).entries():
            self._follow(entry.record)
        self._store.listen(self._on_change)
        self._measurements.listen(self._on_values)
        while True:
            self._wake.clear()
            now = self._clock()
            for key in [key for key, at in self._due.items() if at <= now]:
                await self._judge(key)
            soonest = min(self._due.values(), default=None)
            await woken(self._wake, None if soonest is None else max(0.0, soonest - self._clock()))

    def _on_change(self, change: Change) -> None:
        if change.kind is not METRIC_ALARM:
            return
        old = change.old.record if change.old is not None else None
        new = change.new.record if change.new is not None else None
        if old is not None and new is not None and old.configured_at == new.configured_at:
            return
        self._unfollow(change.key)
        if new is not None:
            self._follow(new)
        self._wake.set()

    def _follow(self, alarm: MetricAlarm) -> None:
        key = METRIC_ALARM.key_of(alarm)
        request = alarms.request_of(alarm)
        self._due[key] = self._clock()
        self._periods[key] = alarms.rule_of(request).period_s
        for metric in _metrics(alarm):
            self._watched[metric].add(key)

    def _unfollow(self, key: Key) -> None:
        self._due.pop(key, None)
        self._periods.pop(key, None)
        for watching in self._watched.values():
            watching.discard(key)

    def _on_values(self, touched: list[tuple[MetricKey, float]]) -> None:
        """Values of a period that is over already may change what was judged; those of the present one are seen when
        it is over."""
        if not self._due:
            return
        now = self._clock()
        for metric, at in touched:
            for key in self._watched.get(metric, ()):
                if at < now - now % self._periods[key] and self._due[key] > now:
                    self._due[key] = now
                    self._wake.set()

    async def _judge(self, key: Key) -> None:
        alarm = self._store.table(METRIC_ALARM).record(*key)
        if alarm is None:
            self._unfollow(key)
            return
        now = self._clock()
        request = alarms.request_of(alarm)
        rule = alarms.rule_of(request)
        self._due[key] = alarms.due(rule, now)
        try:
            values = self._values(alarm, rule, now)
        except AwsError as error:
            log.warning("alarm.not_judged", alarm=alarm.name, error=error.message)
            return
        except Exception:  # one alarm that can't be judged must not end the judging of all
            log.exception("alarm.not_judged", alarm=alarm.name)
            return
        found = alarms.points(rule, values, now)
        statistic = request.statistic or request.extended_statistic or ""

        def change(old: MetricAlarm | None) -> MetricAlarm | None:
            if old is None or old.configured_at != alarm.configured_at:
                return old
            judged = alarms.judge(rule, found, old.state)
            if judged.state == old.state:
                return old
            return alarms.moved(old, judged.state, judged.reason, alarms.reason_data(rule, judged, statistic, now), now)

        try:
            await self._store.update(METRIC_ALARM, key, change, "alarm.state_changed.v1")
        except (StateUnavailable, Conflict) as error:
            log.info("alarm.delayed", alarm=alarm.name, error=str(error))
            self._due[key] = now + RETRY_S

    def _values(self, alarm: MetricAlarm, rule: alarms.Rule, now: float) -> Values:
        start, end = alarms.window(rule, now)
        request, store = alarms.request_of(alarm), self._measurements.store
        if not request.metrics:
            (metric,) = _metrics(alarm)
            statistic = request.statistic or request.extended_statistic or ""
            values = store.values(metric, statistic, start, end, rule.period_s, request.unit)
        else:
            told = queries.answer(store, alarm.account, alarm.region, request.metrics, start, end)
            values = told[next(query.id for query in request.metrics if query.return_data is not False)]
        return values


def _metrics(alarm: MetricAlarm) -> list[MetricKey]:
    """The metrics an alarm is about."""
    request = alarms.request_of(alarm)
    if not request.metrics:
        dimensions = queries.dimensions_of(request.dimensions)
        return [key_of(alarm.account, alarm.region, request.namespace or "", request.metric_name or "", dimensions)]
    stats = [query.metric_stat for query in request.metrics if query.metric_stat is not None]
    return [queries.key_in(alarm.account, alarm.region, stat.metric) for stat in stats]
