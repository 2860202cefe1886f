"""How a controller that writes hears that it is to end."""

import asyncio


def cancelled() -> bool:
    """Whether the task that asks was cancelled. A request to NATS that is cancelled tells of it as of a time-out
    (nats-py does so), so that what tries again after one would go on for ever."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
