"""The oci runtime's small files: logs, ports and subnets that are claimed, control groups of version 2."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from services.agent.ports import HostPort, RuntimeFailure
from services.agent.runtimes.oci.addresses import HostPorts, abandoned, choose_subnet
from services.agent.runtimes.oci.cgroups import Cgroups, Usage
from services.agent.runtimes.oci.logs import LINE_LIMIT, LogReader

TIME = "2026-01-02T03:04:05.123456789+00:00"


def write(path: Path, *lines: str) -> None:
    with path.open("a") as file:
        file.writelines(f"{TIME} {line}\n" for line in lines)


def everything(reader: LogReader) -> list[tuple[str, str]]:
    found = []
    while lines := reader.read():
        found += [(line.stream, line.text) for line in lines]
    return found


def test_parts_of_a_line_are_joined_by_stream(tmp_path: Path) -> None:
    write(tmp_path / "log", "stdout P on", "stderr F err", "stdout P e l", "stdout F ine", "stdout F ", "stdout P end")
    reader = LogReader(tmp_path / "log", "")
    assert everything(reader) == [("stderr", "err"), ("stdout", "one line"), ("stdout", "")]
    assert [line.text for line in reader.finish()] == ["end"]
    reader.close()


def test_a_time_has_its_fraction(tmp_path: Path) -> None:
    write(tmp_path / "log", "stdout F x")
    reader = LogReader(tmp_path / "log", "")
    [line] = reader.read()
    assert line.time == pytest.approx(1767323045.123456789)
    reader.close()


def test_a_line_without_end_is_given_in_pieces(tmp_path: Path) -> None:
    write(tmp_path / "log", *["stdout P " + "x" * 8192] * 40, "stdout F end")
    reader = LogReader(tmp_path / "log", "")
    assert [len(text) for _, text in everything(reader)] == [LINE_LIMIT, 8 * 8192 + 3]
    reader.close()


@pytest.mark.parametrize("character", ["é", "€", "🚢"])
def test_a_line_without_end_is_not_cut_inside_a_character(tmp_path: Path, character: str) -> None:
    data = b"x" + character.encode() * 150_000
    parts = [data[at : at + 8191] for at in range(0, len(data), 8191)]
    lines = [b"2024-01-02T03:04:05.0Z stdout P " + part for part in parts[:-1]]
    log = tmp_path / "log"
    log.write_bytes(b"\n".join([*lines, b"2024-01-02T03:04:05.0Z stdout F " + parts[-1], b""]))
    reader = LogReader(log, "")
    assert "".join(text for _, text in everything(reader)) == data.decode()
    reader.close()


def test_a_reader_waits_for_the_rest_and_continues_from_a_cursor(tmp_path: Path) -> None:
    log = tmp_path / "log"
    reader = LogReader(log, "")
    assert reader.read() == []
    write(log, "stdout F one")
    with log.open("a") as file:
        file.write(f"{TIME} stdout F tw")
    [one] = reader.read()
    assert reader.read() == []
    with log.open("a") as file:
        file.write("o\n")
    assert everything(reader) == [("stdout", "two")]
    reader.close()
    again = LogReader(log, one.cursor)
    assert everything(again) == [("stdout", "two")]
    again.close()


def test_a_log_that_began_anew_is_read_from_its_beginning(tmp_path: Path) -> None:
    log = tmp_path / "log"
    write(log, "stdout F one")
    reader = LogReader(log, "")
    [one] = reader.read()
    write(log, "stdout F two")
    (tmp_path / "fresh").write_text("")
    write(tmp_path / "fresh", "stdout F three")
    (tmp_path / "fresh").rename(log)
    assert everything(reader) == [("stdout", "two"), ("stdout", "three")]
    reader.close()
    late = LogReader(log, one.cursor)
    assert everything(late) == [("stdout", "three")]
    late.close()


def test_host_ports_are_taken_together_or_not_at_all(tmp_path: Path) -> None:
    ports = HostPorts(tmp_path, "node")
    with socket.socket() as busy:
        busy.bind(("0.0.0.0", 0))
        busy.listen()
        number = busy.getsockname()[1]
        with pytest.raises(RuntimeFailure, match=f"host port {number}/tcp is already in use on this node"):
            ports.take("s1", [HostPort(80), HostPort(81, number)])
    assert list(tmp_path.iterdir()) == []


def test_two_nodes_do_not_take_the_same_host_port(tmp_path: Path) -> None:
    one, two = HostPorts(tmp_path, "one"), HostPorts(tmp_path, "two")
    [port] = one.take("s1", [HostPort(80)])
    with pytest.raises(RuntimeFailure, match="already in use"):
        two.take("s1", [HostPort(80, port.host_port)])
    [datagrams] = two.take("s1", [HostPort(80, port.host_port, "udp")])
    two.forget_but({"s1"})
    two.forget_but(set())
    assert [path.name for path in tmp_path.iterdir()] == [f"tcp-{port.host_port}"]
    one.give_back([port, datagrams])
    assert list(tmp_path.iterdir()) == []


def test_nodes_get_subnets_that_do_not_overlap_and_keep_them(tmp_path: Path) -> None:
    first, second = choose_subnet(tmp_path, "a", tmp_path), choose_subnet(tmp_path, "b", tmp_path / "gone")
    assert not first.overlaps(second)
    assert choose_subnet(tmp_path, "a", tmp_path) == first
    with pytest.raises(RuntimeFailure, match="overlaps"):
        choose_subnet(tmp_path, "c", tmp_path, str(second))
    assert abandoned(tmp_path) == ["b"]


@pytest.fixture
def unified(tmp_path: Path) -> Path:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    (tmp_path / "cgroup.subtree_control").write_text("")
    for path in ("roadstead", "roadstead/n", "roadstead/n/s"):
        (tmp_path / path).mkdir()
        (tmp_path / path / "cgroup.controllers").write_text("cpu memory pids\n")
        (tmp_path / path / "cgroup.subtree_control").write_text("cpu memory pids\n")
    return tmp_path


def test_version_2_hands_controllers_down_and_sets_the_tasks_limits(unified: Path) -> None:
    (unified / "roadstead/n/s/memory.swap.max").write_text("max")
    cgroups = Cgroups(unified)
    cgroups.make("/roadstead/n/s", cpu_units=512, memory_mib=64)
    assert (unified / "cgroup.subtree_control").read_text() == "+cpu +memory +pids +io"
    task = unified / "roadstead/n/s"
    names = ("cpu.max", "memory.max", "memory.swap.max")
    assert [(task / name).read_text() for name in names] == ["50000 100000", str(64 << 20), "0"]


def test_version_2_counts(unified: Path) -> None:
    group = unified / "roadstead/n/s"
    (group / "cpu.stat").write_text("usage_usec 12\nuser_usec 10\n")
    (group / "memory.current").write_text("5000\n")
    (group / "memory.max").write_text("max\n")
    (group / "memory.stat").write_text("anon 1\ninactive_file 1000\n")
    (group / "memory.events").write_text("low 0\noom 2\noom_kill 1\n")
    cgroups = Cgroups(unified)
    assert cgroups.usage("/roadstead/n/s") == Usage(12_000, 4000, 0)
    assert cgroups.oom_kills("/roadstead/n/s") == 1
    assert cgroups.children("/roadstead") == {"n"}
