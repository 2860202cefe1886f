"""Who is joined to the tasks' network, and when."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog.testing

from services.agent.runtimes.docker import joining
from services.agent.runtimes.docker.engine import UNREACHABLE, EngineError
from services.agent.runtimes.docker.joining import GONE, IDLE, OFF, ON, Joining, standing
from services.agent.runtimes.docker.networks import Network
from tests.builders.waiting import until


class Engine:
    """An engine with one network, `tasks` (id n1), and containers that want to be on it: what each is on, by id."""

    def __init__(self, **containers: bool) -> None:
        self.on = dict(containers)
        self.asked: list[str] = []
        self.refuses: dict[str, EngineError] = {}
        self.streams = 0
        self.starts: asyncio.Queue[str | None] = asyncio.Queue()

    async def call(self, method: str, path: str, *, params: Any = None, body: Any = None) -> Any:
        if path == "containers/json":
            return [{"Id": container} for container in self.on]
        if method == "POST":
            container = body["Container"]
            self.asked.append(f"{path} {container}")
            if container in self.refuses:
                raise self.refuses[container]
            self.on[container] = True
            return None
        return shown(self.on[path.split("/")[1]])

    @contextlib.asynccontextmanager
    async def events(self, filters: dict[str, list[str]]) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        assert filters == {"type": ["container"], "event": ["start"], "label": ["roadstead.joins=tasks"]}
        self.streams += 1

        async def each() -> AsyncIterator[dict[str, Any]]:
            while (container := await self.starts.get()) is not None:
                yield {"Actor": {"ID": container}}
            raise EngineError(UNREACHABLE, "the engine does not answer")

        yield each()


def shown(on: bool, *, running: bool = True, network_id: str = "n1", **labels: str) -> dict[str, Any]:
    networks = {"tasks": {"NetworkID": network_id}} if on else {}
    return {
        "State": {"Running": running},
        "Config": {"Labels": {"roadstead.joins": "tasks", **labels}},
        "NetworkSettings": {"Networks": {"other": {"NetworkID": "n2"}, **networks}},
    }


def tasks_network(engine: Engine) -> Network:
    network = Network(engine, "tasks")  # type: ignore[arg-type]
    network.id = "n1"
    return network


def joining_of(engine: Engine) -> Joining:
    return Joining(engine, tasks_network(engine))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        (shown(True), ON),
        (shown(False), OFF),
        (shown(False, running=False), IDLE),
        (shown(True, running=False), IDLE),
        (shown(True, running=False, network_id="tasks"), IDLE),  # Podman
        (shown(True, running=False, network_id="n0"), GONE),
        ({**shown(False), "NetworkSettings": {"Networks": None}}, OFF),
        (shown(False, **{"roadstead.node": "node-a"}), IDLE),  # a task whose definition has the label
    ],
)
def test_how_a_container_stands_to_the_network(container: dict[str, Any], expected: str) -> None:
    assert standing(container, tasks_network(Engine())) == expected


async def test_what_runs_is_joined_and_then_what_starts_and_nobody_twice() -> None:
    engine = Engine(early=False, there=True)
    following = joining_of(engine)
    following.start()
    await until(lambda: engine.on["early"])
    engine.on["late"] = False
    for container in ("late", "early"):
        engine.starts.put_nowait(container)
    await until(lambda: engine.on["late"] and engine.starts.empty())
    await following.stop()
    assert engine.asked == ["networks/n1/connect early", "networks/n1/connect late"]


async def test_an_engine_that_was_restarted_is_followed_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "AGAIN_S", 0.0)
    engine = Engine()
    following = joining_of(engine)
    with structlog.testing.capture_logs() as logs:
        following.start()
        for _ in range(3):
            engine.starts.put_nowait(None)
        await until(lambda: engine.streams == 4)
        engine.on["meanwhile"] = False
        engine.starts.put_nowait(None)
        await until(lambda: engine.on["meanwhile"])
        await following.stop()
    assert [entry["event"] for entry in logs] == ["joining.interrupted", "joining.joined"]


async def test_what_another_agent_joined_first_is_no_failure_and_what_an_engine_refuses_is_told() -> None:
    engine = Engine(faster=False, full=False, next=False)
    engine.refuses = {
        "faster": EngineError(403, "endpoint with name faster already exists in network tasks"),
        "full": EngineError(500, "no available IPv4 addresses on this network's address pools"),
    }
    seen: list[bool] = []
    look = engine.call

    async def call(method: str, path: str, **given: Any) -> Any:
        answer = await look(method, path, **given)
        if path == "containers/faster/json":
            seen.append(True)
            engine.on["faster"] = True  # from the second look on
        return answer

    engine.call = call  # type: ignore[method-assign]
    with structlog.testing.capture_logs() as logs:
        await joining_of(engine).join()
    assert [(e["event"], e["container"]) for e in logs] == [("joining.refused", "full"), ("joining.joined", "next")]
    assert len(seen) == 2


async def test_a_container_that_is_gone_by_then_is_nothing_to_tell() -> None:
    engine = Engine(gone=False)

    async def call(method: str, path: str, **_: Any) -> Any:
        if path == "containers/json":
            return [{"Id": "gone"}]
        raise EngineError(404, "No such container: gone")

    engine.call = call  # type: ignore[method-assign]
    with structlog.testing.capture_logs() as logs:
        await joining_of(engine).join()
    assert logs == []


async def test_an_engine_that_is_away_ends_the_round() -> None:
    engine = Engine(web=False)
    engine.refuses = {"web": EngineError(UNREACHABLE, "the engine does not answer")}
    with pytest.raises(EngineError, match="does not answer"):
        await joining_of(engine).join()
