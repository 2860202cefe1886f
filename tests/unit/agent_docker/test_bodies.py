"""What the engine is asked, and what its answers mean."""

from __future__ import annotations

import pytest

from services.agent.ports import (
    Container,
    ContainerSpec,
    Exit,
    HostPort,
    Image,
    Mount,
    Sandbox,
    SandboxSpec,
    Ulimit,
)
from services.agent.runtimes.docker import bodies

IMAGE = Image("localhost:5000/app:1", "sha256:aa", 1)


def spec(**given: object) -> ContainerSpec:
    return ContainerSpec(**{"id": "t1-web", "name": "web", "image": IMAGE, **given})


def host_config(container: ContainerSpec, **task: int) -> dict:
    return bodies.container_body(container, "app", "node", "t1", **task)["HostConfig"]


def test_names_hold_the_node_so_that_two_nodes_of_one_engine_do_not_meet() -> None:
    assert bodies.container_name("node-a", "t1-web") == "roadstead-node-a-t1-web"
    assert bodies.pause_name("node/a b", "t1") == "roadstead-node-a-b-t1.pause"


def test_an_own_address_is_on_the_tasks_network_and_only_bridge_publishes_ports() -> None:
    ports = [HostPort(80, 8080), HostPort(53, 0, "udp")]
    bridge = bodies.pause_body(SandboxSpec("t1", network_mode="bridge", ports=ports), "node", "tasks")["HostConfig"]
    awsvpc = bodies.pause_body(SandboxSpec("t1", network_mode="awsvpc", ports=ports), "node", "tasks")["HostConfig"]
    assert (bridge["NetworkMode"], awsvpc["NetworkMode"]) == ("tasks", "tasks")
    assert bridge["PortBindings"] == {"80/tcp": [{"HostPort": "8080"}], "53/udp": [{"HostPort": ""}]}
    assert awsvpc["PortBindings"] == {}


@pytest.mark.parametrize("mode", ["host", "none"])
def test_other_modes_are_the_engines_own(mode: str) -> None:
    body = bodies.pause_body(SandboxSpec("t1", network_mode=mode, hostname="web"), "node", "tasks")
    assert (body["HostConfig"]["NetworkMode"], body["ExposedPorts"]) == (mode, {})
    assert body.get("Hostname") == (None if mode == "host" else "web")


def test_a_sandbox_is_read_back_from_its_pause_container() -> None:
    asked = SandboxSpec(
        "t1", network_mode="bridge", ports=[HostPort(80, 0, "tcp", "web")], labels={"task": "arn"}, memory_mib=64
    )
    shown = {
        "Config": {"Labels": bodies.pause_body(asked, "node", "tasks")["Labels"]},
        "NetworkSettings": {
            "Ports": {
                "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "32769"}, {"HostIp": "::", "HostPort": "32770"}],
                "81/tcp": None,
            },
            "Networks": {"tasks": {"IPAddress": "172.18.0.2", "MacAddress": "02:42", "Gateway": "172.18.0.1"}},
        },
    }
    assert bodies.sandbox_from(shown, "172.18.0.0/16") == Sandbox(
        "t1",
        "172.18.0.2",
        "02:42",
        "172.18.0.1",
        "172.18.0.0/16",
        "bridge",
        [HostPort(80, 32769, "tcp", "web")],
        {"task": "arn"},
    )


@pytest.mark.parametrize(
    ("modes", "pause", "expected"),
    [
        ({}, {}, {}),
        ({"pid_mode": "host", "ipc_mode": "host"}, {}, {"PidMode": "host", "IpcMode": "host"}),
        ({"ipc_mode": "none"}, {}, {"IpcMode": "private"}),
        ({"pid_mode": "task"}, {}, {"PidMode": "container:roadstead-node-t1.pause"}),
        (
            {"ipc_mode": "task", "shared_memory_mib": 8},
            {"IpcMode": "shareable", "ShmSize": 8 * bodies.MIB},
            {"IpcMode": "container:roadstead-node-t1.pause"},
        ),
        (
            {"ipc_mode": "task"},
            {"IpcMode": "shareable", "ShmSize": 64 * bodies.MIB},
            {"IpcMode": "container:roadstead-node-t1.pause"},
        ),
    ],
)
def test_what_a_task_shares_is_held_by_its_pause_container(modes: dict, pause: dict, expected: dict) -> None:
    named = ("PidMode", "IpcMode", "ShmSize")
    body = bodies.pause_body(SandboxSpec("t1", **modes), "node", "tasks")
    assert {name: body["HostConfig"][name] for name in named if name in body["HostConfig"]} == pause
    joined = bodies.namespaces({"Config": {"Labels": body["Labels"]}})
    config = bodies.container_body(spec(), "app", "node", "t1", joined=joined)["HostConfig"]
    assert {name: config[name] for name in named if name in config} == expected


