"""The ARNs that only their owner knows: a role's path, a secret's suffix."""

from __future__ import annotations

from typing import Any

import msgspec

from contracts.records.identity import POLICY, ROLE, SECRET
from services.identity.decisions.secrets import secret_name
from services.shared.aws.context import RequestContext
from services.shared.policies.demands import Demand
from services.shared.state import Store


class Resources:
    """Completes what a request demands."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def complete(self, context: RequestContext, request: Any, wanted: list[Demand]) -> list[Demand]:
        """The same demands, on the ARNs of what is there."""
        if context.api not in ("iam", "secretsmanager", "ssm") or context.operation in ("CreateRole", "CreatePolicy"):
            return wanted
        return [
            msgspec.structs.replace(demand, resource=self._real(context, demand.resource, request)) for demand in wanted
        ]

    def _real(self, context: RequestContext, arn: str, request: Any) -> str:
        found: Any = None
        if ":secret:" in arn and context.operation != "CreateSecret":
            resource = arn.partition(":secret:")[2]
            for name in (resource, secret_name(resource, arn)):
                found = found or self._store.table(SECRET).record(context.account, context.region, name)
        elif ":role/" in arn:
            found = self._store.table(ROLE).record(context.account, arn.rsplit("/", 1)[-1])
        elif ":policy/" in arn and not getattr(request, "policy_arn", None):
            found = self._store.table(POLICY).record(context.account, arn.rsplit("/", 1)[-1])
        return found.arn if found is not None else arn
