"""The docker runtime with a real engine: the suite of the port, and what only it does. Needs a Docker engine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from services.agent.ports import ContainerSpec, RuntimeFailure, SandboxSpec
from services.agent.runtimes.docker import DockerRuntime, pause
from services.agent.runtimes.docker.joining import JOINS
from tests.builders.images import busybox_image
from tests.builders.waiting import until
from tests.integration.runtime_suite import Node, RuntimeSuite

NETWORK = "roadstead-suite"


@contextlib.contextmanager
def resolver() -> Iterator[str]:
    """A DNS server for whom every name is 10.9.8.7; where it listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    asked, asker = listening.recvfrom(4096)
                    if not asked:
                        return
                    end = asked.index(b"\0", 12) + 5
                    head = asked[:2] + b"\x85\x80" + b"\0\1\0\1\0\0\0\0"
                    record = b"\xc0\x0c\0\1\0\1\0\0\0\5\0\4" + bytes((10, 9, 8, 7))
                    listening.sendto(head + asked[12:end] + record, asker)

        answering = threading.Thread(target=answer)
        answering.start()
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", listening.getsockname())
            answering.join()


def docker(*arguments: str) -> list[str]:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False).stdout.split()


def bystander(network: str) -> str:
    """A container that is no task and asks to be on a network of tasks."""
    label = f"{JOINS}={network}"
    [container] = docker("run", "--detach", "--label", label, "--entrypoint", pause.PROGRAM, pause.IMAGE)
    return container


def networks_of(container: str) -> dict[str, dict[str, str]]:
    """The networks that a container is on, by name."""
    shown = subprocess.run(["docker", "inspect", container], capture_output=True, check=True).stdout
    return json.loads(shown)[0]["NetworkSettings"]["Networks"]


@pytest.fixture(scope="module", autouse=True)
def swept() -> Iterator[None]:
    """What the suite leaves on the engine by its nature: pulled images, named volumes, the network."""
    yield
    docker("network", "rm", NETWORK)
    for volume in docker("volume", "ls", "--quiet", "--filter", "name=^suite-"):
        docker("volume", "rm", volume)
    names = docker("images", "--format", "{{.Repository}}:{{.Tag}}", "127.0.0.1:*/suite/*")
    if names:
        docker("rmi", *names)


@pytest.fixture
async def runtime() -> AsyncIterator[DockerRuntime]:
    runtime = DockerRuntime(f"suite-{secrets.token_hex(4)}", network=NETWORK)
    await runtime.start()
    try:
        yield runtime
    finally:
        for sandbox in await runtime.sandboxes():
            await runtime.remove_sandbox(sandbox.id)
        await runtime.aclose()


