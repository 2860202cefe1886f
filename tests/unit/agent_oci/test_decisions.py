"""What the oci runtime decides without touching the machine: names, configurations, filters, reasons."""

from __future__ import annotations

import ipaddress

import pytest

from services.agent.ports import (
    CannotCreateContainerError,
    CannotPullContainerError,
    CannotStartContainerError,
    ContainerSpec,
    Image,
    Mount,
    RuntimeFailure,
    Ulimit,
)
from services.agent.runtimes.oci import machine, seccomp
from services.agent.runtimes.oci.addresses import AddressPool
from services.agent.runtimes.oci.images.reference import Reference, parse
from services.agent.runtimes.oci.images.store import layer_name
from services.agent.runtimes.oci.keeper import _pid_in, reason_of
from services.agent.runtimes.oci.rootfs import User
from services.agent.runtimes.oci.spec import (
    DEFAULT_CAPABILITIES,
    Surroundings,
    arguments,
    configuration,
    effective_capabilities,
)

EVERYTHING = frozenset(machine.CAPABILITIES)
IMAGE = Image("app:1", "sha256:" + "0" * 64, 1, entry_point=["serve"], command=["--fast"], environment={"A": "1"})
DIGEST = "sha256:" + "a" * 64


def spec(**given: object) -> ContainerSpec:
    return ContainerSpec(**{"id": "c1", "name": "main", "image": IMAGE, **given})


def surroundings(**given: object) -> Surroundings:
    base = {"user": User(), "hostname": "web", "namespace": "/n", "cgroup": "/r/s/c", "cgroup_namespace": False}
    return Surroundings(**{**base, "bounding": EVERYTHING, **given})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nginx", Reference("docker.io", "library/nginx", "latest")),
        ("nginx:1.27", Reference("docker.io", "library/nginx", "1.27")),
        ("bitnami/redis", Reference("docker.io", "bitnami/redis", "latest")),
        ("index.docker.io/library/nginx", Reference("docker.io", "library/nginx", "latest")),
        ("localhost/app", Reference("localhost", "app", "latest")),
        ("localhost:5000/a/b:t", Reference("localhost:5000", "a/b", "t")),
        ("ghcr.io/o/r@" + DIGEST, Reference("ghcr.io", "o/r", "latest", DIGEST)),
        ("host:443/app:1@" + DIGEST, Reference("host:443", "app", "1", DIGEST)),
        (
            "123456789012.dkr.ecr.us-east-1.amazonaws.com/team/app:v1",
            Reference("123456789012.dkr.ecr.us-east-1.amazonaws.com", "team/app", "v1"),
        ),
    ],
)
def test_an_image_name_is_completed_as_docker_does(text: str, expected: Reference) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text", ["", "UPPER", "a b", "app:", "app@sha256:short", "app@", "a//b", "x:" + "t" * 129, "../x"]
)
def test_what_is_no_image_name_is_refused(text: str) -> None:
    with pytest.raises(CannotPullContainerError, match="invalid reference format"):
        parse(text)


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("127.0.0.1:80", True),
        ("[::1]:80", True),
        ("127.example.com", True),
    ],
)
def test_this_machines_registries_speak_http(host: str, local: bool) -> None:
    assert Reference(host, "a", "b").is_local == local
    assert not Reference("registry.example.com", "a", "b").is_local


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ["serve", "--fast"]),
        ({"command": ["x"]}, ["serve", "x"]),
        ({"command": []}, ["serve"]),
        ({"entry_point": ["own"]}, ["own"]),
        ({"entry_point": ["own"], "command": ["x"]}, ["own", "x"]),
    ],
)
def test_entry_point_and_command_merge(given: dict, expected: list[str]) -> None:
    assert arguments(spec(**given)) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, set(DEFAULT_CAPABILITIES)),
        ({"cap_drop": ["ALL"]}, set()),
        ({"cap_drop": ["ALL"], "cap_add": ["NET_ADMIN"]}, {"CAP_NET_ADMIN"}),
        ({"cap_add": ["ALL"], "cap_drop": ["cap_sys_admin"]}, EVERYTHING - {"CAP_SYS_ADMIN"}),
        ({"privileged": True}, EVERYTHING),
    ],
)
def test_capabilities_are_dockers_plus_and_minus(given: dict, expected: set[str]) -> None:
    assert set(effective_capabilities(spec(**given), EVERYTHING)) == expected


