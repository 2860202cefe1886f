"""Looks at what is marked: one key at a time, again when somebody is away."""

import asyncio

import pytest

from services.shared.errors import StateUnavailable
from services.shared.marked import Marked
from tests.builders.waiting import until


class Looks(Marked):
    """Writes down whom it looked at; who is in `held` is looked at until `go` is set, `fails` says what it raises."""

    def __init__(self, *keys, held=(), **members) -> None:
        super().__init__(retry_s=0.001, **members)
        self.keys, self.held, self.go = keys, {*held}, asyncio.Event()
        self.seen, self.now, self.most = [], 0, 0
        self.fails: dict = {}
        self.ignored: set = set()

    def all_keys(self):
        return self.keys

    def _concerns(self, key):
        return key not in self.ignored

    async def _reconcile(self, key):
        self.seen.append(key)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            if key in self.held:
                await self.go.wait()
            if self.fails.get(key):
                raise self.fails[key].pop()
        finally:
            self.now -= 1


@pytest.fixture
async def looking():
    """Begins to look; ends it with the test."""
    tasks = []

    async def begin(looks):
        tasks.append(asyncio.create_task(looks.run()))
        return looks

    yield begin
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


A, B, C = ("a",), ("b",), ("c",)


async def test_everything_is_looked_at_once_and_then_what_is_marked(looking):
    looks = await looking(Looks(A, B))
    await until(lambda: looks.seen == [A, B])
    looks.mark(C)
    looks.mark(C)
    await until(lambda: looks.seen == [A, B, C])
    looks.mark_all()
    await until(lambda: looks.seen == [A, B, C, A, B])


async def test_a_key_is_never_looked_at_twice_at_once_and_again_when_it_was_marked_meanwhile(looking):
    looks = await looking(Looks(A, held=[A]))
    await until(lambda: looks.now == 1)
    looks.mark(A)
    looks.mark(B)
    await until(lambda: looks.seen == [A, B])
    looks.go.set()
    await until(lambda: looks.seen == [A, B, A])


async def test_no_more_than_so_many_are_looked_at_at_a_time(looking):
    looks = await looking(Looks(A, B, C, held=[A, B, C], at_once=2))
    await until(lambda: looks.now == 2)
    looks.go.set()
    await until(lambda: sorted(looks.seen) == [A, B, C] and not looks.now)
    assert looks.most == 2


@pytest.mark.parametrize("error", [StateUnavailable(), KeyError("a bug")])
async def test_what_goes_wrong_is_tried_again_without_a_mark(looking, error):
    looks = Looks(A, B)
    looks.fails[A] = [error, error]
    await looking(looks)
    await until(lambda: looks.seen.count(A) == 3)
    assert looks.seen.count(B) == 1


async def test_what_is_of_no_concern_is_not_looked_at(looking):
    looks = Looks(A, B)
    looks.ignored.add(A)
    await looking(looks)
    await until(lambda: looks.seen == [B])
    looks.ignored.clear()
    looks.mark(A)
    await until(lambda: looks.seen == [B, A])


async def test_a_planned_look_takes_the_place_of_the_one_before_and_can_be_called_off(looking):
    looks = await looking(Looks())
    looks._look_again(A, 60.0)
    looks._look_again(A, 0.0)
    looks._look_again(B, 0.0)
    looks._look_again(B, None)
    await until(lambda: looks.seen == [A])
    assert looks._timers.keys() == {A}


async def test_who_looks_is_told_to_stop_when_it_ends(looking):
    looks = Looks(A, held=[A])
    running = asyncio.create_task(looks.run())
    await until(lambda: looks.now == 1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert looks.now == 0
