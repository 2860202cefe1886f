"""Which cluster a node is of. The platform's own nodes are of every cluster, an external one of that which it joined;
but for those that were taken out."""

from __future__ import annotations

from contracts.records.agent import Node
from contracts.records.identity import ManagedNode
from contracts.records.scheduler import ContainerInstance


def taken_out(managed: ManagedNode | None, instance: ContainerInstance | None, node: Node | None) -> bool:
    """Whether a node was taken out of a cluster. `managed`: its registration, if it is an external one; `instance`:
    what the cluster's owner made of it. One of the platform's own is in again when its agent registers anew."""
    if managed is not None and managed.status != "ACTIVE":
        return True
    if instance is None or instance.status != "INACTIVE":
        return False
    return managed is not None or node is None or node.session == instance.session


def of_cluster(managed: ManagedNode | None, where: tuple[str, str, str]) -> bool:
    """Whether it may be of this cluster (account, region, name) at all."""
    return managed is None or (managed.account, managed.region, managed.cluster) == where
