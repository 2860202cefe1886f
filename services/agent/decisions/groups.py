"""Security groups as rules for packets, and who is in which group.

A task may talk as any of its groups allows. https://docs.aws.amazon.com/vpc/latest/userguide/security-group-rules.html
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

from contracts.kinds import Key
from contracts.records.agent import TaskStatus
from contracts.records.network import ALL, ANYWHERE, SecurityGroup, SecurityGroupRule, interface_groups
from contracts.records.scheduler import Task
from services.agent.values import PacketRule, PacketRules


def groups_of(task: Task) -> list[str]:
    """The groups that a task is in; empty for one that nothing holds."""
    return interface_groups(task.network_configuration, task.account, task.region, task.cluster)


def peers(groups: Iterable[SecurityGroup]) -> set[str]:
    """The groups that the rules of these name."""
    return {rule.group for group in groups for rule in group.rules if rule.group}


def packet_rules(
    groups: Iterable[SecurityGroup], addresses: Callable[[str], Iterable[str]], also_from: str = ""
) -> PacketRules | None:
    """What these groups let through together; None when that is everything. `addresses` gives a group's members;
    `also_from` is an address that is let in by any group."""
    rules = [rule for group in groups for rule in group.rules]
    ways = {egress: [_packets(rule) for rule in rules if rule.egress is egress] for egress in (False, True)}
    everything = PacketRule(ALL, cidr=ANYWHERE)
    if all(everything in way for way in ways.values()):
        return None
    if also_from:
        ways[False].append(PacketRule(ALL, cidr=f"{also_from}/32"))
    named = {rule.group for rule in rules if rule.group}
    return PacketRules(
        ingress=list(dict.fromkeys(ways[False])),
        egress=list(dict.fromkeys(ways[True])),
        members={group: sorted(addresses(group)) for group in sorted(named)},
    )


def _packets(rule: SecurityGroupRule) -> PacketRule:
    return PacketRule(rule.protocol, rule.from_port, rule.to_port, rule.cidr, rule.group)


class Membership:
    """The addresses in each group of one account in a region, by what agents say of tasks."""

    def __init__(self) -> None:
        self._of: defaultdict[str, dict[Key, str]] = defaultdict(dict)

    def addresses(self, group: str) -> set[str]:
        """Those of a group's members."""
        return set(self._of.get(group, {}).values())

    def apply(self, key: Key, old: TaskStatus | None, new: TaskStatus | None) -> set[str]:
        """Take a change of a task in; the groups that it changed."""
        before, after = _interface(old), _interface(new)
        if before == after:
            return set()
        for group in before[1]:
            self._of[group].pop(key, None)
        for group in after[1]:
            self._of[group][key] = after[0]
        return {*before[1], *after[1]}


def _interface(status: TaskStatus | None) -> tuple[str, list[str]]:
    """A task's address and groups, while it has them."""
    if status is None or status.network is None or status.last_status == "STOPPED":
        return "", []
    return status.network.private_ipv4, status.network.groups or []
