"""Interleavings that can be chosen, and chosen again: of all who wait for a disk or for NATS, one goes on at a time.

turns = Turns([2, 0, 1])
with turns.over(registry):
    await turns.run([a_push(), a_deletion()], after_each=check)
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Executor, Future
from typing import Any

PATIENCE_S = 30.0
SETTLED = 16
"""How often the loop goes round until whoever went on waits again (or is over)."""


class Turns:
    """Each turn goes to one of those who wait: by the next of the `choices`, and to the first when there are no more.

    A turn is one call into a thread (its steps on the disk), or one write of state.
    """

    def __init__(self, choices: Sequence[int] = ()) -> None:
        self._choices = list(choices)
        self._waiting: list[Callable[[], None]] = []
        self._writing = 0
        self.taken = False
        self.executor = _Thread(self)

    async def turn(self) -> None:
        """Wait for one's turn."""
        if not self.taken:
            return
        mine = asyncio.get_running_loop().create_future()
        self._waiting.append(lambda: mine.done() or mine.set_result(None))
        await mine

    async def run(
        self, actors: Sequence[Coroutine[Any, Any, None]], after_each: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Let the actors come to their ends; after each turn, with nobody in the midst of one, look at what there is.
        Raises what an actor raised, AssertionError when they wait for each other."""
        tasks = [asyncio.create_task(actor) for actor in actors]
        try:
            while True:
                self.taken = True
                await self._settle(tasks)
                self.taken = False
                for task in tasks:
                    if task.done():
                        task.result()
                if after_each is not None:
                    await after_each()
                if not self._waiting:
                    return
                choice = self._choices.pop(0) if self._choices else 0
                self._waiting.pop(choice % len(self._waiting))()
        finally:
            self.taken = False
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _settle(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        """Until each waits for a turn or for another one, or is over."""
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while True:
            for _ in range(SETTLED):
                await asyncio.sleep(0)
            if not self._writing and (self._waiting or all(task.done() for task in tasks)):
                return
            assert asyncio.get_running_loop().time() < deadline, "they wait for each other"
            await asyncio.sleep(0.0005)

    @contextlib.contextmanager
    def over(self, registry: Any) -> Iterator[Turns]:
        """What this registry (tests.builders.registry) does on its disk, and writes to NATS, is done by turns."""
        store, write = registry.app._store, registry.app._store._write
        stores, below = [], registry.parts.blobs
        while below is not None:
            stores.append((below, below._executor))
            below._executor = self.executor
            below = getattr(below, "_below", None)

        async def written(*what: Any) -> Any:
            await self.turn()
            self._writing += 1
            try:
                return await write(*what)
            finally:
                self._writing -= 1

        store._write = written
        try:
            yield self
        finally:
            store._write = write
            for each, executor in stores:
                each._executor = executor


class _Thread(Executor):
    """Does the work when its turn comes, in the loop's own thread."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)

        if self._turns.taken:
            self._turns._waiting.append(work)
        else:
            work()
        return future
