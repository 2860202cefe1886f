"""What is let into and out of a sandbox: a table in its own network, with connection tracking of its own.

It stays in the kernel when the agent ends. A container without NET_ADMIN, which none has that was not given it, can't
change it. Answers, what goes over the loopback (the containers among themselves, the metadata endpoint) and questions
to the name resolver always pass, as on AWS. The language is nft(8)'s.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from services.agent.ports import PacketRule, PacketRules
from services.agent.runtimes.inside import close_later

ALL, ANYWHERE = "-1", "0.0.0.0/0"
KEPT = 8
"""Ways into networks that are kept open, each of 0.6 MiB. To let go of one while a task's start goes on in its network
would hold it up for 5 to 15 ms."""
TABLE = "inet roadstead_groups"
_GONE = f"table {TABLE}\ndelete table {TABLE}\n"
_WHOLE = """{gone}table {table} {{
{sets}
  chain input {{
    type filter hook input priority filter; policy drop;
    iifname "lo" accept
    ct state established,related accept
{ingress}
  }}
  chain output {{
    type filter hook output priority filter; policy drop;
    oifname "lo" accept
    ct state established,related accept
{names}
{egress}
  }}
}}
"""


def whole(rules: PacketRules, resolvers: Sequence[str] | None) -> str:
    """nft's commands that make the table anew, in one transaction. `resolvers`: who may be asked for names (None:
    anybody)."""
    return _WHOLE.format(
        gone=_GONE,
        table=TABLE,
        sets="\n".join(_set(group, addresses) for group, addresses in rules.members.items()),
        ingress="\n".join(_accept(rule, "saddr") for rule in rules.ingress),
        egress="\n".join(_accept(rule, "daddr") for rule in rules.egress),
        names="\n".join(_names(resolvers)),
    )


def changed(old: PacketRules, new: PacketRules) -> str | None:
    """nft's commands that lead from one to the other; None when more than members of sets differ."""
    if (old.ingress, old.egress, old.members.keys()) != (new.ingress, new.egress, new.members.keys()):
        return None
    commands = []
    for group, addresses in new.members.items():
        before, after = set(old.members[group]), set(addresses)
        for verb, which in (("delete", before - after), ("add", after - before)):
            if which:
                commands.append(f"{verb} element {TABLE} {_name(group)} {{ {', '.join(sorted(which))} }}\n")
    return "".join(commands)


def _name(group: str) -> str:
    return group.replace("-", "_")


def _set(group: str, addresses: Sequence[str]) -> str:
    elements = f" elements = {{ {', '.join(addresses)} }};" if addresses else ""
    return f"  set {_name(group)} {{ type ipv4_addr;{elements} }}"


def _names(resolvers: Sequence[str] | None) -> list[str]:
    if resolvers is None:
        return ["    meta l4proto { tcp, udp } th dport 53 accept"]
    return [f"    ip daddr {each} meta l4proto {{ tcp, udp }} th dport 53 accept" for each in resolvers]


def _accept(rule: PacketRule, side: str) -> str:
    parts = ["meta nfproto ipv4"]
    if rule.members:
        parts = [f"ip {side} @{_name(rule.members)}"]
    elif rule.cidr != ANYWHERE:
        parts = [f"ip {side} {rule.cidr}"]
    return "    " + " ".join([*parts, *_protocol(rule), "accept"])


def _protocol(rule: PacketRule) -> list[str]:
    if rule.protocol == ALL:
        return []
    if rule.protocol in ("tcp", "udp") and (rule.first, rule.last) != (0, 65535):
        ports = str(rule.first) if rule.first == rule.last else f"{rule.first}-{rule.last}"
        return [f"{rule.protocol} dport {ports}"]
    if rule.protocol == "icmp" and rule.first != -1:
        return [f"icmp type {rule.first}", *([f"icmp code {rule.last}"] if rule.last != -1 else [])]
    return [f"meta l4proto {rule.protocol}"]


class Tables:
    """The tables of a node's sandboxes. For use by several threads; a sandbox's calls come one after the other."""

    def __init__(self) -> None:
        self._rules: dict[str, PacketRules] = {}
        self._open: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()

    def protect(
        self, sandbox_id: str, enter: Callable[[], None], rules: PacketRules | None, resolvers: Sequence[str] | None
    ) -> None:
        """Put rules in force, None: take them away. `enter` moves the calling thread into the sandbox's network. Raises
        RuntimeFailure, OSError."""
        # Here, because the oci runtime imports this module while it is imported itself, and docker without it.
        from services.agent.runtimes.oci import syscalls

        def work() -> None:
            enter()
            old = self._rules.pop(sandbox_id, None)  # should this fail, the next one makes all of it anew
            commands = changed(old, rules) if rules is not None and old is not None else None
            if commands is None:
                commands = _GONE if rules is None else whole(rules, resolvers)
            if commands:
                self._nftables(sandbox_id).run(commands)
            if rules is not None:
                self._rules[sandbox_id] = rules

        syscalls.in_thread(work)
        if rules is None:
            self.forget(sandbox_id)

    def _nftables(self, sandbox_id: str) -> Any:
        """nftables in the sandbox's network, which the calling thread is in."""
        from services.agent.runtimes.oci.nftables import Nftables

        with self._lock:
            tables = self._open.pop(sandbox_id, None)
        tables = tables or Nftables()
        with self._lock:
            self._open[sandbox_id] = tables
            dropped = self._open.popitem(last=False)[1] if len(self._open) > KEPT else None
        if dropped is not None:
            close_later(dropped)
        return tables

    def forget(self, sandbox_id: str) -> None:
        """Let go of a sandbox's network; what is in force in it stays so."""
        with self._lock:
            self._rules.pop(sandbox_id, None)
            tables = self._open.pop(sandbox_id, None)
        if tables is not None:
            close_later(tables)

    def close(self) -> None:
        """Let go of all."""
        for sandbox_id in list(self._open):
            self.forget(sandbox_id)
