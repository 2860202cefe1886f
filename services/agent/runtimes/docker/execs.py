"""Commands inside a running container, with a time limit and a bounded output."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Any

from services.agent.ports import ExecResult
from services.agent.runtimes.docker.engine import Engine, EngineError, translated

MAX_OUTPUT = 64 * 1024
MAX_CHUNK = 16 * 1024
MAX_SAID = 4096
TIMED_OUT = 124
NOT_FOUND = 127
_NO_PROGRAM = ("executable file not found", "no such file or directory")
_SETTLE_S = 5.0


async def run(
    engine: Engine, container: str, argv: list[str], timeout_s: float, environment: dict[str, str]
) -> ExecResult:
    """Run argv in a container (its engine name) and wait for it. Raises EngineError."""
    body = {
        "Cmd": argv,
        "AttachStdout": True,
        "AttachStderr": True,
        "Env": [f"{name}={value}" for name, value in environment.items()],
    }
    exec_id = (await engine.call("POST", f"containers/{container}/exec", body=body))["Id"]
    output = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async with engine.run_exec(exec_id) as chunks:
                async for chunk in chunks:
                    output += chunk[: MAX_OUTPUT - len(output)]
            code = await _exit_code(engine, exec_id)
    except TimeoutError:
        _kill(await engine.call("GET", f"exec/{exec_id}/json"))
        return ExecResult(TIMED_OUT, bytes(output), timed_out=True)
    except EngineError as error:
        if not _has_no_program(error.message):
            raise
        return ExecResult(NOT_FOUND, error.message.encode())
    # Engines differ in how they say that there is no such program: an error, 127, or 126 with the runtime's words.
    started = not (code == 126 and output.startswith(b"OCI runtime exec failed"))
    return ExecResult(
        code if started or not _has_no_program(output.decode(errors="replace")) else NOT_FOUND, bytes(output)
    )


class DockerCommand:
    """See `services.agent.ports.Command`."""

    def __init__(self, engine: Engine, exec_id: str, *, tty: bool) -> None:
        self._engine = engine
        self._id = exec_id
        self._tty = tty
        self._exec = engine.exec(exec_id, tty=tty)
        self._stream = self._exec.start()
        self._said = b""
        self._rest: tuple[int, bytes] = (1, b"")

    @classmethod
    async def start(
        cls, engine: Engine, container: str, argv: list[str], *, tty: bool, environment: dict[str, str]
    ) -> DockerCommand:
        """Start it. Raises EngineError."""
        body = {
            "Cmd": argv,
            "User": "0:0",
            "Tty": tty,
            "AttachStdin": tty,
            "AttachStdout": True,
            "AttachStderr": True,
            "Env": [f"{name}={value}" for name, value in environment.items()],
        }
        exec_id = (await engine.call("POST", f"containers/{container}/exec", body=body))["Id"]
        command = cls(engine, exec_id, tty=tty)
        with translated():
            await command._stream.__aenter__()
        return command

    async def read(self) -> tuple[int, bytes] | None:
        """See `Command.read`."""
        stream, data = self._rest
        if not data:
            message = await self._stream.read_out()
            if message is None:
                return None
            stream, data = message.stream, message.data
            self._said = (self._said + data)[-MAX_SAID:]
        self._rest = (stream, data[MAX_CHUNK:])
        return stream, data[:MAX_CHUNK]

    async def write(self, data: bytes) -> None:
        """See `Command.write`."""
        if self._tty:
            with contextlib.suppress(OSError, RuntimeError, AssertionError):  # it has ended
                await self._stream.write_in(data)

    async def resize(self, columns: int, rows: int) -> None:
        """See `Command.resize`."""
        with contextlib.suppress(EngineError), translated():
            await self._exec.resize(h=rows, w=columns)

    async def wait(self) -> int:
        """See `Command.wait`."""
        code = await _exit_code(self._engine, self._id)
        return NOT_FOUND if code == 126 and _has_no_program(self._said.decode(errors="replace")) else code

    async def close(self) -> None:
        """See `Command.close`."""
        with contextlib.suppress(EngineError):
            shown = await self._engine.call("GET", f"exec/{self._id}/json")
            if shown["Running"]:
                _kill(shown)
        with contextlib.suppress(AssertionError):  # the connection is gone already
            await self._stream.close()


def _has_no_program(text: str) -> bool:
    return any(words in text for words in _NO_PROGRAM)


async def _exit_code(engine: Engine, exec_id: str) -> int:
    """The exit code, which the engine knows a moment after the output ended."""
    deadline = asyncio.get_running_loop().time() + _SETTLE_S
    delay = 0.002
    while True:
        shown = await engine.call("GET", f"exec/{exec_id}/json")
        if not shown["Running"] and shown["ExitCode"] is not None:
            return shown["ExitCode"]
        if asyncio.get_running_loop().time() > deadline:
            raise TimeoutError
        await asyncio.sleep(delay)
        delay = min(0.1, delay * 2)


def _kill(shown: dict[str, Any]) -> None:
    """End a command that took too long. The Engine API can't; an agent that sees the engine's processes can."""
    pid, container = shown.get("Pid") or 0, shown["ContainerID"]
    with contextlib.suppress(OSError):
        if pid > 1 and container in Path(f"/proc/{pid}/cgroup").read_text():
            os.killpg(pid, signal.SIGKILL)  # it leads a session of its own
