"""Scaling policies. Target tracking is evaluated here; steps wait for alarms that name the policy as their action.

https://docs.aws.amazon.com/autoscaling/application/APIReference/API_PutScalingPolicy.html
"""

from __future__ import annotations

import msgspec

from contracts.aws import application_autoscaling as aas
from contracts.records.autoscaler import SCALING_POLICY, ScalingPolicy
from services.autoscaler.api.base import AutoScalingBase, wire
from services.autoscaler.decisions import names
from services.autoscaler.decisions import policies as rules
from services.autoscaler.decisions.alarms import names_policy
from services.shared.aws.context import RequestContext
from services.shared.errors import AwsError

MOST_POLICIES = 50


class Policies(AutoScalingBase):
    """PutScalingPolicy and its like."""

    async def put_scaling_policy(
        self, context: RequestContext, request: aas.PutScalingPolicyRequest
    ) -> aas.PutScalingPolicyResponse:
        """Make a policy, or replace the configuration of one; its ARN stays, so its alarms find it."""
        target = self.registered(context, request)
        key = (*self.key(context, request), request.policy_name)
        now, policy_id = self.world.clock(), names.new_uuid()

        def change(old: ScalingPolicy | None) -> ScalingPolicy:
            policy_type = request.policy_type or (old.type if old is not None else "StepScaling")
            if old is not None and policy_type != old.type:
                raise names.invalid(f"The type of policy {old.name} is {old.type} and can't be changed.")
            configuration = rules.check(policy_type, wire(request))
            if old is None and len(self.world.policies.records(*key[:4])) >= MOST_POLICIES:
                raise AwsError("LimitExceededException", f"A scalable target has at most {MOST_POLICIES} policies.")
            return ScalingPolicy(
                account=context.account,
                region=context.region,
                resource=target.resource,
                dimension=target.dimension,
                name=request.policy_name,
                id=old.id if old is not None else policy_id,
                type=policy_type,
                configuration=configuration,
                created_at=old.created_at if old is not None else now,
            )

        policy = await self.world.store.update(SCALING_POLICY, key, change, "scaling_policy.put.v1")
        assert policy is not None
        return aas.PutScalingPolicyResponse(policy_arn=names.policy_arn(policy), alarms=self._alarms(policy))

    async def delete_scaling_policy(
        self, context: RequestContext, request: aas.DeleteScalingPolicyRequest
    ) -> aas.DeleteScalingPolicyResponse:
        """Delete a policy. Alarms that name it stay, and trigger nothing."""
        key = (*self.key(context, request), request.policy_name)
        if self.world.policies.record(*key) is None:
            found = f"{names.where(key[2])}, policy name: {request.policy_name}"
            raise AwsError("ObjectNotFoundException", f"No scaling policy found for {found}")
        await self.world.store.delete(SCALING_POLICY, key, "scaling_policy.deleted.v1")
        return aas.DeleteScalingPolicyResponse()

    async def describe_scaling_policies(
        self, context: RequestContext, request: aas.DescribeScalingPoliciesRequest
    ) -> aas.DescribeScalingPoliciesResponse:
        """The policies, all or those that are named, by resource and name."""
        prefix = self.prefix(context, request)
        wanted = set(request.policy_names or ())
        found = [] if prefix is None else self.world.policies.records(*prefix)
        found = [p for p in found if not wanted or p.name in wanted or names.policy_arn(p) in wanted]
        found.sort(key=_order)
        shown, token = names.page(found, _order, request.max_results, request.next_token)
        return aas.DescribeScalingPoliciesResponse(scaling_policies=[self._shape(p) for p in shown], next_token=token)

    def _shape(self, policy: ScalingPolicy) -> aas.ScalingPolicy:
        shape = aas.ScalingPolicy(
            policy_arn=names.policy_arn(policy),
            policy_name=policy.name,
            service_namespace="ecs",
            resource_id=policy.resource,
            scalable_dimension=policy.dimension,  # type: ignore[arg-type]
            policy_type=policy.type,  # type: ignore[arg-type]
            alarms=self._alarms(policy),
            creation_time=policy.created_at,
        )
        if policy.type == "StepScaling":
            shape.step_scaling_policy_configuration = msgspec.convert(
                policy.configuration, aas.StepScalingPolicyConfiguration
            )
        else:
            shape.target_tracking_scaling_policy_configuration = msgspec.convert(
                policy.configuration, aas.TargetTrackingScalingPolicyConfiguration
            )
        return shape

    def _alarms(self, policy: ScalingPolicy) -> list[aas.Alarm]:
        """The alarms that trigger a step policy. Target tracking needs none here: it reads its metric itself."""
        found = [e.record for e in self.world.alarms(policy.account, policy.region)]
        return [
            aas.Alarm(alarm_name=a.name, alarm_arn=f"arn:aws:cloudwatch:{a.region}:{a.account}:alarm:{a.name}")
            for a in sorted(found, key=lambda a: a.name)
            if names_policy(a, policy)
        ]


def _order(policy: ScalingPolicy) -> str:
    return f"{policy.resource} {policy.name}"