@pytest.mark.docker
class TestDockerRuntime(RuntimeSuite):
    """The port's suite."""

    ends_commands = False  # an engine whose processes this one does not see can not

    async def test_agents_that_start_together_share_one_network(self) -> None:
        """Docker lets each of them make a network of the name, after which the name means none of them."""
        shared = f"{NETWORK}-{secrets.token_hex(4)}"
        runtimes = [DockerRuntime(f"suite-{secrets.token_hex(4)}", network=shared) for _ in range(3)]
        try:
            await asyncio.gather(*(runtime.start() for runtime in runtimes))
            assert len(docker("network", "ls", "--quiet", "--filter", f"name={shared}")) == 1
            placed = [await each.create_sandbox(SandboxSpec(id=secrets.token_hex(8))) for each in runtimes]
            assert len({sandbox.ip_address for sandbox in placed}) == 3
            assert len({(sandbox.gateway, sandbox.subnet_cidr) for sandbox in placed}) == 1
        finally:
            for runtime in runtimes:
                await runtime.destroy()
                await runtime.aclose()
        assert docker("network", "ls", "--quiet", "--filter", f"name={shared}") == []

    async def test_a_container_with_the_label_reaches_tasks(self, node: Node) -> None:
        """Whether it ran before the agents, came after them, or was restarted; and nobody else does."""
        network = f"{NETWORK}-{secrets.token_hex(4)}"
        runtimes = [DockerRuntime(f"suite-{secrets.token_hex(4)}", network=network) for _ in range(3)]
        containers = [early, stranger] = [bystander(network), bystander("another-network")]
        try:
            await asyncio.gather(*(runtime.start() for runtime in runtimes))
            late = bystander(network)
            containers.append(late)
            await until(lambda: all(network in networks_of(each) for each in (early, late)))
            sandbox = await runtimes[0].create_sandbox(SandboxSpec(id=secrets.token_hex(8)))
            assert networks_of(early)[network]["IPAddress"] != sandbox.ip_address
            docker("network", "disconnect", network, early)
            docker("restart", "--time", "0", early)
            await until(lambda: network in networks_of(early))
            assert network not in networks_of(stranger)
        finally:
            docker("rm", "--force", *containers)
            for runtime in runtimes:
                await runtime.destroy()
                await runtime.aclose()
        assert docker("network", "ls", "--quiet", "--filter", f"name={network}") == []

    async def test_a_container_with_the_label_is_on_the_network_that_was_made_again(self, node: Node) -> None:
        network = f"{NETWORK}-{secrets.token_hex(4)}"
        runtime = DockerRuntime(f"suite-{secrets.token_hex(4)}", network=network)
        container = bystander(network)
        try:
            await runtime.start()
            await until(lambda: network in networks_of(container))
            docker("network", "disconnect", network, container)
            docker("network", "rm", network)
            sandbox = await runtime.create_sandbox(SandboxSpec(id=secrets.token_hex(8)))
            assert networks_of(container)[network]["Gateway"] == sandbox.gateway
        finally:
            docker("rm", "--force", container)
            await runtime.destroy()
            await runtime.aclose()

    async def test_a_container_with_the_label_starts_though_its_network_was_removed_meanwhile(self, node: Node) -> None:
        network = f"{NETWORK}-{secrets.token_hex(4)}"
        runtimes = [DockerRuntime(f"suite-{secrets.token_hex(4)}", network=network) for _ in range(3)]
        container = bystander(network)
        try:
            await runtimes[0].start()
            await until(lambda: network in networks_of(container))
            await runtimes[0].aclose()
            docker("stop", "--time", "0", container)
            docker("network", "rm", network)
            assert docker("start", container) == []  # its network's id means nothing any more
            runtimes[0] = DockerRuntime(runtimes[0].node, network=network)
            await asyncio.gather(*(runtime.start() for runtime in runtimes))
            await until(lambda: docker("start", container) == [container])
            await until(lambda: networks_of(container)[network]["IPAddress"])
        finally:
            docker("rm", "--force", container)
            for runtime in runtimes:
                await runtime.destroy()
                await runtime.aclose()

    async def test_tasks_resolve_names_through_the_node_s_resolver(self, node: Node) -> None:
        with resolver() as upstream:
            runtime = DockerRuntime(f"suite-{secrets.token_hex(4)}", network=NETWORK, dns=upstream)
            await runtime.start()
            here = Node(runtime, node.image)
            try:
                sandbox = await here.sandbox()
                asked = "nslookup -type=a backend.shop.local"
                first = await here.run(sandbox, asked)
                await runtime.wait(first)
                assert "Address: 10.9.8.7" in [line.text for line in await here.lines(first)]
                again = DockerRuntime(runtime.node, network=NETWORK, dns=upstream)
                await again.start()
                await runtime.aclose()
                assert await again.sandboxes() == [sandbox]  # an agent that is back answers where the first one did
                here.runtime = again
                second = await here.run(sandbox, asked)
                assert "Address: 10.9.8.7" in [line.text for line in await here.lines(second)]
            finally:
                await here.close()
                await here.runtime.aclose()

    async def test_a_new_agent_adopts_what_stands(self, node: Node) -> None:
        sandbox = await node.sandbox(labels={"task": "t1"}, memory_mib=32)
        container_id = await node.run(sandbox, "exit 9", labels={"a": "b"})
        await node.runtime.wait(container_id)
        other = DockerRuntime(node.runtime.node, network=NETWORK)
        await other.start()
        try:
            assert await other.sandboxes() == [sandbox]
            assert await other.containers(sandbox.id) == await node.runtime.containers(sandbox.id)
            assert (await other.wait(container_id)).code == 9
        finally:
            await other.aclose()

    async def test_a_new_agent_holds_containers_to_the_limits_of_the_task(self, node: Node) -> None:
        sandbox = await node.sandbox(network_mode="none", memory_mib=16)
        other = DockerRuntime(node.runtime.node, network=NETWORK)
        await other.start()
        try:
            spec = node.spec(command=["tail", "/dev/zero"])
            await other.run_container(sandbox, spec)
            ended = await other.wait(spec.id)
            assert (ended.code, ended.oom_killed) == (137, True)
        finally:
            await other.aclose()

    async def test_a_node_that_is_given_up_leaves_nothing_but_what_others_use(self, node: Node) -> None:
        network = f"roadstead-suite-{secrets.token_hex(4)}"
        first, second = (DockerRuntime(f"suite-{name}", network=network) for name in ("first", "second"))
        for runtime in (first, second):
            await runtime.start()
            await runtime.create_sandbox(SandboxSpec("s1"))
        try:
            for runtime, left in ((first, [network]), (second, []), (second, [])):
                await runtime.destroy()
                assert await runtime.sandboxes() == []
                assert docker("network", "ls", "--format", "{{.Name}}", "--filter", f"name={network}") == left
        finally:
            await first.aclose()
            await second.aclose()

    async def test_nodes_of_one_engine_keep_to_themselves(self, node: Node) -> None:
        await node.sandbox(id="shared-name")
        other = DockerRuntime("suite-other", network=NETWORK)
        await other.start()
        try:
            assert await other.sandboxes() == []
            await other.create_sandbox(SandboxSpec("shared-name"))
            await other.remove_sandbox("shared-name")
            assert [each.id for each in await node.runtime.sandboxes()] == ["shared-name"]
        finally:
            await other.aclose()

    async def test_a_task_listens_on_the_port_of_the_metadata_endpoint(self, node: Node) -> None:
        sandbox = await node.sandbox(network_mode="none")
        [listening] = node.runtime.listen(sandbox, "169.254.170.2", 80)
        with listening:
            script = "nc -l -p 80 -e echo mine & until nc 127.0.0.1 80 2>/dev/null; do sleep 0.1; done"
            container_id = await node.run(sandbox, script)
            assert [line.text for line in await node.lines(container_id)] == ["mine"]

    async def test_an_image_in_use_stays_and_an_unused_one_goes(self, node: Node, images) -> None:
        image = await images(busybox_image({"/removable": secrets.token_hex(4)}))
        sandbox = await node.sandbox(network_mode="none")
        spec = ContainerSpec("suite-user", "user", image, command=["true"])
        await node.runtime.create_container(sandbox, spec)
        with pytest.raises(RuntimeFailure, match="used by 1"):
            await node.runtime.remove_image(image.digest)
        await node.runtime.remove_container(spec.id)
        await node.runtime.remove_image(image.digest)
        with pytest.raises(RuntimeFailure, match="No such image"):
            await node.runtime.create_container(sandbox, spec)

    async def test_what_was_pruned_is_made_again(self, node: Node) -> None:
        docker("rmi", "--force", pause.IMAGE)
        docker("network", "rm", NETWORK)
        sandbox = await node.sandbox()
        assert sandbox.ip_address

    async def test_an_engine_that_is_not_there_is_told_at_once(self, tmp_path) -> None:
        runtime = DockerRuntime("suite-away", url=f"unix://{tmp_path}/no.sock")
        with pytest.raises(RuntimeFailure, match="start one"):
            await runtime.start()
        await runtime.aclose()
