"""Lines out of the engine's log stream."""

from __future__ import annotations

import asyncio
import struct
from types import SimpleNamespace

from services.agent.ports import LogLine
from services.agent.runtimes.docker import logs

FIRST, SECOND = "2023-11-14T22:13:20.000000001Z", "2023-11-14T22:13:20.000000002Z"
FIRST_NS, SECOND_NS = 1_700_000_000_000_000_001, 1_700_000_000_000_000_002


def frame(stream: int, text: str) -> bytes:
    data = text.encode()
    return struct.pack(">BxxxL", stream, len(data)) + data


async def read(data: bytes, after: str = "", *, tty: bool = False) -> list[LogLine]:
    content = asyncio.StreamReader()
    content.feed_data(data)
    content.feed_eof()
    response = SimpleNamespace(content=content)
    return [line async for line in logs.lines(response, logs.Position(after), tty=tty)]


def texts(lines: list[LogLine]) -> list[tuple[str, str, str]]:
    return [(line.stream, line.text, line.cursor) for line in lines]


async def test_each_frame_is_a_line_of_its_stream() -> None:
    lines = await read(frame(1, f"{FIRST} out\n") + frame(2, f"{SECOND} err or two\n"))
    assert texts(lines) == [("stdout", "out", f"{FIRST_NS}/1"), ("stderr", "err or two", f"{SECOND_NS}/1")]
    assert lines[0].time == FIRST_NS / 1e9


async def test_a_line_that_was_cut_is_put_together_again_stream_by_stream() -> None:
    data = frame(1, f"{FIRST} begin ") + frame(2, f"{FIRST} other\n") + frame(1, f"{SECOND} end\n")
    assert texts(await read(data)) == [("stderr", "other", f"{FIRST_NS}/2"), ("stdout", "begin end", f"{SECOND_NS}/1")]


async def test_what_was_not_ended_comes_at_the_end() -> None:
    assert [line.text for line in await read(frame(1, f"{FIRST} half"))] == ["half"]


async def test_a_cursor_counts_the_entries_of_one_time() -> None:
    data = b"".join(frame(1, f"{FIRST} {word}\n") for word in ("one", "two", "three"))
    every = await read(data)
    assert [line.cursor for line in every] == [f"{FIRST_NS}/1", f"{FIRST_NS}/2", f"{FIRST_NS}/3"]
    assert [line.text for line in await read(data, every[1].cursor)] == ["three"]
    assert await read(data, every[2].cursor) == []


async def test_a_cursor_skips_nothing_of_a_later_time() -> None:
    data = frame(1, f"{SECOND} later\n")
    assert [line.text for line in await read(data, f"{FIRST_NS}/5")] == ["later"]


async def test_a_terminal_has_one_stream_without_frames() -> None:
    data = f"{FIRST} a\r\n{SECOND} b\r\n".encode()
    assert [(line.stream, line.text) for line in await read(data, tty=True)] == [("stdout", "a"), ("stdout", "b")]


async def test_a_stream_that_breaks_off_ends_the_lines() -> None:
    assert [line.text for line in await read(frame(1, f"{FIRST} whole\n") + b"\x01\0\0")] == ["whole"]


def test_a_position_is_given_to_the_engine_with_all_its_digits() -> None:
    assert logs.Position(f"{FIRST_NS}/2").since == "1700000000.000000001"