def test_a_capability_the_node_does_not_have_is_refused() -> None:
    with pytest.raises(CannotCreateContainerError, match="cannot give CAP_SYS_TIME"):
        effective_capabilities(spec(cap_add=["SYS_TIME"]), EVERYTHING - {"CAP_SYS_TIME"})


def test_a_user_other_than_root_has_no_effective_capability() -> None:
    made = configuration(spec(), surroundings(user=User(1000, 1000, (1000, 2000))))["process"]
    assert made["user"] == {"uid": 1000, "gid": 1000, "additionalGids": [1000, 2000]}
    assert made["capabilities"] == {"bounding": sorted(DEFAULT_CAPABILITIES), "effective": [], "permitted": []}


def test_the_process_has_the_merged_environment() -> None:
    made = configuration(spec(environment={"A": "2", "B": "3"}, tty=True), surroundings())["process"]
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert made["env"] == [path, "HOSTNAME=web", "TERM=xterm", "A=2", "B=3"]
    assert made["rlimits"] == []
    assert configuration(spec(ulimits=[Ulimit("nofile", 1, -1)]), surroundings())["process"]["rlimits"] == [
        {"type": "RLIMIT_NOFILE", "soft": 1, "hard": (1 << 64) - 1}
    ]


def test_limits_become_resources() -> None:
    given = spec(cpu_units=512, cpu_quota=True, memory_mib=64, memory_reservation_mib=32)
    made = configuration(given, surroundings())["linux"]["resources"]
    assert made["cpu"] == {"shares": 512, "quota": 50_000, "period": 100_000}
    assert made["memory"] == {"limit": 64 << 20, "reservation": 32 << 20}
    assert made["devices"][0] == {"allow": False, "access": "rwm"}


@pytest.mark.parametrize(
    ("given", "swappiness", "expected"),
    [
        ({"max_swap_mib": 32, "swappiness": 7}, True, {"swap": 96 << 20, "swappiness": 7}),
        ({"max_swap_mib": 32, "swappiness": 7}, False, {"swap": 96 << 20}),
        ({"max_swap_mib": 0}, True, {"swap": 64 << 20}),
        ({"swappiness": 7}, True, {}),
    ],
)
def test_swap_is_counted_together_with_memory(given: dict, swappiness: bool, expected: dict) -> None:
    made = configuration(spec(memory_mib=64, **given), surroundings(swappiness=swappiness))
    assert made["linux"]["resources"]["memory"] == {"limit": 64 << 20, **expected}


