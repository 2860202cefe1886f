"""The oci runtime with real containers: the suite of the port, and what only it does. Needs root, runc and conmon."""

from __future__ import annotations

import asyncio
import glob
import hashlib
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from services.agent.ports import (
    CannotCreateContainerError,
    CannotPullContainerError,
    CannotStartContainerError,
    ContainerSpec,
    HostPort,
    Image,
    Mount,
    RuntimeFailure,
    SandboxSpec,
    Ulimit,
)
from services.agent.runtimes.oci import OciRuntime, OciSettings
from services.agent.runtimes.oci.keeper import INITS, is_static
from services.agent.runtimes.oci.network import host_address
from tests.builders.images import busybox_image, busybox_layer, tar_layer
from tests.builders.images import image as image_of
from tests.builders.waiting import until
from tests.fakes.image_registry import ImageRegistry
from tests.integration.runtime_suite import RuntimeSuite, fetch


@pytest.fixture(scope="session")
def machine() -> Iterator[Path]:
    """What the nodes of one machine share: images and claims."""
    directory = Path(tempfile.mkdtemp(prefix="roadstead-oci-"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
async def runtime(machine: Path, tmp_path: Path) -> AsyncIterator[OciRuntime]:
    runtime = OciRuntime(
        tmp_path / "node",
        "suite",
        images_dir=machine / "images",
        settings=OciSettings(run_directory=machine / "run"),
    )
    await runtime.start()
    try:
        yield runtime
    finally:
        await runtime.destroy()
        await runtime.aclose()


@pytest.mark.root
class TestOciRuntime(RuntimeSuite):
    """The port's suite."""


Make = Callable[..., Awaitable[OciRuntime]]


@pytest.fixture
async def make(machine: Path, tmp_path: Path) -> AsyncIterator[Make]:
    """Makes nodes of one machine, and makes a node again, as after a restart; destroys them all at the end."""
    made: dict[str, OciRuntime] = {}

    async def start(name: str = "a", **given: object) -> OciRuntime:
        if name in made:
            await made[name].aclose()
        settings = OciSettings(run_directory=machine / "run", **given)
        made[name] = OciRuntime(tmp_path / name, name, images_dir=machine / "images", settings=settings)
        await made[name].start()
        return made[name]

    yield start
    for runtime in made.values():
        await runtime.destroy()
        await runtime.aclose()


@pytest.fixture
async def image(make: Make) -> Image:
    runtime = await make()
    async with ImageRegistry() as registry:
        return await runtime.pull(registry.push("suite/base", "1", busybox_image()))


def shell(script: str, image: Image, **given: object) -> ContainerSpec:
    return ContainerSpec(**{"id": "c1", "name": "main", "image": image, "command": ["sh", "-c", script], **given})


async def text(runtime: OciRuntime, container_id: str = "c1") -> list[str]:
    return [line.text async for line in runtime.logs(container_id, follow=True)]


def packet_rules() -> str:
    """The kernel's rules."""
    return subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True).stdout


def debris(machine: Path, node: Path) -> list[str]:
    """Whatever of a node is left in the kernel or on disk."""
    mounts = [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(node) in line]
    key = hashlib.sha256(str(node).encode()).hexdigest()[:8]
    mounts += [line for line in Path("/proc/self/mounts").read_text().splitlines() if f"{machine}/run/{key}" in line]
    links = [name for name in os.listdir("/sys/class/net") if name.startswith(f"rsv{key}")]
    groups = glob.glob(f"/sys/fs/cgroup/**/roadstead/{key}/*/", recursive=True)
    groups = [group for group in groups if not group.endswith("/keepers/")]
    files = glob.glob(f"{node}/sandboxes/*") + glob.glob(f"{node}/containers/*") + glob.glob(f"{node}/exits/*")
    claims = [path for path in glob.glob(f"{machine}/run/ports/*") if key in Path(path).read_text()]
    leases = glob.glob(f"{machine}/images/leases/*/{key}-*")
    rules = subprocess.run(["nft", "list", "table", "ip", f"roadstead_{key}"], capture_output=True, text=True).stdout
    elements = [line for line in rules.splitlines() if "elements" in line]
    return mounts + links + groups + files + claims + leases + elements


@pytest.mark.root
async def test_a_container_is_confined_as_dockers_are(make: Make, image: Image) -> None:
    runtime = await make()
    sandbox = await runtime.create_sandbox(SandboxSpec("s1"))
    script = """grep -E "^(Seccomp|CapEff|CapBnd|NoNewPrivs):" /proc/self/status
        unshare -m true 2>/dev/null || echo no unshare
        (echo x >/proc/sys/kernel/domainname) 2>/dev/null || echo no sysctl
        wc -c </proc/timer_list; ls /sys/firmware | wc -l
        mount -t tmpfs x /tmp 2>/dev/null || echo no mount
        df /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2; ulimit -n"""
    spec = shell(script, image, shared_memory_mib=8, cap_drop=["NET_RAW"], ulimits=[Ulimit("nofile", 100, 200)])
    await runtime.run_container(sandbox, spec)
    assert [line.replace("\t", " ") for line in await text(runtime)] == [
        "CapEff: 00000000a80405fb",
        "CapBnd: 00000000a80405fb",
        "NoNewPrivs: 0",
        "Seccomp: 2",
        "no unshare",
        "no sysctl",
        "0",
        "0",
        "no mount",
        "8192",
        "100",
    ]


@pytest.mark.root
async def test_a_restarted_agent_finds_everything_again(make: Make, image: Image) -> None:
    runtime = await make()
    spec = SandboxSpec("s1", network_mode="bridge", ports=[HostPort(8080)], labels={"task": "t"})
    sandbox = await runtime.create_sandbox(spec)
    await runtime.run_container(sandbox, shell("sleep 0.3; echo done; exit 9", image, labels={"a": "b"}))
    server = ["sh", "-c", "while true; do printf 'HTTP/1.0 200 OK\\r\\n\\r\\nup' | nc -l -p 8080 >/dev/null; done"]
    await runtime.run_container(sandbox, shell("", image, id="web", name="web", command=server))
    [listener] = runtime.listen(sandbox, "169.254.170.2", 80)
    before = await runtime.containers("s1")
    listener.close()
    again = await make()
    assert await again.sandboxes() == [sandbox]
    assert await again.containers("s1") == before
    assert (await again.wait("c1")).code == 9
    assert await text(again) == ["done"]
    for address in ("127.0.0.1", host_address(), sandbox.gateway):
        assert await fetch(address, sandbox.ports[0].host_port) == "up"
    again.listen(sandbox, "169.254.170.2", 80)[0].close()
    assert (await again.exec("web", ["true"])).exit_code == 0
    other = await again.create_sandbox(SandboxSpec("s2"))
    script = f"until wget -qO- http://{sandbox.gateway}:{sandbox.ports[0].host_port}/ 2>/dev/null; do sleep 0.02; done"
    await again.run_container(other, shell(script, image, id="neighbour"))
    assert await text(again, "neighbour") == ["up"]
    assert (await again.exec("web", ["sh", "-c", script], 10)).output == b"up"  # by its own host port
    assert other.ip_address != sandbox.ip_address
    assert (await again.stop_container("web", 0)).code == 137


AGENT = """
import asyncio, sys
from pathlib import Path
import msgspec
from services.agent.ports import ContainerSpec, SandboxSpec
from services.agent.runtimes.oci import OciRuntime, OciSettings

async def main(directory, images, run):
    runtime = OciRuntime(Path(directory), "a", images_dir=Path(images), settings=OciSettings(run_directory=Path(run)))
    await runtime.start()
    sandbox = await runtime.create_sandbox(SandboxSpec("s1"))
    for spec in msgspec.json.decode(sys.stdin.read(), type=list[ContainerSpec]):
        await runtime.run_container(sandbox, spec)
    print("running", flush=True)
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.root
async def test_containers_outlive_an_agent_that_is_killed(
    make: Make, image: Image, machine: Path, tmp_path: Path
) -> None:
    await (await make()).aclose()
    short = shell("for i in 1 2 3 4 5; do echo $i; sleep 0.05; done; exit 11", image)
    hungry = shell("", image, id="hungry", command=["sh", "-c", "sleep 0.2; tail /dev/zero; exit $?"], memory_mib=16)
    long = shell("trap 'exit 12' TERM; echo ready; while true; do sleep 0.05; done", image, id="long")
    arguments = [str(tmp_path / "a"), str(machine / "images"), str(machine / "run")]
    agent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", AGENT, *arguments, stdin=PIPE, stdout=PIPE, start_new_session=True
    )
    agent.stdin.write(msgspec.json.encode([short, hungry, long]))
    agent.stdin.close()
    assert await agent.stdout.readline() == b"running\n"
    os.killpg(agent.pid, signal.SIGINT)
    os.killpg(agent.pid, signal.SIGKILL)
    await agent.wait()
    exits = tmp_path / "a" / "exits"
    await until(lambda: len(list(exits.glob("[!.]*"))) == 2)
    runtime = await make()
    states = {container.id: container.state for container in await runtime.containers("s1")}
    assert states == {"c1": "exited", "hungry": "exited", "long": "running"}
    ended = await runtime.wait("c1")
    assert (ended.code, ended.oom_killed, ended.finished_at < time.time()) == (11, False, True)
    assert await text(runtime) == ["1", "2", "3", "4", "5"]
    ended = await runtime.wait("hungry")
    assert (ended.code, ended.oom_killed) == (137, True)
    assert (await runtime.stop_container("long", 5)).code == 12


@pytest.mark.root
async def test_a_keeper_that_is_killed_takes_its_container_along(make: Make, image: Image, tmp_path: Path) -> None:
    runtime = await make()
    sandbox = await runtime.create_sandbox(SandboxSpec("s1", network_mode="none"))
    await runtime.run_container(sandbox, shell("sleep 60", image))
    os.kill(int((tmp_path / "a/containers/c1/conmon.pid").read_text()), signal.SIGKILL)
    async with asyncio.timeout(30):
        assert (await runtime.wait("c1")).code == 137


@pytest.mark.root
async def test_nodes_of_one_machine_reach_each_others_tasks(make: Make, image: Image) -> None:
    one, two = await make("a"), await make("b")
    first, second = await one.create_sandbox(SandboxSpec("s1")), await two.create_sandbox(SandboxSpec("s1"))
    assert first.subnet_cidr != second.subnet_cidr
    server = ["sh", "-c", "while true; do printf 'HTTP/1.0 200 OK\\r\\n\\r\\nzone' | nc -l -p 8080 >/dev/null; done"]
    await one.run_container(first, shell("", image, command=server))
    script = f"until wget -qO- http://{first.ip_address}:8080/ 2>/dev/null; do sleep 0.02; done"
    await two.run_container(second, shell(script, image))
    assert await text(two) == ["zone"]
    with pytest.raises(RuntimeFailure, match="is used by a container"):
        await two.remove_image(image.digest)


@pytest.mark.root
async def test_a_task_does_not_reach_the_endpoint_of_its_neighbour(make: Make, image: Image) -> None:
    runtime = await make()
    victim, thief = [await runtime.create_sandbox(SandboxSpec(name)) for name in ("victim", "thief")]
    (listening,) = runtime.listen(victim, "169.254.170.2", 80)
    port = listening.getsockname()[1]
    way = f"ip route add 169.254.170.2/32 via {victim.ip_address} && ping -c 1 -w 2 169.254.170.2 >/dev/null"
    steal = f"{way} && echo there; timeout 2 nc -w 1 169.254.170.2 {port}; true"
    await runtime.run_container(thief, shell(steal, image, cap_add=["NET_ADMIN"]))
    try:
        assert (await text(runtime))[:1] == ["there"]
        with pytest.raises(BlockingIOError):
            listening.accept()
    finally:
        listening.close()


@pytest.mark.root
async def test_nothing_is_left_of_what_was_removed(make: Make, image: Image, machine: Path, tmp_path: Path) -> None:
    runtime = await make()
    assert debris(machine, tmp_path / "a") == []
    for mode in ("awsvpc", "bridge", "host", "none"):
        spec = SandboxSpec("s1", network_mode=mode, ports=[HostPort(8080)], cpu_units=256, memory_mib=64)
        sandbox = await runtime.create_sandbox(spec)
        await runtime.run_container(sandbox, shell("sleep 60", image, init=False))
        await runtime.create_container(sandbox, shell("sleep 60", image, id="c2"))
        with pytest.raises(CannotStartContainerError):
            await runtime.run_container(sandbox, shell("", image, id="c3", command=["nosuch"]))
        assert debris(machine, tmp_path / "a")
        await runtime.remove_sandbox("s1")
        assert debris(machine, tmp_path / "a") == []


@pytest.mark.root
async def test_a_node_that_is_given_up_leaves_the_machine_as_it_was(
    image: Image, machine: Path, tmp_path: Path
) -> None:
    settings = OciSettings(run_directory=machine / "run")
    runtime = OciRuntime(tmp_path / "gone", "gone", images_dir=machine / "images", settings=settings)
    await runtime.start()
    await runtime.create_sandbox(SandboxSpec("s1", network_mode="bridge", ports=[HostPort(80)]))
    key = hashlib.sha256(str(tmp_path / "gone").encode()).hexdigest()[:8]
    assert key in packet_rules()
    await runtime.destroy()
    await runtime.aclose()
    assert key not in packet_rules()
    assert key not in " ".join(
        os.listdir("/sys/class/net") + os.listdir(machine / "run/subnets") + os.listdir(machine / "run")
    )
    assert glob.glob(f"/sys/fs/cgroup/**/{key}", recursive=True) == []
    assert debris(machine, tmp_path / "gone") == []


@pytest.mark.root
async def test_a_node_whose_directory_was_deleted_is_buried_by_the_next(make: Make, tmp_path: Path) -> None:
    runtime = await make("deleted")
    await runtime.create_sandbox(SandboxSpec("s1"))
    await runtime.aclose()
    key = hashlib.sha256(str(tmp_path / "deleted").encode()).hexdigest()[:8]
    assert f"rsbr{key}" in os.listdir("/sys/class/net")
    shutil.rmtree(tmp_path / "deleted")
    await make("next")
    assert key not in packet_rules() + " ".join(os.listdir("/sys/class/net"))
    assert key not in Path("/proc/self/mounts").read_text()
    await make("deleted")


@pytest.mark.root
async def test_what_a_crash_left_half_made_is_removed(make: Make, image: Image, machine: Path, tmp_path: Path) -> None:
    runtime = await make()
    for sandbox_id in ("s1", "s2", "s3"):
        spec = SandboxSpec(sandbox_id, network_mode="bridge", ports=[HostPort(80)])
        sandbox = await runtime.create_sandbox(spec)
        await runtime.run_container(sandbox, shell("sleep 60", image, id=f"c-{sandbox_id}"))
    await runtime.aclose()
    (tmp_path / "a/sandboxes/s1/sandbox.json").unlink()
    (tmp_path / "a/containers/c-s1/container.json").unlink()
    shutil.rmtree(tmp_path / "a/sandboxes/s2")
    (tmp_path / "a/containers/c-s3/container.json").unlink()
    again = await make()
    assert [each.id for each in await again.sandboxes()] == ["s3"]
    assert await again.containers("s3") == []
    await again.remove_sandbox("s3")
    assert debris(machine, tmp_path / "a") == []


@pytest.mark.root
async def test_a_start_that_a_crash_cut_short_can_be_done_again(make: Make, image: Image, tmp_path: Path) -> None:
    runtime = await make()
    sandbox = await runtime.create_sandbox(SandboxSpec("s1", network_mode="none"))
    await runtime.create_container(sandbox, shell("echo started; exit 3", image))
    containers = runtime._containers
    containers._keeper.create(containers._kept(containers.record("c1")))
    again = await make()
    assert [each.state for each in await again.containers("s1")] == ["created"]
    await again.start_container("c1")
    assert (await again.wait("c1")).code == 3
    assert await text(again) == ["started"]


@pytest.mark.root
async def test_an_image_of_the_most_layers_runs_and_one_of_more_is_refused(make: Make) -> None:
    runtime = await make()
    layers = [busybox_layer(), *(tar_layer({f"/layers/{number}": str(number)}) for number in range(126))]
    async with ImageRegistry() as registry:
        deep = await runtime.pull(registry.push("suite/deep", "127", image_of(layers)))
        with pytest.raises(CannotPullContainerError, match="128 layers"):
            await runtime.pull(registry.push("suite/deep", "128", image_of([*layers, tar_layer({"/x": "x"})])))
    sandbox = await runtime.create_sandbox(SandboxSpec("s1", network_mode="none"))
    await runtime.run_container(sandbox, shell("ls /layers | wc -l; cat /layers/125", deep))
    assert await text(runtime) == ["126", "125"]


@pytest.mark.root
async def test_an_image_that_has_one_layer_twice_runs(make: Make) -> None:
    again = tar_layer({"/again": "again"})
    layers = [again, busybox_layer(), again, tar_layer({"/between": "between"}), again]
    runtime = await make()
    async with ImageRegistry() as registry:
        image = await runtime.pull(registry.push("suite/twice", "1", image_of(layers)))
    sandbox = await runtime.create_sandbox(SandboxSpec("s1", network_mode="none"))
    await runtime.run_container(sandbox, shell("cat /again; echo; cat /between", image))
    assert await text(runtime) == ["again", "between"]


@pytest.mark.root
async def test_a_node_with_a_thousand_descriptors_still_checks_health(make: Make, image: Image) -> None:
    runtime = await make()
    sandbox = await runtime.create_sandbox(SandboxSpec("s1", network_mode="none"))
    await runtime.run_container(sandbox, shell("sleep 100", image))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    try:
        assert (await runtime.exec("c1", ["echo", "well"])).output == b"well\n"
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.root
async def test_the_agents_umask_is_not_the_containers(make: Make, image: Image) -> None:
    runtime = await make()
    before = os.umask(0o077)
    try:
        sandbox = await runtime.create_sandbox(SandboxSpec("s1"))
        script = "cat /etc/hosts >/dev/null && touch /data/x 2>/dev/null || echo mine; stat -c %a / /data /made/dir"
        volume = Mount("/data", "private", "volume")
        spec = shell(script, image, user="app", mounts=[volume], working_directory="/made/dir")
        await runtime.run_container(sandbox, spec)
    finally:
        os.umask(before)
    assert await text(runtime) == ["mine", "755", "755", "755"]


@pytest.mark.root
async def test_two_agents_do_not_run_one_node(make: Make, machine: Path, tmp_path: Path) -> None:
    await make("a")
    second = OciRuntime(tmp_path / "a", "a", settings=OciSettings(run_directory=machine / "run"))
    with pytest.raises(RuntimeFailure, match="another agent runs the node"):
        await second.start()
    await second.aclose()


@pytest.mark.root
async def test_a_task_as_a_whole_is_bounded(make: Make, image: Image) -> None:
    runtime = await make()
    sandbox = await runtime.create_sandbox(SandboxSpec("s1", memory_mib=24))
    await runtime.run_container(sandbox, shell("", image, command=["tail", "/dev/zero"]))
    ended = await runtime.wait("c1")
    assert (ended.code, ended.oom_killed) == (137, True)


@pytest.mark.root
async def test_a_privileged_container_may_mount(make: Make, image: Image) -> None:
    runtime = await make()
    sandbox = await runtime.create_sandbox(SandboxSpec("s1"))
    script = "mount -t tmpfs x /tmp && echo mounted; sysctl -n net.core.somaxconn; grep Seccomp: /proc/self/status"
    await runtime.run_container(sandbox, shell(script, image, privileged=True, sysctls={"net.core.somaxconn": "321"}))
    assert [line.replace("\t", " ") for line in await text(runtime)] == ["mounted", "321", "Seccomp: 0"]


@pytest.mark.root
async def test_an_init_is_the_nodes_and_said_to_be_missing(make: Make, image: Image) -> None:
    runtime = await make()
    sandbox = await runtime.create_sandbox(SandboxSpec("s1", network_mode="none"))
    if any(place and is_static(place) for place in map(shutil.which, INITS)):
        await runtime.run_container(sandbox, shell("cat /proc/1/comm; echo $$", image, init=True))
        assert (await text(runtime))[1] != "1"
    else:
        with pytest.raises(CannotCreateContainerError, match="install tini or catatonit"):
            await runtime.run_container(sandbox, shell("true", image, init=True))


@pytest.mark.root
async def test_a_log_starts_anew_at_its_limit(make: Make, image: Image) -> None:
    runtime = await make("a", log_bytes=20000)
    sandbox = await runtime.create_sandbox(SandboxSpec("s1", network_mode="none"))
    await runtime.run_container(sandbox, shell("seq 1 5000", image))
    await runtime.wait("c1")
    lines = await text(runtime)
    assert lines[-1] == "5000"
    assert len(lines) < 1000
    assert runtime._containers.log("c1").stat().st_size <= 20000


@pytest.mark.root
@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"ulimits": [Ulimit("nosuch", 1, 1)]}, "unknown ulimit"),
        ({"mounts": [Mount("relative", "/tmp")]}, "absolute path"),
        ({"mounts": [Mount("/x", "../x", "volume")]}, "invalid volume name"),
        ({"working_directory": "relative"}, "absolute path"),
        ({"stop_signal": "SIGNOSUCH"}, "unknown stop signal"),
        ({"entry_point": [], "command": []}, "no command specified"),
        ({"user": "0:ghosts"}, "unable to find group ghosts"),
    ],
)
async def test_what_cannot_be_is_refused_with_a_reason(make: Make, image: Image, given: dict, reason: str) -> None:
    runtime = await make()
    sandbox = await runtime.create_sandbox(SandboxSpec("s1", network_mode="none"))
    with pytest.raises(CannotCreateContainerError, match=reason):
        await runtime.create_container(sandbox, shell("true", image, **given))
    assert await runtime.containers("s1") == []


async def test_a_device_is_the_container_s_that_it_was_given_to(make: Make, image: Image, tmp_path: Path) -> None:
    runtime, device = await make(), tmp_path / "gpu0"
    os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 9))  # random bytes, under a name that no container has
    sandbox = await runtime.create_sandbox(SandboxSpec("devices"))
    reads = f"head -c 4 {device} | wc -c"
    await runtime.run_container(sandbox, shell(reads, image, devices=[str(device)]))
    assert await text(runtime) == ["4"]
    await runtime.run_container(sandbox, shell(f"[ -e {device} ] || echo none", image, id="c2", name="other"))
    assert await text(runtime, "c2") == ["none"]
    for wrong, why in ((str(tmp_path), "no device file"), (f"{device}1", "No such file")):
        with pytest.raises(CannotCreateContainerError, match=why):
            await runtime.run_container(sandbox, shell("true", image, id="c3", name="third", devices=[wrong]))
    await runtime.remove_sandbox("devices")
