"""SSM activations: leave for machines to join, which ECS calls external instances (ECS Anywhere).

https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_CreateActivation.html
"""

from __future__ import annotations

import string
import uuid

from contracts.aws import ssm
from contracts.records.identity import ACTIVATION, MANAGED_NODE, ROLE, Activation
from services.identity.decisions import Choose
from services.identity.decisions.activations import CODE_LENGTH, INVALID, expiry
from services.identity.decisions.pages import page
from services.identity.handlers.nodes import Nodes
from services.shared.aws.context import RequestContext
from services.shared.aws.service import AwsService
from services.shared.clock import Clock
from services.shared.errors import AwsError
from services.shared.managed_nodes import digest
from services.shared.policies import ALLOW, TRUST, Principal, Question, parse, trusts
from services.shared.state import Store

SSM = "ssm.amazonaws.com"
_CODE = string.ascii_letters + string.digits


class Activations(AwsService):
    """CreateActivation, DescribeActivations, DeleteActivation, DeregisterManagedInstance."""

    api = ssm.API

    def __init__(self, store: Store, nodes: Nodes, clock: Clock, choose: Choose) -> None:
        self._store = store
        self._nodes = nodes
        self._clock = clock
        self._choose = choose

    async def create_activation(
        self, context: RequestContext, request: ssm.CreateActivationRequest
    ) -> ssm.CreateActivationResult:
        """An activation. Its code is told once, here."""
        if request.registration_metadata:
            raise AwsError("ValidationException", "RegistrationMetadata is not supported by Roadstead")
        self._check_role(context, request.iam_role)
        code, now = self._choose(_CODE, CODE_LENGTH), self._clock()
        activation = Activation(
            account=context.account,
            region=context.region,
            activation=str(uuid.uuid4()),
            code_digest=digest(code),
            iam_role=request.iam_role,
            limit=1 if request.registration_limit is None else request.registration_limit,
            created_at=now,
            expires_at=expiry(request.expiration_date, now),
            description=request.description or "",
            instance_name=request.default_instance_name or "",
            tags={tag.key: tag.value for tag in request.tags or []},
        )
        await self._store.put(ACTIVATION, activation, "activation.created.v1", expect=0)
        return ssm.CreateActivationResult(activation_id=activation.activation, activation_code=code)

    def _check_role(self, context: RequestContext, reference: str) -> None:
        name = reference.rpartition("/")[2]
        arn = f"arn:aws:iam::{context.account}:role/{name}"
        role = self._store.table(ROLE).record(context.account, name)
        if role is not None:
            question = Question("sts:AssumeRole", role.arn, {"aws:sourceaccount": (context.account,)})
            if trusts(parse(role.trust, TRUST), Principal(service=SSM), question)[0] == ALLOW:
                return
        said = f"Nonexistent role or missing ssm service principal in trust policy: {arn}"
        raise AwsError("ValidationException", said)

    async def describe_activations(
        self, context: RequestContext, request: ssm.DescribeActivationsRequest
    ) -> ssm.DescribeActivationsResult:
        """All, but for the given filters, each of which one value has to fit; without their codes."""
        found = [
            activation
            for activation in self._store.table(ACTIVATION).records(context.account, context.region)
            if all(_fits(activation, each) for each in request.filters or [])
        ]
        taken, token = page(
            found, lambda a: a.activation, request.next_token, request.max_results or 50, "InvalidNextToken"
        )
        return ssm.DescribeActivationsResult(activation_list=[self._shape(a) for a in taken], next_token=token)

    def _shape(self, activation: Activation) -> ssm.Activation:
        key = (activation.account, activation.region, activation.activation)
        return ssm.Activation(
            activation_id=activation.activation,
            description=activation.description or None,
            default_instance_name=activation.instance_name or None,
            iam_role=activation.iam_role,
            registration_limit=activation.limit,
            registrations_count=len(self._store.table(MANAGED_NODE).records(*key)),
            expiration_date=activation.expires_at,
            expired=self._clock() >= activation.expires_at,
            created_date=activation.created_at,
            tags=[ssm.Tag(key=k, value=v) for k, v in activation.tags.items()],
        )

    async def delete_activation(
        self, context: RequestContext, request: ssm.DeleteActivationRequest
    ) -> ssm.DeleteActivationResult:
        """Nobody joins with it any more; who has joined stays."""
        key = (context.account, context.region, request.activation_id)
        if self._store.table(ACTIVATION).record(*key) is None:
            raise AwsError(INVALID, f"There is no activation {request.activation_id}.")
        await self._store.delete(ACTIVATION, key, "activation.deleted.v1")
        return ssm.DeleteActivationResult()

    async def deregister_managed_instance(
        self, context: RequestContext, request: ssm.DeregisterManagedInstanceRequest
    ) -> ssm.DeregisterManagedInstanceResult:
        """Take a machine out for good; its agent is refused."""
        if await self._nodes.deregister(context.account, context.region, request.instance_id) is None:
            raise AwsError("InvalidInstanceId", f"There is no managed instance {request.instance_id}.")
        return ssm.DeregisterManagedInstanceResult()


def _fits(activation: Activation, wanted: ssm.DescribeActivationsFilter) -> bool:
    has = {
        "ActivationIds": activation.activation,
        "DefaultInstanceName": activation.instance_name,
        "IamRole": activation.iam_role,
    }
    if wanted.filter_key is None or not wanted.filter_values:
        raise AwsError("InvalidFilter", "A filter has a FilterKey and FilterValues.")
    return has[wanted.filter_key] in wanted.filter_values
