"""What the gateway stores: App Runner services with their revisions and operations, scaling configurations; where it
answers, and which tasks of Express services it gives requests.

AWS shapes (source, instance, health check, network) are kept as plain JSON in the wire's own names.
"""

from typing import Any

import msgspec

from contracts.kinds import Kind


class AppOperation(msgspec.Struct, kw_only=True, frozen=True):
    """Something that was asked of a service. type and status are ListOperations' own words."""

    id: str
    type: str
    status: str
    started_at: float
    updated_at: float
    ended_at: float | None = None
    reason: str = ""


class Revision(msgspec.Struct, kw_only=True, frozen=True):
    """One version of a service: what its instances are made of. It never changes; a number is never used twice.

    `image` is what instances run, by digest where the registry is our own. `trace` is the traceparent of what led to
    the deployment, so that its first answered request can be told in it.
    """

    number: int
    created_at: float
    image: str
    source: dict[str, Any]
    instance: dict[str, Any]
    health_check: dict[str, Any]
    trace: str | None = None


class AppService(msgspec.Struct, kw_only=True, frozen=True):
    """A service, as it is wanted and as far as it has come.

    status: OPERATION_IN_PROGRESS | RUNNING | PAUSED | CREATE_FAILED | DELETED. `active` is the number of the revision
    that answers requests, `candidate` of the one that is being deployed; 0: none. `revisions` holds those two.
    `operations` newest first, at most 50; the first one may be in progress, no other. `image_moved`: the tag of an
    automatically deployed image names another image since. `registry_arn` is where its instances are found by
    name (None: not asked for yet; empty: it can have no name).
    """

    account: str
    region: str
    id: str
    name: str
    host: str
    status: str
    created_at: float
    updated_at: float
    source: dict[str, Any]
    instance: dict[str, Any]
    health_check: dict[str, Any]
    auto_scaling: str
    network: dict[str, Any] = {}
    observability: dict[str, Any] = {}
    kms_key: str = ""
    deleted_at: float | None = None
    revisions: list[Revision] = []
    active: int = 0
    candidate: int = 0
    last_revision: int = 0
    operations: list[AppOperation] = []
    image_moved: bool = False
    registry_arn: str | None = None
    tags: dict[str, str] = {}


class AutoScaling(msgspec.Struct, kw_only=True, frozen=True):
    """One revision of an auto-scaling configuration. status: ACTIVE | INACTIVE. max_concurrency: requests in flight
    on one instance."""

    account: str
    region: str
    name: str
    revision: int
    max_concurrency: int
    min_size: int
    max_size: int
    created_at: float
    status: str = "ACTIVE"
    deleted_at: float | None = None
    tags: dict[str, str] = {}


class ScalingDefault(msgspec.Struct, kw_only=True, frozen=True):
    """The configuration that services get which name none: its ARN. No record: DefaultConfiguration."""

    account: str
    region: str
    arn: str


class Ingress(msgspec.Struct, kw_only=True, frozen=True):
    """Where the gateway answers: HTTPS on `port`, for hosts below `domain`. There is one, named `https`.

    `missing` is why it can carry no requests here; empty: it can. A service may have `most_tasks` tasks.
    """

    name: str
    port: int
    domain: str
    most_tasks: int
    missing: str = ""


class Target(msgspec.Struct, kw_only=True, frozen=True):
    """A task of an Express service, as the gateway has it. There is none of a task that was not healthy yet.

    state: healthy (it gets requests) | unhealthy (it failed its checks) | drained (it is to stop, gets no more
    requests, and has none left). `reason` is for a person.
    """

    account: str
    region: str
    cluster: str
    node: str
    task: str
    service: str
    state: str
    since: float
    reason: str = ""


APP_SERVICE = Kind("app_runner_gateway", "service", AppService, ("account", "region", "id"))
AUTO_SCALING = Kind("app_runner_gateway", "auto_scaling", AutoScaling, ("account", "region", "name", "revision"))
SCALING_DEFAULT = Kind("app_runner_gateway", "scaling_default", ScalingDefault, ("account", "region"))
INGRESS = Kind("app_runner_gateway", "ingress", Ingress, ("name",))
TARGET = Kind("app_runner_gateway", "target", Target, ("account", "region", "cluster", "node", "task"))

KINDS = (APP_SERVICE, AUTO_SCALING, SCALING_DEFAULT, INGRESS, TARGET)
