"""What a task used between two readings."""

from hypothesis import given
from hypothesis import strategies as st

from contracts.records.scheduler import Task
from services.agent.decisions.usage import task_usage
from services.agent.tasks import TaskRunner
from services.agent.usage import UsageReporter
from services.agent.values import Stats
from services.shared.state import Entry
from tests.fakes.runtime import FakeRuntime

TASK = Task(
    account="1", region="r", cluster="c", node="n", id="t", task_definition="f:1", desired_status="RUNNING",
    created_at=0.0, service="web", cpu_units=512, memory_mib=256,
)  # fmt: skip
MIB = 2**20


def reading(cpu_s: float = 0.0, memory_mib: float = 0.0, rx: int = 0, tx: int = 0) -> Stats:
    return Stats(0.0, int(cpu_s * 1e9), int(memory_mib * MIB), 0, rx, tx)


def used(before, now, started, **more):
    found = task_usage(TASK, started, before, now, 100.0, 10.0, **more)
    return found and (found.cpu_units, found.memory_mib, found.rx_bytes, found.tx_bytes)


def test_the_cpu_is_the_average_of_the_period_and_the_memory_that_of_its_end():
    before = {"a": reading(5, 10, 100, 200), "b": reading(1, 5, 100, 200)}
    now = {"a": reading(10, 20, 150, 300), "b": reading(1, 7, 150, 300)}
    assert used(before, now, {"a": 50.0, "b": 50.0}) == (512.0, 27.0, 50, 100)


def test_a_container_that_started_in_the_period_counts_from_zero():
    assert used({}, {"a": reading(10, 1, 7, 8)}, {"a": 101.0}) == (1024.0, 1.0, 7, 8)


def test_an_adopted_container_counts_from_its_second_reading():
    assert used({}, {"a": reading(10_000, 1, 7, 8)}, {"a": 3.0}) == (0.0, 1.0, 0, 0)


def test_a_task_of_which_nothing_runs_has_no_usage():
    assert used({"a": reading(1)}, {}, {"a": 3.0}) is None
    assert used({}, {}, {}) is None


def test_the_machines_network_is_not_the_tasks():
    assert used({"a": reading()}, {"a": reading(0, 0, 9, 9)}, {"a": 3.0}, own_network=False) == (0.0, 0.0, 0, 0)


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.integers(0, 10**12), st.integers(0, 10**12))
def test_counters_that_began_anew_are_never_negative(cpu, later, rx, after):
    found = used({"a": reading(cpu, 0, rx)}, {"a": reading(later, 0, after)}, {"a": 3.0})
    assert min(found) >= 0


async def test_a_task_that_was_only_just_placed_has_used_nothing():
    placed = TaskRunner(None, Entry(TASK, 1, ""), "credentials", None, None)
    reporter = UsageReporter(None, FakeRuntime(), "n", 10.0, lambda: 100.0, lambda: [placed])
    assert await reporter.sample() is None
