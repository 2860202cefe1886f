"""One look at one target: what its policies need to know, gathered before they are asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from contracts.kinds import Key
from contracts.records.autoscaler import ScalableTarget, ScalingActivity, ScalingPolicy
from contracts.records.monitor import MetricAlarm
from services.autoscaler.adapters.world import World
from services.autoscaler.decisions import activities, alarms, policies
from services.autoscaler.decisions.combine import Answer
from services.autoscaler.decisions.evaluate import Situation, Triggered, evaluate, triggers_again
from services.autoscaler.decisions.tracking import is_fresh
from services.autoscaler.decisions.values import Bounds, MetricOf, Point, Series
from services.autoscaler.settings import AutoscalerSettings
from services.shared.state import Entry


class Look:
    """A target with its policies, the alarms of those that are triggered now, and the count as it is."""

    def __init__(
        self, target: ScalableTarget, own: Sequence[ScalingPolicy], ringing: Sequence[Entry[MetricAlarm]],
        current: int | None, settings: AutoscalerSettings,
    ) -> None:  # fmt: skip
        self.target = target
        self._current = current
        self._settings = settings
        self._tracked = [(p, policies.series(p)) for p in own if p.type == "TargetTrackingScaling"]
        self._triggered = [
            (p, entry, alarms.metric(entry.record))
            for p in own
            if p.type == "StepScaling"
            for entry in ringing
            if alarms.triggers(entry.record, p)
        ]

    @property
    def current(self) -> int:
        """The desired count of the service, which there is."""
        assert self._current is not None
        return self._current

    def metrics(self) -> list[MetricOf]:
        """The series that have to be read."""
        if self._current is None or not self.target.settled:
            return []
        followed = [metric for _, series in self._tracked for metric in series]
        return [*followed, *(metric for _, _, metric in self._triggered if metric is not None)]

    def trace_of(self, wanting: Sequence[str]) -> str | None:
        """The trace of the alarm that triggered one of these policies."""
        return next((entry.trace for policy, entry, _ in self._triggered if policy.id in wanting), None)

    def answer(
        self, values: Mapping[MetricOf, list[Point]], past: Sequence[ScalingActivity], now: float
    ) -> Answer | None:
        """What is to be done; None when there is no service to scale."""
        if self._current is None:
            return None
        situation = Situation(
            current=self._current,
            bounds=Bounds(
                low=self.target.min_capacity,
                high=self.target.max_capacity,
                no_in=self.target.suspended.scale_in,
                no_out=self.target.suspended.scale_out,
            ),
            history=activities.history(past),
            now=now,
            window_s=self._settings.scale_in_window_s,
        )
        tracking = [(policies.tracking(policy), _best(series, values, now)) for policy, series in self._tracked]
        triggered = [
            Triggered(
                policies.steps(policy),
                entry.record.name,
                alarms.breach(entry.record, values.get(metric, []) if metric is not None else []),
            )
            for policy, entry, metric in self._triggered
            if triggers_again(
                entry.record.state_changed_at,
                [a.started_at for a in past if policy.id in a.policies and not a.not_scaled],
                now,
                metric.period_s if metric is not None else 0,
            )
        ]
        return evaluate(tracking, triggered, situation)


def look_at(world: World, key: Key, settings: AutoscalerSettings) -> Look | None:
    """What there is to be seen of a target now; None when there is no such target any more."""
    target = world.targets.record(*key)
    if target is None:
        return None
    own = world.policies.records(*key)
    stepped = any(p.type == "StepScaling" for p in own)
    ringing = world.alarms(target.account, target.region) if stepped else []
    service = world.service(target)
    current = service.desired_count if service is not None and service.status == "ACTIVE" else None
    return Look(target, own, ringing, current, settings)


def _best(series: Sequence[MetricOf], values: Mapping[MetricOf, list[Point]], now: float) -> Series:
    """The finest of the series that says something about now."""
    found = [Series(values.get(metric, []), metric.period_s) for metric in series]
    return next((one for one in found if is_fresh(one, now)), found[-1])
