"""What is let into and out of a sandbox, of every runtime: a part of `runtime_suite`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from services.agent.ports import PacketRule, PacketRules

if TYPE_CHECKING:
    from services.agent.ports import Sandbox
    from tests.integration.runtime_suite import Node

SERVE = 'while true; do printf "HTTP/1.0 200 OK\\r\\n\\r\\n$0" | nc -l -p 8080 >/dev/null; done'
TRY = "echo | nc -w 1 {0} 8080 2>/dev/null | grep -o served"
TRIES = f"{TRY} || echo refused; until {TRY}; do :; done"
TALKS = "mkfifo /tmp/f; sleep 4321 >/tmp/f & until nc {0} 8080 </tmp/f; do :; done"
ALL = PacketRule("-1")
WEB = PacketRule("tcp", 8080, 8080)


def members(*addresses: str) -> PacketRules:
    """The port of the server for the members of a group; all the way out."""
    rule = PacketRule("tcp", 8000, 8080, members="sg-0123456789abcdef0")
    return PacketRules([rule], [ALL], {rule.members: list(addresses)})


class PacketsSuite:
    """Rules for packets, as they are put in force and changed."""

    async def serving(self, node: Node, rules: PacketRules) -> Sandbox:
        """A sandbox that answers on 8080, as far as the rules let anybody ask."""
        sandbox = await node.sandbox()
        await node.runtime.protect(sandbox, rules)
        await node.run(sandbox, command=["sh", "-c", SERVE, "served"])
        return sandbox

    async def test_who_becomes_a_member_is_let_in_and_who_is_none_any_more_is_not(self, node: Node) -> None:
        client = await node.sandbox()
        server = await self.serving(node, members("10.1.2.3"))
        trying = await node.run(client, TRIES.format(server.ip_address))
        await node.says(trying, "refused")
        await node.runtime.protect(server, members("10.1.2.3", client.ip_address))
        async with asyncio.timeout(30):
            assert [line.text for line in await node.lines(trying)] == ["refused", "served"]
        await node.runtime.protect(server, members())
        again = await node.run(client, f"{TRY.format(server.ip_address)} || echo refused")
        assert [line.text for line in await node.lines(again)] == ["refused"]

    async def test_what_may_not_go_out_stays_and_answers_go_out(self, node: Node) -> None:
        other = await self.serving(node, PacketRules([ALL], [ALL]))
        silent = await self.serving(node, PacketRules([WEB], []))
        asking = await node.run(other, f"until {TRY.format(silent.ip_address)}; do :; done", name="asking")
        assert [line.text for line in await node.lines(asking)] == ["served"]
        itself = await node.run(silent, f"until {TRY.format('127.0.0.1')}; do :; done", name="itself")
        assert [line.text for line in await node.lines(itself)] == ["served"]
        trying = await node.run(silent, TRIES.format(other.ip_address), name="trying")
        await node.says(trying, "refused")
        await node.runtime.protect(silent, None)
        async with asyncio.timeout(30):
            assert [line.text for line in await node.lines(trying)] == ["refused", "served"]

    async def test_a_connection_that_stands_outlives_the_rule_that_let_it_in(self, node: Node) -> None:
        client, server = await node.sandbox(), await node.sandbox()
        await node.runtime.protect(server, PacketRules([WEB], [ALL]))
        hearing = await node.run(server, "sleep 4321 | nc -l -p 8080")
        talking = await node.run(client, TALKS.format(server.ip_address))
        await node.runtime.exec(talking, ["sh", "-c", "until [ -p /tmp/f ]; do :; done; echo one >/tmp/f"])
        await node.says(hearing, "one")
        await node.runtime.protect(server, PacketRules([], [ALL]))
        await node.runtime.exec(talking, ["sh", "-c", "echo two >/tmp/f"])
        await node.says(hearing, "two")
        fresh = await node.runtime.exec(talking, ["sh", "-c", f"{TRY.format(server.ip_address)} || echo refused"])
        assert fresh.output == b"refused\n"
