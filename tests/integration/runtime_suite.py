"""What every container runtime must do: one suite against the port, for the oci runtime, for Docker, for a fake.

A runtime's own module subclasses `RuntimeSuite`, marks it, and gives the fixture `runtime`: a started Runtime, closed
at the end. `images` puts images on the node: by default it pulls them from a registry on loopback. Override what a
runtime cannot do by the class attributes, never by skipping in between. See test_runtime_oci.py.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, ClassVar

import pytest

from services.agent.ports import (
    CannotPullContainerError,
    CannotStartContainerError,
    Command,
    Container,
    ContainerSpec,
    ExecResult,
    HostPort,
    Image,
    LogLine,
    Mount,
    NoSuchContainer,
    RegistryAuth,
    Runtime,
    RuntimeFailure,
    Sandbox,
    SandboxSpec,
)
from tests.builders.images import BuiltImage, Directory, File, busybox_image
from tests.fakes.image_registry import ImageRegistry
from tests.integration.namespaces_suite import NamespacesSuite
from tests.integration.packets_suite import SERVE, PacketsSuite

Images = Callable[[BuiltImage], Awaitable[Image]]
TRAPPING = "trap 'echo bye; exit 3' TERM; echo ready; while true; do sleep 0.05; done"


class Node:
    """A runtime with short ways to say things. Removes every sandbox it made."""

    def __init__(self, runtime: Runtime, image: Image) -> None:
        self.runtime = runtime
        self.image = image
        self._made: list[str] = []

    async def sandbox(self, **given: Any) -> Sandbox:
        """A new sandbox."""
        spec = SandboxSpec(**{"id": f"suite-{secrets.token_hex(6)}", **given})
        self._made.append(spec.id)
        return await self.runtime.create_sandbox(spec)

    def spec(self, script: str | None = None, **given: Any) -> ContainerSpec:
        """A container that runs a shell script, unless `command` says otherwise."""
        if script is not None:
            given["command"] = ["sh", "-c", script]
        return ContainerSpec(**{"id": f"suite-{secrets.token_hex(6)}", "name": "main", "image": self.image, **given})

    async def run(self, sandbox: Sandbox, script: str | None = None, **given: Any) -> str:
        """Start a container; its id."""
        spec = self.spec(script, **given)
        await self.runtime.run_container(sandbox, spec)
        return spec.id

    async def output(self, script: str | None = None, **given: Any) -> list[str]:
        """What a container in a sandbox of its own prints until it ends."""
        sandbox = await self.sandbox(network_mode="none")
        container_id = await self.run(sandbox, script, **given)
        return [line.text for line in await self.lines(container_id)]

    async def lines(self, container_id: str, after: str = "") -> list[LogLine]:
        """All lines until the container ends."""
        return [line async for line in self.runtime.logs(container_id, after, follow=True)]

    async def says(self, container_id: str, text: str) -> LogLine:
        """Wait until a container printed this line."""
        async with asyncio.timeout(30):
            async for line in self.runtime.logs(container_id, follow=True):
                if text in line.text:
                    return line
        raise AssertionError(f"{container_id} ended without saying {text!r}")

    async def close(self) -> None:
        """Remove what was made."""
        for sandbox_id in self._made:
            await self.runtime.remove_sandbox(sandbox_id)


async def told(command: Command) -> tuple[dict[int, bytes], int]:
    """All that a command writes, by stream, and its exit code; closed."""
    said: dict[int, bytes] = {}
    async with asyncio.timeout(30):
        while (chunk := await command.read()) is not None:
            said[chunk[0]] = said.get(chunk[0], b"") + chunk[1]
        code = await command.wait()
    await command.close()
    return said, code


class RuntimeSuite(NamespacesSuite, PacketsSuite):
    """See the module. reaches_tasks: the node reaches a task's own address. ends_commands: who closes an open exec ends
    it."""

    reaches_tasks: ClassVar[bool] = True
    listens: ClassVar[bool] = True
    ends_commands: ClassVar[bool] = True

    @pytest.fixture
    async def registry(self) -> AsyncIterator[ImageRegistry]:
        async with ImageRegistry() as registry:
            yield registry

    @pytest.fixture
    def images(self, runtime: Runtime, registry: ImageRegistry) -> Images:
        async def provide(image: BuiltImage) -> Image:
            return await runtime.pull(registry.push("suite/app", image.digest[7:19], image))

        return provide

    @pytest.fixture
    async def node(self, runtime: Runtime, images: Images) -> AsyncIterator[Node]:
        node = Node(runtime, await images(busybox_image()))
        try:
            yield node
        finally:
            await node.close()

    async def test_a_container_runs_and_its_exit_code_is_known(self, node: Node) -> None:
        sandbox = await node.sandbox(labels={"task": "t1"})
        before = time.time()
        spec = node.spec("exit 7", labels={"name": "main"})
        started_at = await node.runtime.run_container(sandbox, spec)
        ended = await node.runtime.wait(spec.id)
        assert (ended.code, ended.oom_killed) == (7, False)
        assert before - 1 <= started_at <= ended.finished_at + 1
        [container] = await node.runtime.containers(sandbox.id)
        assert container == Container(
            spec.id, "main", sandbox.id, "exited", container.started_at, ended, {"name": "main"}
        )
        assert sandbox in await node.runtime.sandboxes()

    async def test_create_and_start_are_two_steps_and_idempotent(self, node: Node) -> None:
        sandbox = await node.sandbox()
        spec = node.spec("sleep 60")
        for _ in range(2):
            await node.runtime.create_container(sandbox, spec)
        assert [each.state for each in await node.runtime.containers(sandbox.id)] == ["created"]
        first, second = [await node.runtime.start_container(spec.id) for _ in range(2)]
        assert abs(first - second) < 1
        assert [each.state for each in await node.runtime.containers(sandbox.id)] == ["running"]
        assert await node.runtime.create_sandbox(SandboxSpec(sandbox.id)) == sandbox

    async def test_output_comes_by_stream_and_a_cursor_continues_behind_a_line(self, node: Node) -> None:
        sandbox = await node.sandbox(network_mode="none")
        container_id = await node.run(sandbox, "echo one; sleep 0.05; echo two >&2; sleep 0.05; printf three")
        lines = await node.lines(container_id)
        assert [(line.stream, line.text) for line in lines] == [
            ("stdout", "one"),
            ("stderr", "two"),
            ("stdout", "three"),
        ]
        assert all(abs(line.time - time.time()) < 60 for line in lines)
        rest = [line.text async for line in node.runtime.logs(container_id, lines[0].cursor)]
        assert rest == ["two", "three"]

    async def test_follow_gives_lines_as_they_are_written(self, node: Node) -> None:
        sandbox = await node.sandbox(network_mode="none")
        container_id = await node.run(sandbox, TRAPPING)
        line = await node.says(container_id, "ready")
        following = asyncio.create_task(node.lines(container_id, line.cursor))
        ended = await node.runtime.stop_container(container_id, 10)
        assert [each.text for each in await following] == ["bye"]
        assert ended.code == 3

    async def test_a_long_line_is_whole(self, node: Node) -> None:
        lines = await node.output("head -c 100000 /dev/zero | tr '\\0' x; echo; echo end")
        assert [len(line) for line in lines] == [100000, 3]

    async def test_a_lot_of_output_is_complete(self, node: Node) -> None:
        lines = await node.output("seq 1 20000")
        assert lines == [str(number) for number in range(1, 20001)]

    async def test_what_ignores_the_stop_signal_is_killed(self, node: Node) -> None:
        sandbox = await node.sandbox(network_mode="none")
        container_id = await node.run(sandbox, "trap '' TERM; echo ready; while true; do sleep 0.05; done")
        await node.says(container_id, "ready")
        ended = await node.runtime.stop_container(container_id, 0.2)
        assert (ended.code, ended.oom_killed) == (137, False)

    async def test_the_images_stop_signal_is_used(self, node: Node, images: Images) -> None:
        image = await images(busybox_image(stop_signal="SIGINT"))
        sandbox = await node.sandbox(network_mode="none")
        script = "trap 'exit 5' INT; echo ready; while true; do sleep 0.05; done"
        container_id = await node.run(sandbox, script, image=image)
        await node.says(container_id, "ready")
        assert (await node.runtime.stop_container(container_id, 10)).code == 5

    async def test_entry_point_and_command_merge_as_docker_run_does(self, node: Node, images: Images) -> None:
        image = await images(busybox_image(entry_point=["echo", "image"], command=["command"]))
        assert image.entry_point == ["echo", "image"]
        assert await node.output(image=image) == ["image command"]
        assert await node.output(image=image, command=["mine"]) == ["image mine"]
        assert await node.output(image=image, entry_point=["echo", "own"]) == ["own"]
        assert await node.output(image=image, entry_point=["echo", "own"], command=["mine"]) == ["own mine"]

    async def test_environment_user_and_directory_come_from_image_and_container(
        self, node: Node, images: Images
    ) -> None:
        image = await images(
            busybox_image(environment={"A": "image", "B": "image"}, user="app", working_directory="/srv/new")
        )
        script = "echo $A $B; id; pwd"
        assert await node.output(script, image=image, environment={"B": "mine"}) == [
            "image mine",
            "uid=1000(app) gid=1000(app) groups=1000(app),2000(extra)",
            "/srv/new",
        ]
        given = {"user": "65534:2000", "working_directory": "/tmp"}
        assert await node.output("id -u; id -g; pwd", image=image, **given) == ["65534", "2000", "/tmp"]

    async def test_a_command_that_does_not_exist_fails_to_start(self, node: Node) -> None:
        sandbox = await node.sandbox(network_mode="none")
        with pytest.raises(CannotStartContainerError, match=r"nosuch.*executable file not found"):
            await node.run(sandbox, command=["nosuch"])
        spec = node.spec(command=["/no/such"])
        await node.runtime.create_container(sandbox, spec)
        with pytest.raises(CannotStartContainerError, match="no such file or directory"):
            await node.runtime.start_container(spec.id)
        await node.runtime.remove_container(spec.id)

    async def test_a_user_that_does_not_exist_is_refused(self, node: Node) -> None:
        sandbox = await node.sandbox(network_mode="none")
        with pytest.raises(RuntimeFailure, match="unable to find user ghost"):
            await node.run(sandbox, "true", user="ghost")

    async def test_memory_above_the_limit_ends_in_137_and_is_told(self, node: Node) -> None:
        sandbox = await node.sandbox(network_mode="none")
        container_id = await node.run(sandbox, command=["tail", "/dev/zero"], memory_mib=16)
        ended = await node.runtime.wait(container_id)
        assert (ended.code, ended.oom_killed) == (137, True)

    async def test_exec_runs_inside(self, node: Node) -> None:
        sandbox = await node.sandbox(network_mode="none")
        container_id = await node.run(sandbox, "echo here >/tmp/file; echo ready; sleep 60")
        await node.says(container_id, "ready")
        run = node.runtime.exec
        assert await run(container_id, ["cat", "/tmp/file"]) == ExecResult(0, b"here\n")
        script = ["sh", "-c", "echo $X; echo bad >&2; exit 4"]
        both = await run(container_id, script, environment={"X": "1"})
        assert (both.exit_code, sorted(both.output.split())) == (4, [b"1", b"bad"])
        started = time.monotonic()
        slow = await run(container_id, ["sh", "-c", "echo on; sleep 30"], timeout_s=0.3)
        assert slow == ExecResult(124, b"on\n", timed_out=True)
        assert time.monotonic() - started < 25
        missing = await run(container_id, ["nosuch"])
        assert (missing.exit_code, b"nosuch" in missing.output) == (127, True)
        many = await run(container_id, ["sh", "-c", "yes | head -c 1000000"])
        assert (many.exit_code, len(many.output)) == (0, 65536)

    async def test_a_command_without_a_terminal_is_followed(self, node: Node) -> None:
        sandbox = await node.sandbox(network_mode="none")
        container_id = await node.run(sandbox, "sleep 60", user="1:1")
        script = "id -u; echo bad >&2; cat; echo $X; exit 4"
        ran = await node.runtime.open_exec(container_id, ["sh", "-c", script], tty=False, environment={"X": "1"})
        assert await told(ran) == ({1: b"0\n1\n", 2: b"bad\n"}, 4)
        many = await node.runtime.open_exec(container_id, ["sh", "-c", "yes | head -c 1000000"], tty=False)
        said, code = await told(many)
        assert (len(said[1]), code) == (1000000, 0)
        missing = await node.runtime.open_exec(container_id, ["nosuch"], tty=False)
        assert (await told(missing))[1] == 127

    async def test_a_command_at_a_terminal_is_talked_to(self, node: Node) -> None:
        sandbox = await node.sandbox(network_mode="none")
        container_id = await node.run(sandbox, "sleep 60")
        shell = await node.runtime.open_exec(container_id, ["sh"], tty=True)
        await shell.resize(101, 33)
        await shell.write(b"until [ \"$(stty size)\" = '33 101' ]; do sleep 0.02; done; tty; echo e$((1+1))\n")
        said = b""
        async with asyncio.timeout(30):
            while b"e2\r\n" not in said:
                said += (await shell.read())[1]
        assert b"/dev/pts/" in said or b"/dev/console" in said
        await shell.write(b"exit 5\n")
        assert (await told(shell))[1] == 5

    async def test_lines_at_a_terminal_return_once_whenever_they_are_written(self, node: Node) -> None:
        sandbox = await node.sandbox(network_mode="none")
        container_id = await node.run(sandbox, "sleep 60")
        script = r"printf 'a\n\nb\n'; sleep 0.2; printf 'c\n\nd\n'"
        for _ in range(5):
            one = await node.runtime.open_exec(container_id, ["sh", "-c", script], tty=True)
            assert await told(one) == ({1: b"a\r\n\r\nb\r\nc\r\n\r\nd\r\n"}, 0)

    async def test_a_command_ends_with_its_container(self, node: Node) -> None:
        sandbox = await node.sandbox(network_mode="none")
        container_id = await node.run(sandbox, "sleep 60")
        other = await node.runtime.open_exec(container_id, ["sleep", "50"], tty=True)
        asyncio.get_running_loop().call_later(0.3, asyncio.ensure_future, node.runtime.stop_container(container_id, 0))
        assert (await told(other))[1] == 137
        await node.runtime.wait(container_id)
        with pytest.raises(NoSuchContainer):
            await node.runtime.open_exec(container_id, ["true"], tty=False)

    async def test_a_command_that_is_closed_is_killed(self, node: Node) -> None:
        sandbox = await node.sandbox(network_mode="none")
        container_id = await node.run(sandbox, "sleep 60")
        one = await node.runtime.open_exec(container_id, ["sh", "-c", "echo on; sleep 4713"], tty=True)
        assert await one.read() == (1, b"on\r\n")
        await one.close()
        if self.ends_commands:
            async with asyncio.timeout(30):
                script = "while ps | grep -q 'sleep 471[3]'; do usleep 50000; done"
                assert await node.runtime.exec(container_id, ["sh", "-c", script]) == ExecResult(0, b"")

    async def test_containers_of_a_sandbox_share_its_network(self, node: Node) -> None:
        sandbox = await node.sandbox(hostname="web", extra_hosts={"db.local": "10.9.8.7"})
        await node.run(sandbox, command=["sh", "-c", SERVE, "hello"])
        script = "until wget -qO- http://127.0.0.1:8080/; do sleep 0.02; done; echo; hostname; grep db.local /etc/hosts"
        other = await node.run(sandbox, script, name="other")
        texts = [line.text for line in await node.lines(other) if "wget" not in line.text]
        assert texts[:2] == ["hello", "web"]
        assert texts[2].split() == ["10.9.8.7", "db.local"]

    async def test_sandboxes_reach_each_other_and_the_node_reaches_them(self, node: Node) -> None:
        first, second = await node.sandbox(), await node.sandbox()
        assert first.ip_address != second.ip_address
        await node.run(first, command=["sh", "-c", SERVE, "first"])
        script = f"until wget -qO- http://{first.ip_address}:8080/ 2>/dev/null; do sleep 0.02; done"
        container_id = await node.run(second, script)
        assert [line.text for line in await node.lines(container_id)] == ["first"]
        if self.reaches_tasks:
            assert await fetch(first.ip_address, 8080) == "first"

    async def test_a_host_port_leads_to_the_container(self, node: Node) -> None:
        ports = [HostPort(8080, container_name="main")]
        sandbox = await node.sandbox(network_mode="bridge", ports=ports)
        [port] = sandbox.ports
        assert (port.container_port, port.protocol, port.container_name) == (8080, "tcp", "main")
        assert 32768 <= port.host_port <= 60999
        await node.run(sandbox, command=["sh", "-c", SERVE, "published"])
        assert await fetch("127.0.0.1", port.host_port) == "published"

    async def test_a_host_port_that_is_taken_is_refused(self, node: Node) -> None:
        with socket.socket() as taken:
            taken.bind(("0.0.0.0", 0))
            taken.listen()
            number = taken.getsockname()[1]
            with pytest.raises(RuntimeFailure, match=str(number)):
                await node.sandbox(network_mode="bridge", ports=[HostPort(80, number)])
        sandbox = await node.sandbox(network_mode="bridge", ports=[HostPort(80, number)])
        with pytest.raises(RuntimeFailure, match=str(number)):
            await node.sandbox(network_mode="bridge", ports=[HostPort(80, number)])
        await node.runtime.remove_sandbox(sandbox.id)
        assert (await node.sandbox(network_mode="bridge", ports=[HostPort(80, number)])).ports[0].host_port == number

    async def test_the_agent_can_listen_inside_a_task(self, node: Node) -> None:
        sandbox = await node.sandbox()
        sockets = node.runtime.listen(sandbox, "169.254.170.2", 80)
        if not self.listens:
            assert sockets == []
            return

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.0 200 OK\r\n\r\nmetadata")
            writer.close()

        server = await asyncio.start_server(answer, sock=sockets[0])
        try:
            container_id = await node.run(sandbox, "wget -qO- http://169.254.170.2/v4")
            assert [line.text for line in await node.lines(container_id)] == ["metadata"]
        finally:
            server.close()

    async def test_listening_inside_a_task_takes_no_port_from_it(self, node: Node) -> None:
        sandbox = await node.sandbox()
        sockets = node.runtime.listen(sandbox, "169.254.170.2", 80)
        try:
            serve = "httpd -p 80 -h /etc && wget -qO- http://127.0.0.1/passwd | head -n 1"
            container_id = await node.run(sandbox, serve)
            assert [line.text for line in await node.lines(container_id)] == ["root:x:0:0:root:/root:/bin/sh"]
        finally:
            for each in sockets:
                each.close()

    async def test_volumes_keep_what_the_image_had_and_what_was_written(self, node: Node, images: Images) -> None:
        image = await images(
            busybox_image({"/data": Directory(mode=0o750, uid=1000, gid=1000), "/data/seed": File("image\n", uid=1000)})
        )
        volume = Mount("/data", f"suite-{secrets.token_hex(6)}", "volume")
        sandbox = await node.sandbox(network_mode="none")
        script = "cat /data/seed; stat -c %a-%u /data; echo more >/data/new"
        first = await node.run(sandbox, script, image=image, mounts=[volume])
        assert [line.text for line in await node.lines(first)] == ["image", "750-1000"]
        second = await node.run(sandbox, "cat /data/new", image=image, mounts=[volume])
        assert [line.text for line in await node.lines(second)] == ["more"]

    async def test_bind_mounts_tmpfs_and_a_read_only_root(self, node: Node, tmp_path) -> None:
        (tmp_path / "file").write_text("from the node\n")
        mounts = [
            Mount("/in", str(tmp_path), read_only=True),
            Mount("/out", str(tmp_path / "made")),
            Mount("/scratch", kind="tmpfs"),
        ]
        script = "cat /in/file; touch /in/x || echo ro; touch /x || echo ro; echo y >/scratch/y && cp /scratch/y /out/"
        lines = await node.output(script, mounts=mounts, readonly_root_filesystem=True)
        assert [line for line in lines if "touch" not in line] == ["from the node", "ro", "ro"]
        assert (tmp_path / "made" / "y").read_text() == "y\n"

    async def test_stats_tell_what_is_used(self, node: Node) -> None:
        sandbox = await node.sandbox()
        script = "i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done; echo ready; sleep 60"
        container_id = await node.run(sandbox, script, memory_mib=64)
        await node.says(container_id, "ready")
        stats = await node.runtime.stats(container_id)
        assert stats.cpu_ns > 0
        assert 0 < stats.memory_bytes < stats.memory_limit_bytes == 64 << 20
        usage = await node.runtime.usage([container_id, "no-such-container"])
        assert set(usage) == {container_id}
        assert usage[container_id].cpu_ns >= stats.cpu_ns
        assert usage[container_id].memory_limit_bytes == 64 << 20
        await node.runtime.stop_container(container_id, 0)
        with pytest.raises(NoSuchContainer):
            await node.runtime.stats(container_id)
        assert await node.runtime.usage([container_id]) == {}

    async def test_a_terminal_is_a_terminal(self, node: Node) -> None:
        assert [line.strip() for line in await node.output("test -t 1 && echo tty", tty=True)] == ["tty"]

    async def test_eight_at_once(self, node: Node) -> None:
        async def one(number: int) -> list[str]:
            sandbox = await node.sandbox()
            container_id = await node.run(sandbox, f"echo {number}")
            await node.runtime.wait(container_id)
            return [line.text for line in await node.lines(container_id)]

        assert await asyncio.gather(*map(one, range(8))) == [[str(number)] for number in range(8)]

    async def test_what_was_removed_is_unknown(self, node: Node) -> None:
        sandbox = await node.sandbox()
        container_id = await node.run(sandbox, "sleep 60")
        waiting = asyncio.create_task(node.runtime.wait(container_id))
        await asyncio.sleep(0)
        await node.runtime.stop_container(container_id, 0)
        assert (await waiting).code == 137
        for _ in range(2):
            await node.runtime.remove_container(container_id)
        with pytest.raises(NoSuchContainer):
            await node.runtime.wait(container_id)
        running = await node.run(sandbox, "sleep 60")
        for _ in range(2):
            await node.runtime.remove_sandbox(sandbox.id)
        with pytest.raises(NoSuchContainer):
            await node.runtime.exec(running, ["true"])
        assert sandbox.id not in {each.id for each in await node.runtime.sandboxes()}

    async def test_a_pull_says_why_it_failed(self, runtime: Runtime, registry: ImageRegistry) -> None:
        with pytest.raises(CannotPullContainerError, match=r"not found|unknown"):
            await runtime.pull(f"{registry.host}/no/such:1")
        with pytest.raises(CannotPullContainerError, match="invalid reference format"):
            await runtime.pull("Not A Name")
        with pytest.raises(CannotPullContainerError, match=r"127\.0\.0\.1:1"):
            await runtime.pull("127.0.0.1:1/away:1")

    @pytest.mark.parametrize("tokens", [False, True])
    async def test_a_pull_logs_in(self, runtime: Runtime, tokens: bool) -> None:
        image = busybox_image({"/private": "x"})
        async with ImageRegistry(("AWS", "secret"), tokens=tokens) as registry:
            name = registry.push("suite/private", "1", image)
            with pytest.raises(CannotPullContainerError, match=r"denied|no basic auth|unauthorized"):
                await runtime.pull(name, RegistryAuth("AWS", "wrong"))
            assert (await runtime.pull(name, RegistryAuth("AWS", "secret"))).digest == image.digest

    async def test_an_image_that_is_here_needs_no_registry(self, runtime: Runtime) -> None:
        async with ImageRegistry() as registry:
            name = registry.push("suite/kept", "1", busybox_image())
            pulled = await runtime.pull(name)
        assert await runtime.pull(name, always=False) == pulled
        with pytest.raises(CannotPullContainerError):
            await runtime.pull(name)


async def fetch(address: str, port: int) -> str:
    """The body a server in a task answers with, as soon as it is up."""
    async with asyncio.timeout(30):
        while True:
            try:
                reader, writer = await asyncio.open_connection(address, port)
                writer.write(b"GET / HTTP/1.0\r\n\r\n")
                answer = await reader.read()
                writer.close()
            except OSError:
                answer = b""
            if answer:
                return answer.decode().partition("\r\n\r\n")[2]
            await asyncio.sleep(0.02)
