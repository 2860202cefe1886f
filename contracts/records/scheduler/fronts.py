"""What a service with an address has besides: its hosts, and how its tasks are reached and checked."""

import msgspec


class ExpressRevision(msgspec.Struct, kw_only=True, frozen=True):
    """What a deployment (its id) of a service with an address is beside its task definition: where its tasks answer
    requests (behind a gateway, with the port's name), and how they are checked. `check_port` 0: `port`; check_protocol:
    HTTP | HTTPS. The HTTP codes `good_from` to `good_to` are good, and those of `also_good`, each from and to."""

    deployment: str
    port: int
    health_check_path: str
    created_at: float
    check_port: int = 0
    interval_s: float = 5.0
    timeout_s: float = 2.0
    healthy: int = 1
    unhealthy: int = 3
    good_from: int = 200
    good_to: int = 200
    port_name: str = ""
    check_protocol: str = "HTTP"
    also_good: list[list[int]] = []


class ExpressScaling(msgspec.Struct, kw_only=True, frozen=True):
    """How an Express service is to be scaled: the autoscaler's to carry out, once for each `wanted_at`.

    metric: AVERAGE_CPU | AVERAGE_MEMORY (percent) | REQUEST_COUNT_PER_TARGET (in a minute).
    """

    min_tasks: int
    max_tasks: int
    metric: str
    target: float
    wanted_at: float


class Express(msgspec.Struct, kw_only=True, frozen=True):
    """What makes a service an Express service: the gateway leads the requests to `host` to its tasks.

    `revisions` newest first: those of the service's deployments and rollouts. `drain_s` is what its tasks get. `alarm`
    is the name of the alarm on its errors, which the monitor keeps for it; empty: none.
    """

    host: str
    infrastructure_role: str
    scaling: ExpressScaling
    revisions: list[ExpressRevision]
    updated_at: float
    drain_s: float = 30.0
    alarm: str = ""

    @property
    def hosts(self) -> list[str]:
        """All hosts of the service."""
        return [self.host]


class Route(msgspec.Struct, kw_only=True, frozen=True):
    """A route at a gateway (its name, and when that was made): the requests to `host` are led to a service's tasks.

    `route`: the route's id.
    """

    gateway: str
    route: str
    host: str
    gateway_since: float = 0.0


class Connector(msgspec.Struct, kw_only=True, frozen=True):
    """The routes of an ordinary service: the one that is told of here, and `others` at other gateways.

    `revisions` and `drain_s` as an Express service has them, but that deployments without a revision are behind no
    gateway: those of before the service came to one, and those with which it leaves.
    """

    gateway: str
    route: str
    host: str
    revisions: list[ExpressRevision]
    drain_s: float
    gateway_since: float = 0.0
    others: list[Route] = []

    @property
    def routes(self) -> list[Route]:
        """All of them, the oldest first."""
        own = Route(gateway=self.gateway, route=self.route, host=self.host, gateway_since=self.gateway_since)
        return [own, *self.others]

    @property
    def hosts(self) -> list[str]:
        """All hosts of the service."""
        return [route.host for route in self.routes]
