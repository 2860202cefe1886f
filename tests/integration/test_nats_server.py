"""Whether the embedded nats-server is there: one that hangs, one that ended."""

import os
import signal

from tests.builders.processes import stall


async def test_a_server_answers_until_it_hangs_or_ends(nats_platform):
    server = nats_platform.server
    assert await server.answers()
    stall(server.pid)
    try:
        assert not await server.answers(within_s=0.2)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert await server.answers(within_s=10)
    await server.stop()
    assert not await server.answers()