def test_namespaces_are_new_joined_or_the_nodes() -> None:
    def namespaces(**joined: str) -> list[dict]:
        return configuration(spec(), surroundings(joined=joined))["linux"]["namespaces"]

    network = {"type": "network", "path": "/n"}
    assert namespaces() == [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")] + [network]
    own = [{"type": "uts"}, {"type": "mount"}]
    assert namespaces(pid="/proc/7/ns/pid", ipc="") == [*own, {"type": "pid", "path": "/proc/7/ns/pid"}, network]


def test_shared_memory_is_bound_where_the_task_has_one() -> None:
    def mount(**given: str) -> tuple[str, str]:
        made = configuration(spec(shared_memory_mib=8), surroundings(**given))["mounts"]
        return next((each["type"], each["source"]) for each in made if each["destination"] == "/dev/shm")

    assert (mount(), mount(shared_memory="/s/shm")) == (("tmpfs", "shm"), ("bind", "/s/shm"))


def test_a_mount_of_ones_own_replaces_the_default_and_parents_come_first() -> None:
    mounts = [
        (Mount("/a/b", "/y"), "/y"),
        (Mount("/a", "/x", read_only=True), "/x"),
        (Mount("/dev/shm", kind="tmpfs"), ""),
    ]
    made = configuration(spec(), surroundings(mounts=mounts, files={"/etc/hosts": "/h"}))["mounts"]
    places = [mount["destination"] for mount in made]
    assert places.index("/a") < places.index("/a/b")
    assert places.count("/dev/shm") == 1
    assert next(mount for mount in made if mount["destination"] == "/a")["options"] == ["rbind", "rprivate", "ro"]


def test_privileged_lifts_filter_masks_and_device_rules() -> None:
    linux = configuration(spec(privileged=True), surroundings())["linux"]
    assert "seccomp" not in linux
    assert (linux["maskedPaths"], linux["readonlyPaths"]) == ([], [])
    assert linux["resources"]["devices"] == [{"allow": True, "access": "rwm"}]


def test_the_filter_opens_with_capabilities() -> None:
    plain = seccomp.profile(DEFAULT_CAPABILITIES, "x86_64")
    names = {name for rule in plain["syscalls"] if "args" not in rule for name in rule["names"]}
    assert plain["defaultAction"] == "SCMP_ACT_ERRNO"
    assert {"read", "chroot", "arch_prctl"} <= names
    assert not {"mount", "setns", "bpf", "io_uring_setup", "reboot", "keyctl", "userfaultfd"} & names
    [clone3] = [rule for rule in plain["syscalls"] if rule["names"] == ["clone3"]]
    assert (clone3["action"], clone3["errnoRet"]) == ("SCMP_ACT_ERRNO", 38)
    admin = seccomp.profile([*DEFAULT_CAPABILITIES, "CAP_SYS_ADMIN"], "x86_64")
    assert {"mount", "setns", "clone3"} <= set(admin["syscalls"][0]["names"])
    assert seccomp.profile(DEFAULT_CAPABILITIES, "pdp11") is None


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            'time="2026-01-01T00:00:00Z" level=error msg="runc create failed: unable to start container process: '
            'exec: \\"nosuch\\": executable file not found in $PATH"\n',
            'exec: "nosuch": executable file not found in $PATH',
        ),
        ("plain words", "plain words"),
        ("", "runc failed without a word"),
    ],
)
def test_runcs_words_lose_their_decoration(message: str, expected: str) -> None:
    assert reason_of(message) == expected


def test_conmons_answer_is_a_pid_or_a_failure() -> None:
    assert _pid_in(b'{"data": 42}\n') == 42
    with pytest.raises(CannotStartContainerError, match="no way"):
        _pid_in(b'{"data": -1, "message": "no way"}\n')
    with pytest.raises(CannotStartContainerError, match="without an answer"):
        _pid_in(b"")


def test_a_node_may_have_more_descriptors_than_a_login(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"before": (1024, 524288)}
    monkeypatch.setattr(machine.resource, "getrlimit", lambda kind: limits["before"])
    monkeypatch.setattr(machine.resource, "setrlimit", lambda kind, pair: limits.update(after=pair))
    for before, after in [((1024, 524288), (65535, 524288)), ((1024, 4096), (4096, 4096)), ((1 << 20, 1 << 20), None)]:
        limits = {"before": before}
        machine.raise_descriptor_limit()
        assert limits.get("after") == after


@pytest.mark.parametrize(("name", "number"), [("", 15), ("SIGINT", 2), ("quit", 3), ("9", 9), ("SIGRTMIN+3", 37)])
def test_stop_signals_have_names_and_numbers(name: str, number: int) -> None:
    assert machine.signal_number(name) == number


@pytest.mark.parametrize("name", ["SIGNOSUCH", "0", "9999", "SIG_IGN", "SIGRTMIN+x"])
def test_what_is_no_signal_is_refused(name: str) -> None:
    with pytest.raises(CannotCreateContainerError, match="unknown stop signal"):
        machine.signal_number(name)


def test_an_address_rests_after_use_and_the_subnet_ends() -> None:
    pool = AddressPool(ipaddress.IPv4Network("10.64.0.0/29"))
    pool.claim("10.64.0.3")
    assert (pool.gateway, pool.take(), pool.take()) == ("10.64.0.1", "10.64.0.2", "10.64.0.4")
    pool.give_back("10.64.0.2")
    assert [pool.take(), pool.take(), pool.take()] == ["10.64.0.5", "10.64.0.6", "10.64.0.2"]
    with pytest.raises(RuntimeFailure, match="no address is free in"):
        pool.take()


def test_the_names_of_the_most_layers_fit_into_a_page_of_mount_options() -> None:
    names = [layer_name(f"sha256:{number:064x}") for number in range(127)]
    assert len(":".join(names)) < 3500
