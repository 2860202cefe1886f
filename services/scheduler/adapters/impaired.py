"""The nodes that are not well, because a critical daemon's task there has failed. Nothing of it is stored: the daemons
and their tasks tell it, and it is over when the daemon is well again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import chain

from contracts.kinds import Key


class Impaired:
    """Keys are (account, region, cluster)."""

    def __init__(self) -> None:
        self._nodes: defaultdict[Key, dict[str, frozenset[str]]] = defaultdict(dict)

    def of(self, account: str, region: str, cluster: str) -> Iterable[str]:
        """The nodes of a cluster that are not well."""
        return self._nodes.get((account, region, cluster), ())

    def by(self, account: str, region: str, cluster: str, node: str) -> frozenset[str]:
        """The daemons that a node is not well without; empty if it is well."""
        return self._nodes.get((account, region, cluster), {}).get(node, frozenset())

    def everywhere(self) -> list[tuple[Key, str]]:
        """All clusters and nodes."""
        return list(chain.from_iterable(((key, node) for node in nodes) for key, nodes in self._nodes.items()))

    def nodes_of(self, cluster: Key, daemon: str) -> list[str]:
        """The nodes that are not well without this daemon."""
        return [node for node, daemons in self._nodes.get(cluster, {}).items() if daemon in daemons]

    def set(self, cluster: Key, node: str, daemon: str, impaired: bool) -> bool:
        """Whether a node is not well without this daemon. True if the node is now what it was not: well, or not."""
        before = self._nodes.get(cluster, {}).get(node, frozenset())
        after = before | {daemon} if impaired else before - {daemon}
        if after:
            self._nodes[cluster][node] = after
        elif before:
            del self._nodes[cluster][node]
            if not self._nodes[cluster]:
                del self._nodes[cluster]
        return bool(before) != bool(after)