def test_a_sandbox_of_an_older_agent_shares_its_network_alone() -> None:
    assert bodies.namespaces({"Config": {"Labels": {bodies.NODE: "node", bodies.SANDBOX: "t1"}}}) == {}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"max_swap_mib": 32, "swappiness": 7}, (96, 7)),
        ({"max_swap_mib": 0}, (64, None)),
        ({"swappiness": 7}, (64, None)),
        ({}, (64, None)),
    ],
)
def test_swap_comes_on_top_of_memory(given: dict, expected: tuple) -> None:
    config = host_config(spec(memory_mib=64, **given))
    assert (config["MemorySwap"] // bodies.MIB, config.get("MemorySwappiness")) == expected


def test_what_the_image_says_is_left_to_the_engine() -> None:
    body = bodies.container_body(spec(), "app", "node", "t1")
    assert not {"Entrypoint", "Cmd", "User", "WorkingDir", "StopSignal"} & set(body)


def test_an_entry_point_is_replaced_or_taken_away() -> None:
    assert bodies.container_body(spec(entry_point=["sh"]), "app", "node", "t1")["Entrypoint"] == ["sh"]
    assert bodies.container_body(spec(entry_point=[], command=["true"]), "app", "node", "t1")["Entrypoint"] == [""]


def test_an_images_own_health_check_is_not_run() -> None:
    assert bodies.container_body(spec(), "app", "node", "t1")["Healthcheck"] == {"Test": ["NONE"]}


def test_a_user_cannot_forge_our_labels() -> None:
    labels = bodies.container_body(spec(labels={bodies.NODE: "other", "team": "x"}), "app", "node", "t1")["Labels"]
    assert (labels[bodies.NODE], labels["team"]) == ("node", "x")


@pytest.mark.parametrize(
    ("own", "task", "expected"), [(0, 0, None), (64, 0, 64), (0, 128, 128), (64, 128, 64), (256, 128, 128)]
)
def test_memory_is_bounded_by_container_and_task(own: int, task: int, expected: int | None) -> None:
    config = host_config(spec(memory_mib=own), task_memory=task)
    assert config.get("Memory") == config.get("MemorySwap") == (expected and expected * bodies.MIB)


@pytest.mark.parametrize(
    ("units", "quota", "task", "expected"),
    [(512, False, 0, None), (512, True, 0, 500_000_000), (512, False, 256, 250_000_000), (0, True, 0, None)],
)
def test_cpu_is_a_share_and_becomes_a_quota_when_asked(units: int, quota: bool, task: int, expected: object) -> None:
    config = host_config(spec(cpu_units=units, cpu_quota=quota), task_cpu=task)
    assert config["CpuShares"] == max(2, units)
    assert config.get("NanoCpus") == expected


def test_mounts_and_ulimits() -> None:
    mounts = [
        Mount("/in", "/srv/in", read_only=True),
        Mount("/data", "vol", "volume"),
        Mount("/tmp", kind="tmpfs", options=["size=8m", "noexec"]),
    ]
    config = host_config(spec(mounts=mounts, ulimits=[Ulimit("nofile", 10, 20)]))
    assert config["Binds"] == ["/srv/in:/in:ro", "vol:/data"]
    assert config["Tmpfs"] == {"/tmp": "size=8m,noexec"}
    assert config["Ulimits"] == [{"Name": "nofile", "Soft": 10, "Hard": 20}]


def shown_container(**state: object) -> dict:
    labels = bodies.container_body(spec(labels={"a": "b"}), "app", "node", "t1")["Labels"]
    return {"Config": {"Labels": labels}, "State": state}


def test_a_container_that_never_ran_is_created_and_has_no_exit() -> None:
    shown = shown_container(Status="created", ExitCode=0, StartedAt="0001-01-01T00:00:00Z")
    assert bodies.container_from(shown) == Container("t1-web", "web", "t1", "created", 0.0, None, {"a": "b"})


def test_a_killed_container_tells_how_it_ended() -> None:
    shown = shown_container(
        Status="exited",
        ExitCode=137,
        OOMKilled=True,
        StartedAt="2023-11-14T22:13:20Z",
        FinishedAt="2023-11-14T22:13:21.5Z",
    )
    assert bodies.container_from(shown).exit == Exit(137, True, 1_700_000_001.5, 1_700_000_000.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        ("0001-01-01T00:00:00Z", 0),
        ("2023-11-14T22:13:20Z", 1_700_000_000_000_000_000),
        ("2023-11-14T22:13:20.1Z", 1_700_000_000_100_000_000),
        ("2023-11-14T22:13:20.123456789Z", 1_700_000_000_123_456_789),
        ("2023-11-14T23:13:20.000000001+01:00", 1_700_000_000_000_000_001),
    ],
)
def test_times_keep_their_nanoseconds(text: str, expected: int) -> None:
    assert bodies.nanoseconds(text) == expected


@pytest.mark.parametrize(
    ("reference", "parts", "registry"),
    [
        ("nginx", ("nginx", "latest"), "docker.io"),
        ("library/nginx:1", ("library/nginx", "1"), "docker.io"),
        ("localhost:5000/a/b", ("localhost:5000/a/b", "latest"), "localhost:5000"),
        ("localhost/a:2", ("localhost/a", "2"), "localhost"),
        ("registry.example/a:2@sha256:aa", ("registry.example/a", "sha256:aa"), "registry.example"),
    ],
)
def test_references(reference: str, parts: tuple[str, str], registry: str) -> None:
    assert bodies.split_reference(reference) == parts
    assert bodies.registry_of(reference) == registry


def test_an_image_with_nothing_configured_has_empty_defaults() -> None:
    shown = {"Size": 3, "Config": {"Env": None, "Cmd": None, "Entrypoint": None}}
    assert bodies.image_from("a", "sha256:aa", shown) == Image("a", "sha256:aa", 3)
