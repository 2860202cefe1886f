"""What holds the namespaces that the containers of one task share: a container of its own with the pause program.

A process namespace lives as long as its first process, so that must be nobody's command. It is kept by conmon and runc
as the task's containers are, and so survives the agent and is found among runc's containers when a start was cut short.
It is confined more than they are, since they see it: no capability, nobody's user, a file system of nothing but itself.
"""

from __future__ import annotations

import json
import platform
import shutil
from pathlib import Path

from services.agent.ports import ContainerSpec, Image, RuntimeFailure
from services.agent.runtimes import pause
from services.agent.runtimes.oci import spec, syscalls
from services.agent.runtimes.oci.keeper import Keeper, Kept
from services.agent.runtimes.oci.rootfs import User

NOBODY = 65534
_MOUNTS = ("/proc", "/dev")


class Holders:
    """Started before the containers of a sandbox, ended after them. `directory` is the sandbox's own."""

    def __init__(self, keeper: Keeper, *, cgroup_namespace: bool, seccomp: bool) -> None:
        self._keeper = keeper
        self._cgroup_namespace = cgroup_namespace
        self._seccomp = seccomp

    @staticmethod
    def name(sandbox_id: str) -> str:
        """Its container's id."""
        return f"{sandbox_id}.pause"

    def start(self, sandbox_id: str, directory: Path, network: str, cgroup: str) -> tuple[int, int]:
        """Start it in the network at this path (empty: the node's own) and the sandbox's group: its pid, and when that
        started, in clock ticks. Raises OSError, RuntimeFailure."""
        try:
            program = pause.program(platform.machine())
        except ValueError as error:
            raise RuntimeFailure(str(error)) from None
        kept = self._kept(sandbox_id, directory)
        root = kept.bundle / "rootfs"
        root.mkdir(parents=True)
        kept.exits.mkdir()
        file = root / pause.PROGRAM.lstrip("/")
        file.write_bytes(program)
        file.chmod(0o755)
        configuration = self._configuration(sandbox_id, network, f"{cgroup}/{kept.id}")
        (kept.bundle / "config.json").write_text(json.dumps(configuration))
        pid = self._keeper.create(kept)
        self._keeper.start(kept.id)
        return pid, syscalls.start_ticks(pid)

    def end(self, sandbox_id: str, directory: Path) -> None:
        """End it, and all that still runs in its process namespace. No error when there is none."""
        kept = self._kept(sandbox_id, directory)
        if kept.bundle.exists():
            self._keeper.discard(kept)
            shutil.rmtree(kept.bundle, ignore_errors=True)

    def _kept(self, sandbox_id: str, directory: Path) -> Kept:
        bundle = directory / "pause"
        return Kept(self.name(sandbox_id), bundle, bundle / "exits")

    def _configuration(self, sandbox_id: str, network: str, cgroup: str) -> dict:
        wanted = ContainerSpec(
            id=self.name(sandbox_id),
            name="pause",
            image=Image("", "", 0),
            entry_point=[pause.PROGRAM, sandbox_id],
            readonly_root_filesystem=True,
            cap_drop=["ALL"],
        )
        around = spec.Surroundings(
            user=User(NOBODY, NOBODY),
            hostname="pause",
            namespace=network,
            cgroup=cgroup,
            cgroup_namespace=self._cgroup_namespace,
            seccomp=self._seccomp,
        )
        made = spec.configuration(wanted, around)
        made["mounts"] = [mount for mount in made["mounts"] if mount["destination"] in _MOUNTS]
        return made
