"""Shipping of output, without NATS: what is published, with which id, and where it goes on."""

import asyncio
import time

import msgspec
import pytest

from contracts.records.logs import LogBatch
from services.agent.cursors import Cursors, Position
from services.agent.logs import BATCH_BYTES, LogShipper, to_events
from services.agent.values import LogLine
from services.shared.errors import StateUnavailable


class Bus:
    """Takes batches; refuses `refusals` times first."""

    def __init__(self, refusals: int = 0) -> None:
        self.batches = {}
        self.refusals = refusals
        self.connected = asyncio.Event()
        self.connected.set()

    async def publish(self, subject, payload, headers):
        if self.refusals:
            self.refusals -= 1
            raise StateUnavailable()
        assert len(payload) < 8 * 2**20
        events = [event.message for event in msgspec.json.decode(payload, type=LogBatch).events]
        self.batches.setdefault(headers["Nats-Msg-Id"], events)
        return 1


class Output:
    """A container that has written all it ever will."""

    def __init__(self, texts) -> None:
        self.lines = [LogLine(time.time(), "stdout", text, str(n + 1)) for n, text in enumerate(texts)]

    async def logs(self, container_id, after="", *, follow=False):
        for line in self.lines[int(after or 0) :]:
            yield line


@pytest.fixture
def cursors(tmp_path):
    return Cursors(tmp_path)


async def ship(output, bus, cursors):
    await asyncio.wait_for(LogShipper(output, bus, cursors, time.time, "c1", "logs.x").run(), 30)


async def test_all_lines_are_shipped_in_order_and_the_cursor_is_at_the_end(cursors):
    bus = Bus()
    await ship(Output(["a", "", "b"]), bus, cursors)
    assert bus.batches == {"c1:1:3": ["a", "b"]}
    assert cursors.read("c1") == Position("3")


async def test_batches_are_bounded(cursors):
    bus = Bus()
    texts = ["x" * 9000 + str(n) for n in range(200)]
    await ship(Output(texts), bus, cursors)
    assert [text for events in bus.batches.values() for text in events] == texts
    assert max(sum(map(len, events)) for events in bus.batches.values()) <= BATCH_BYTES + 10_000


async def test_shipping_goes_on_behind_the_cursor(cursors):
    cursors.write("c1", Position("2"))
    bus = Bus()
    await ship(Output("abcd"), bus, cursors)
    assert bus.batches == {"c1:3:4": ["c", "d"]}


async def test_a_batch_on_its_way_is_made_again_exactly(cursors):
    cursors.write("c1", Position("1", "3"))
    bus = Bus()
    bus.batches = {"c1:2:3": ["landed before"]}
    await ship(Output("abcde"), bus, cursors)
    assert bus.batches == {"c1:2:3": ["landed before"], "c1:4:5": ["d", "e"]}


async def test_a_refused_batch_is_tried_until_it_lands(cursors):
    bus = Bus(refusals=3)
    await ship(Output("ab"), bus, cursors)
    assert bus.batches == {"c1:1:2": ["a", "b"]}


def test_a_damaged_cursor_file_begins_anew(cursors, tmp_path):
    (tmp_path / "c1.cursor").write_bytes(b"{")
    assert cursors.read("c1") == Position()


def test_a_shorter_position_over_a_longer_one_reads_whole(cursors):
    cursors.write("c1", Position("a" * 100, "b" * 100))
    cursors.write("c1", Position("z"))
    assert cursors.read("c1") == Position("z")


@pytest.mark.parametrize("character", ["é", "€", "🚢"])
def test_a_huge_line_is_not_cut_inside_a_character(character):
    text = "x" + character * 300_000
    assert "".join(event.message for event in to_events(LogLine(1.0, "stdout", text, "1"))) == text


def test_a_huge_line_is_several_events_and_an_empty_one_none():
    huge = LogLine(1.5, "stdout", "é" * 200_000, "1")
    events = to_events(huge)
    assert (len(events), {e.timestamp for e in events}) == (2, {1500})
    assert to_events(LogLine(1.0, "stdout", "", "1")) == []
