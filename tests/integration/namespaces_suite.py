"""What containers of one sandbox share beside its network, of every runtime: a part of `runtime_suite`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from services.agent.ports import Sandbox
    from tests.integration.runtime_suite import Node

PROCESSES = "for p in /proc/[0-9]*; do cat $p/comm; done 2>/dev/null"
KILL_SLEEP = (
    'while true; do for p in /proc/[0-9]*; do [ "$(cat $p/comm 2>/dev/null)" = sleep ] && kill -9 ${p#/proc/} '
    "&& exit 0; done; done"
)
HELD = "until grep -q pause /proc/1/comm; do :; done"
GONE = "while grep -qs '^State:.[^ZX]' /proc/{}/status; do :; done; echo gone"
NAMESPACES = "readlink /proc/self/ns/pid; readlink /proc/self/ns/ipc"


async def said(node: Node, sandbox: Sandbox, script: str, **given: object) -> list[str]:
    """What a container of the sandbox prints until it ends."""
    async with asyncio.timeout(30):
        return [line.text for line in await node.lines(await node.run(sandbox, script, **given))]


async def stays(node: Node, sandbox: Sandbox, script: str) -> list[str]:
    """What a container prints that runs on: the number of a namespace that is gone may be given again."""
    container = await node.run(sandbox, f"{script}; echo over; exec sleep 4321")
    last = await node.says(container, "over")
    async with asyncio.timeout(30):
        lines = [line.text async for line in node.runtime.logs(container)]
    return lines[: lines.index(last.text)]


class NamespacesSuite:
    """Namespaces of processes and of inter-process communication: a task's, the node's, each container's own."""

    async def test_containers_of_a_task_see_and_signal_each_others_processes(self, node: Node) -> None:
        sandbox = await node.sandbox(network_mode="none", pid_mode="task")
        victim = await node.run(sandbox, "exec sleep 4321")
        assert await said(node, sandbox, KILL_SLEEP) == []
        async with asyncio.timeout(30):
            assert (await node.runtime.wait(victim)).code == 137
        assert (await said(node, sandbox, f"{HELD}; {PROCESSES}"))[0] == "pause"

    async def test_a_container_by_itself_sees_its_own_processes_alone(self, node: Node) -> None:
        sandbox = await node.sandbox(network_mode="none")
        await node.run(sandbox, "exec sleep 4321")
        assert await said(node, sandbox, PROCESSES) == ["sh"]

    async def test_what_is_left_to_the_task_is_reaped(self, node: Node) -> None:
        sandbox = await node.sandbox(network_mode="none", pid_mode="task")
        parent = await node.run(sandbox, "(sleep 0.2 & echo orphan $!); exec sleep 4321")
        orphan = (await node.says(parent, "orphan")).text.split()[1]
        assert await said(node, sandbox, f"while [ -d /proc/{orphan} ]; do :; done; echo reaped") == ["reaped"]

    @pytest.mark.parametrize("mode", ["task", "host"])
    async def test_all_of_a_container_ends_with_its_first_process(self, node: Node, mode: str) -> None:
        sandbox = await node.sandbox(network_mode="none", pid_mode=mode)
        container = await node.run(sandbox, "sleep 4321 & echo left $!; exit 3")
        left = (await node.says(container, "left")).text.split()[1]
        async with asyncio.timeout(30):
            assert (await node.runtime.wait(container)).code == 3
        assert await said(node, sandbox, GONE.format(left)) == ["gone"]

    async def test_a_container_of_a_task_that_shares_processes_is_stopped_whole(self, node: Node) -> None:
        sandbox = await node.sandbox(network_mode="none", pid_mode="task")
        script = "trap '' TERM; sleep 4321 & echo left $!; while true; do sleep 0.05; done"
        container = await node.run(sandbox, script)
        left = (await node.says(container, "left")).text.split()[1]
        assert (await node.runtime.stop_container(container, 0.2)).code == 137
        assert await said(node, sandbox, GONE.format(left)) == ["gone"]

    async def test_a_command_runs_among_the_tasks_processes(self, node: Node) -> None:
        sandbox = await node.sandbox(network_mode="none", pid_mode="task")
        container = await node.run(sandbox, "exec sleep 4321")
        done = await node.runtime.exec(container, ["sh", "-c", f"{HELD}; cat /proc/1/comm"])
        assert (done.exit_code, done.output) == (0, b"pause\n")

    async def test_containers_of_a_task_share_memory_and_queues(self, node: Node) -> None:
        sandbox = await node.sandbox(network_mode="none", ipc_mode="task", shared_memory_mib=8)
        size = "df -m /dev/shm | tail -1 | awk '{print $2}'"
        first = await stays(node, sandbox, f"echo words >/dev/shm/w; touch /dev/mqueue/q; {size}; {NAMESPACES}")
        assert first[0] == "8"
        second = await said(node, sandbox, f"cat /dev/shm/w; ls /dev/mqueue; {NAMESPACES}", user="1000")
        assert (second[:2], second[3], second[2] != first[1]) == (["words", "q"], first[2], True)

    @pytest.mark.parametrize("mode", ["", "none"])
    async def test_else_each_container_has_memory_and_queues_of_its_own(self, node: Node, mode: str) -> None:
        sandbox = await node.sandbox(network_mode="none", ipc_mode=mode)
        script = f"ls /dev/shm /dev/mqueue | grep -c x; touch /dev/shm/x /dev/mqueue/x; {NAMESPACES}"
        first, second = [await stays(node, sandbox, script) for _ in range(2)]
        assert (first[0], second[0], set(first[1:]) & set(second[1:])) == ("0", "0", set())

    async def test_the_nodes_namespaces_are_those_of_all_who_ask_for_them(self, node: Node) -> None:
        modes = {"pid_mode": "host", "ipc_mode": "host"}
        first, second = [
            await stays(node, await node.sandbox(network_mode="none", **modes), NAMESPACES) for _ in range(2)
        ]
        assert first == second
        own = await said(node, await node.sandbox(network_mode="none"), NAMESPACES)
        assert set(first) & set(own) == set()

    async def test_a_task_may_share_one_and_not_the_other(self, node: Node) -> None:
        sandbox = await node.sandbox(network_mode="none", pid_mode="task", ipc_mode="none")
        first, second = [await stays(node, sandbox, NAMESPACES) for _ in range(2)]
        assert (first[0] == second[0], first[1] == second[1]) == (True, False)

    async def test_swap_comes_on_top_of_memory(self, node: Node) -> None:
        sandbox = await node.sandbox(network_mode="none", memory_mib=64, swap_mib=32)
        container = await node.run(sandbox, "exec sleep 4321", memory_mib=48, max_swap_mib=32, swappiness=7)
        assert (await node.runtime.stats(container)).memory_limit_bytes == 48 << 20
