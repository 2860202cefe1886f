"""Services."""

from typing import Any

import msgspec

from contracts.records.scheduler.deployments import Deployment, Rollout, ServiceEvent, TaskSet
from contracts.records.scheduler.fronts import Connector, Express


class Service(msgspec.Struct, kw_only=True, frozen=True):
    """A service. status: ACTIVE | DRAINING | INACTIVE.

    `request` is CreateService as it came, with what UpdateService changed since. `events` newest first, at most 100.
    `steady` says that the steady-state event was told for what is now wanted. `rollouts` newest first. With the
    deployment controller EXTERNAL it has `task_sets` and no deployments. `express`: None for an ordinary service;
    `connector`: None for one that is behind no gateway.
    """

    account: str
    region: str
    cluster: str
    name: str
    status: str
    created_at: float
    desired_count: int
    deployments: list[Deployment]
    created_by: str = ""
    request: dict[str, Any] = {}
    events: list[ServiceEvent] = []
    steady: bool = False
    tags: dict[str, str] = {}
    rollouts: list[Rollout] = []
    task_sets: list[TaskSet] = []
    express: Express | None = None
    connector: Connector | None = None

    @property
    def front(self) -> Express | Connector | None:
        """What has the service's hosts and checks; None for a service without an address."""
        return self.express or self.connector

    @property
    def fronted(self) -> frozenset[str]:
        """The deployments whose tasks get the requests to its hosts."""
        return frozenset(r.deployment for r in self.front.revisions) if self.front is not None else frozenset()
