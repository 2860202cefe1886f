"""The oci runtime: what holds the namespaces of a task, found again, ended, cleaned up. Needs root, runc and conmon."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from services.agent.ports import CannotCreateContainerError, CannotStartContainerError, Image, SandboxSpec
from services.agent.runtimes.oci import OciRuntime
from tests.integration.test_runtime_oci import Make, debris, image, machine, make, shell, text, until

__all__ = ["image", "machine", "make"]

pytestmark = pytest.mark.root
SHARING = SandboxSpec("s1", network_mode="none", pid_mode="task", ipc_mode="task")


def holders(sandbox_id: str = "s1") -> list[int]:
    """The processes that hold a sandbox's namespaces."""
    wanted = f"/pause\0{sandbox_id}\0".encode()
    return [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/cmdline") if read(path) == wanted]


async def held() -> int:
    """The process that holds the sandbox's namespaces, once runc has made way for it."""
    await until(lambda: len(holders()) == 1)
    return holders()[0]


def read(path: Path) -> bytes:
    """What a file of /proc says; nothing when the process is gone."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def ended(pid: int) -> Callable[[], bool]:
    return lambda: not read(Path(f"/proc/{pid}/cmdline"))


def group(runtime: OciRuntime, path: str = "s1/c1") -> Path:
    """The control group of a sandbox or container."""
    return runtime._cgroups._directory("memory", f"{runtime._cgroup}/{path}")


def limit(runtime: OciRuntime, name: str, path: str = "s1/c1") -> int:
    """A number of a memory group of version 1."""
    return int((group(runtime, path) / f"memory.{name}").read_text())


async def test_an_agent_finds_what_is_shared_again(make: Make, image: Image, machine: Path, tmp_path: Path) -> None:
    runtime = await make()
    sandbox = await runtime.create_sandbox(SHARING)
    await runtime.run_container(sandbox, shell("echo kept >/dev/shm/x; exec sleep 4321", image))
    holder = await held()
    again = await make()
    assert holders() == [holder]
    others = "cat /proc/[0-9]*/comm 2>/dev/null"
    script = f"until {others} | grep -q sleep; do :; done; cat /dev/shm/x /proc/1/comm"
    await again.run_container(sandbox, shell(script, image, id="c2"))
    assert await text(again, "c2") == ["kept", "pause"]
    await again.remove_sandbox("s1")
    assert (holders(), debris(machine, tmp_path / "a")) == ([], [])


async def test_a_holder_has_nothing_that_containers_could_take(make: Make, image: Image) -> None:
    runtime = await make()
    sandbox = await runtime.create_sandbox(SHARING)
    await held()
    script = "cat /proc/1/status | grep -E '^(Uid|CapEff|CapBnd)'; ls /proc/1/root/; kill -9 1; cat /proc/1/comm"
    await runtime.run_container(sandbox, shell(script, image, cap_add=["SYS_PTRACE"]))
    none = "0" * 16
    lines = [" ".join(line.split()) for line in await text(runtime)]
    assert lines == [
        "Uid: 65534 65534 65534 65534",
        f"CapEff: {none}",
        f"CapBnd: {none}",
        "dev",
        "pause",
        "proc",
        "pause",
    ]


async def test_a_holder_of_a_sandbox_that_was_not_made_whole_goes(make: Make, machine: Path, tmp_path: Path) -> None:
    runtime = await make()
    await runtime.create_sandbox(SHARING)
    (tmp_path / "a" / "sandboxes" / "s1" / "sandbox.json").unlink()  # an agent was killed before it wrote this
    again = await make()
    assert (await again.sandboxes(), holders(), debris(machine, tmp_path / "a")) == ([], [], [])


async def test_a_holder_of_a_node_whose_directory_was_deleted_is_ended_by_the_next(make: Make, tmp_path: Path) -> None:
    runtime = await make("deleted")
    await runtime.create_sandbox(SandboxSpec("s1", network_mode="none", pid_mode="task"))
    holder = await held()
    groups = group(runtime, "")
    await runtime.aclose()
    shutil.rmtree(tmp_path / "deleted")
    await make("next")
    await until(ended(holder))
    assert not groups.exists()
    await make("deleted")


async def test_a_holder_that_is_killed_takes_the_containers_along(
    make: Make, image: Image, machine: Path, tmp_path: Path
) -> None:
    runtime = await make()
    sandbox = await runtime.create_sandbox(SHARING)
    await runtime.run_container(sandbox, shell("exec sleep 4321", image))
    holder = await held()
    os.kill(holder, signal.SIGKILL)
    async with asyncio.timeout(30):
        assert (await runtime.wait("c1")).code == 137
    await until(ended(holder))
    with pytest.raises(CannotStartContainerError, match="holds the task's shared namespaces"):
        await runtime.run_container(sandbox, shell("true", image, id="c2"))
    again = await make()
    assert [(each.id, each.state) for each in await again.containers("s1")] == [("c1", "exited"), ("c2", "created")]
    await again.remove_sandbox("s1")
    assert debris(machine, tmp_path / "a") == []


@pytest.mark.parametrize("mode", ["task", "host"])
async def test_what_runs_on_is_ended_also_by_the_next_agent(make: Make, image: Image, mode: str) -> None:
    """The agent is away when a container's first process ends and leaves others."""
    runtime = await make()
    sandbox = await runtime.create_sandbox(SandboxSpec("s1", network_mode="none", pid_mode=mode))
    script = "sleep 4321 & until [ -e /dev/shm/go ]; do sleep 0.02; done; exit 4"
    await runtime.run_container(sandbox, shell(script, image))
    procs = group(runtime) / "cgroup.procs"
    first = runtime._containers.record("c1").pid
    await until(lambda: any(read(Path(f"/proc/{pid}/comm")) == b"sleep\n" for pid in procs.read_text().split()))
    go = Path(f"/proc/{first}/root/dev/shm/go")
    await runtime.aclose()
    go.touch()
    await until(ended(first))
    again = await make()
    async with asyncio.timeout(30):
        assert (await again.wait("c1")).code == 4
    await until(lambda: read(procs) == b"")


async def test_removing_a_container_that_shares_processes_ends_all_of_it(make: Make, image: Image) -> None:
    runtime = await make()
    sandbox = await runtime.create_sandbox(SHARING)
    await runtime.run_container(sandbox, shell("sleep 4321 & exec sleep 4322", image))
    procs = group(runtime) / "cgroup.procs"
    await until(lambda: len(procs.read_text().split()) == 2)
    pids = [int(pid) for pid in procs.read_text().split()]
    await runtime.remove_container("c1")
    for pid in pids:
        await until(ended(pid))
    assert await held()


async def test_the_nodes_own_namespaces_are_this_machines(make: Make, image: Image) -> None:
    runtime = await make()
    sandbox = await runtime.create_sandbox(SandboxSpec("s1", network_mode="none", pid_mode="host", ipc_mode="host"))
    script = "readlink /proc/self/ns/pid; readlink /proc/self/ns/ipc; stat -c %d /dev/shm"
    await runtime.run_container(sandbox, shell(script, image))
    own = [os.readlink("/proc/self/ns/pid"), os.readlink("/proc/self/ns/ipc"), str(os.stat("/dev/shm").st_dev)]
    assert (await text(runtime), holders()) == (own, [])


async def test_kernel_parameters_of_a_shared_namespace_are_all_containers(make: Make, image: Image) -> None:
    runtime = await make()
    sandbox = await runtime.create_sandbox(SHARING)
    await runtime.run_container(sandbox, shell("exec sleep 4321", image, sysctls={"kernel.msgmax": "4321"}))
    await runtime.run_container(sandbox, shell("cat /proc/sys/kernel/msgmax", image, id="c2"))
    assert await text(runtime, "c2") == ["4321"]


@pytest.mark.skipif(
    not Path("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists(), reason="no swap is accounted by version 1"
)
async def test_the_kernel_is_told_how_much_swap_there_is(make: Make, image: Image) -> None:
    runtime = await make()
    sandbox = await runtime.create_sandbox(SandboxSpec("s1", network_mode="none", memory_mib=64, swap_mib=32))
    swap = {"max_swap_mib": 32, "swappiness": 7}
    await runtime.run_container(sandbox, shell("exec sleep 4321", image, memory_mib=48, **swap))
    await runtime.run_container(sandbox, shell("exec sleep 4321", image, id="c2", memory_mib=48, max_swap_mib=0))
    assert limit(runtime, "memsw.limit_in_bytes", "s1") == 96 << 20
    assert (limit(runtime, "memsw.limit_in_bytes"), limit(runtime, "swappiness")) == (80 << 20, 7)
    assert limit(runtime, "memsw.limit_in_bytes", "s1/c2") == 48 << 20


async def test_where_the_kernel_does_not_bound_swap_it_is_refused(make: Make, image: Image, monkeypatch) -> None:
    runtime = await make()
    sandbox = await runtime.create_sandbox(SandboxSpec("s1", network_mode="none"))
    monkeypatch.setattr(runtime._cgroups, "bounds_swap", lambda path: False)
    with pytest.raises(CannotCreateContainerError, match="maxSwap"):
        await runtime.run_container(sandbox, shell("true", image, memory_mib=48, max_swap_mib=0))
