"""Lifecycle hooks: what is asked when a deployment enters a stage, and what is made of the answers.

A hook's target is an http(s) URL, which gets what ECS gives a Lambda function and answers as one does; or nobody: a
PAUSE waits for ContinueServiceDeployment.
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/lambda-lifecycle-hooks.html
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/pause-lifecycle-hooks.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from msgspec.structs import replace

from contracts.records.scheduler import Deployment, HookRun, Service
from services.scheduler.decisions import names
from services.scheduler.decisions.requests import invalid
from services.scheduler.decisions.rollouts import revision_id
from services.shared.errors import AwsError

SHIFTS = ("TEST_TRAFFIC_SHIFT", "PRODUCTION_TRAFFIC_SHIFT")
OPEN = ("AWAITING_ACTION", "IN_PROGRESS")
CALL_BACK_S = 30.0
SOONEST_S = 1.0
MOST_TRIES = 5
_TIMEOUT_MINUTES = 1440


def check(hooks: Sequence[Mapping[str, Any]]) -> None:
    """Refuse hooks (wire form) that can't be, and Lambda functions, which Roadstead has none of. Raises AwsError."""
    for hook in hooks:
        kind, target = hook.get("targetType", "AWS_LAMBDA"), hook.get("hookTargetArn") or ""
        stages = hook.get("lifecycleStages") or ()
        if not stages:
            raise invalid("lifecycleHooks: lifecycleStages must name at least one stage.")
        if kind == "PAUSE":
            if target:
                raise invalid("lifecycleHooks: a PAUSE hook has no hookTargetArn.")
            for stage in stages:
                if stage in SHIFTS:
                    raise invalid(f"lifecycleHooks: a PAUSE hook can not be configured at the stage {stage}.")
        elif target.startswith("arn:"):
            raise AwsError(
                "UnsupportedFeatureException",
                "Roadstead has no Lambda functions: give the http:// or https:// URL of a hook as hookTargetArn.",
            )
        elif not _is_url(target):
            raise invalid("lifecycleHooks: hookTargetArn must be an http:// or https:// URL.")


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def runs(configuration: Mapping[str, Any], deployment: str, stage: str, step: int, now: float) -> list[HookRun]:
    """The hooks that begin with a stage of a deployment. Their ids are made of what they are about, so that whoever is
    asked twice for one run can tell."""
    found = []
    for number, hook in enumerate(configuration.get("lifecycleHooks") or ()):
        if stage not in (hook.get("lifecycleStages") or ()):
            continue
        kind = hook.get("targetType", "AWS_LAMBDA")
        limit = hook.get("timeoutConfiguration") or {}
        one = names.derived_id("hook", deployment, stage, str(step), str(number), repr(now))
        found.append(
            HookRun(
                id=f"ecs-{'pause' if kind == 'PAUSE' else 'hook'}-{one}",
                target_type=kind,
                status="AWAITING_ACTION" if kind == "PAUSE" else "IN_PROGRESS",
                expires_at=now + 60.0 * (limit.get("timeoutInMinutes") or _TIMEOUT_MINUTES),
                timeout_action=limit.get("action") or "ROLLBACK",
                target=hook.get("hookTargetArn") or "",
                details=hook.get("hookDetails"),
                next_at=now,
            )
        )
    return found


def timed_out(hooks: Sequence[HookRun], now: float) -> list[HookRun]:
    """The hooks, those that have gone undecided for too long as TIMED_OUT."""
    return [
        replace(run, status="TIMED_OUT", reason="It timed out.")
        if run.status in OPEN and run.expires_at <= now
        else run
        for run in hooks
    ]


def failed(hooks: Sequence[HookRun]) -> HookRun | None:
    """The hook that ends the deployment, if one does."""
    bad = (r for r in hooks if r.status == "FAILED" or (r.status == "TIMED_OUT" and r.timeout_action == "ROLLBACK"))
    return next(bad, None)


def expires_at(hooks: Sequence[HookRun]) -> float | None:
    """When the first of those that are undecided will have timed out; None when all are decided."""
    return min((run.expires_at for run in hooks if run.status in OPEN), default=None)


def decided(run: HookRun, action: str) -> HookRun:
    """A paused hook after ContinueServiceDeployment: CONTINUE or ROLLBACK."""
    if action == "CONTINUE":
        return replace(run, status="SUCCEEDED")
    return replace(run, status="FAILED", reason="ContinueServiceDeployment asked for the roll-back.")


def answered(run: HookRun, answer: Any, now: float) -> HookRun:
    """A hook after its target has answered with this JSON value. What is no valid answer has failed, as with ECS."""
    status = answer.get("hookStatus") if isinstance(answer, dict) else None
    if status == "SUCCEEDED":
        return replace(run, status="SUCCEEDED", tries=0)
    if status == "FAILED":
        return replace(run, status="FAILED", reason="It answered FAILED.", tries=0)
    if status != "IN_PROGRESS":
        return replace(run, status="FAILED", reason="It did not answer with a valid hookStatus.", tries=0)
    delay = answer.get("callBackDelay", CALL_BACK_S)
    if isinstance(delay, bool) or not isinstance(delay, int | float) or not 0 <= delay < 1e9:
        return replace(run, status="FAILED", reason="It did not answer with a valid callBackDelay.", tries=0)
    details = answer.get("hookDetails", run.details)
    return replace(run, next_at=now + max(SOONEST_S, float(delay)), details=details, tries=0)


def unanswered(run: HookRun, why: str, now: float) -> HookRun:
    """A hook whose target could not be reached: asked again after 1, 2, 4, 8 s, then it has failed."""
    tries = run.tries + 1
    if tries >= MOST_TRIES:
        return replace(run, status="FAILED", tries=tries, reason=f"It could not be reached {tries} times: {why}.")
    return replace(run, tries=tries, next_at=now + 2.0 ** (tries - 1))


def payload(service: Service, run: HookRun) -> dict[str, Any]:
    """What a hook is told: ECS' own words. The weights are those that the stage leads to. When the traffic goes home,
    the deployment that is told of is the one that failed."""
    primary, *others = service.deployments
    stage = primary.stage
    assert stage is not None
    about = next((d for d in others if d.rollout_state == "FAILED"), primary) if stage.rolls_back else primary
    production = stage.name in ("PRODUCTION_TRAFFIC_SHIFT", "RECONCILE_SERVICE")
    test = stage.name in ("TEST_TRAFFIC_SHIFT", "RECONCILE_SERVICE")
    told: dict[str, Any] = {
        "executionDetails": {
            "testTrafficWeights": _weights(service, "test_weight") if test else {},
            "productionTrafficWeights": _weights(service, "weight") if production else {},
            "serviceArn": names.arn(service.account, service.region, "service", service.cluster, service.name),
            "targetServiceRevisionArn": _arn(service, "service-revision", about),
        },
        "executionId": run.id,
        "lifecycleStage": stage.name,
        "resourceArn": _arn(service, "service-deployment", about),
    }
    return {**told, "hookDetails": run.details} if run.details is not None else told


def _weights(service: Service, member: str) -> dict[str, float]:
    shares = {_arn(service, "service-revision", d): getattr(d, member) or 0.0 for d in service.deployments}
    return {arn: int(share) if share == int(share) else share for arn, share in shares.items()}


def _arn(service: Service, kind: str, deployment: Deployment) -> str:
    number = revision_id(deployment.id)
    return names.arn(service.account, service.region, kind, service.cluster, service.name, number)
