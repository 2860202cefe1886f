"""Reports: only the newest, and none forgotten."""

import asyncio
from types import SimpleNamespace

from contracts.records.agent import TASK_STATUS, TaskStatus
from services.agent.reports import Reports


def status(state: str) -> TaskStatus:
    return TaskStatus(account="1", region="r", cluster="c", node="n", task="t1", last_status=state)


class Store:
    """Writes at once. `after` is called as soon as the event loop comes round after a write of that state."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.after = {}

    def table(self, kind):
        return SimpleNamespace(record=lambda *key: None)

    async def put(self, kind, record, event) -> None:
        self.written.append(record.last_status)
        if record.last_status in self.after:
            asyncio.get_running_loop().call_soon(self.after[record.last_status])


async def test_a_report_that_is_offered_as_its_predecessor_lands_is_written_too():
    store = Store()
    reports = Reports(SimpleNamespace(), store)
    store.after["RUNNING"] = lambda: reports.offer(status("STOPPED"))
    reports.offer(status("RUNNING"))
    await reports.settled(TASK_STATUS.key_of(status("RUNNING")))
    await asyncio.sleep(0)
    await reports.settled(TASK_STATUS.key_of(status("RUNNING")))
    assert store.written == ["RUNNING", "STOPPED"]


async def test_of_several_reports_only_the_newest_is_written():
    store = Store()
    reports = Reports(SimpleNamespace(), store)
    for state in ("PENDING", "RUNNING", "STOPPED"):
        reports.offer(status(state))
    await reports.settled(TASK_STATUS.key_of(status("STOPPED")))
    assert store.written == ["STOPPED"]
