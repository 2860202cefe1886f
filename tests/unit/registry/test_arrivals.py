"""Who resumes an upload lets the connection that broke off end."""

import asyncio

from services.registry.handlers.arrivals import Arrivals


async def test_nobody_waits_for_an_upload_that_nothing_arrives_for():
    await asyncio.wait_for(Arrivals().ended("u", 60.0), 1.0)


async def test_who_resumes_waits_for_all_that_bring_content_and_for_nothing_else():
    arrivals, order = Arrivals(), []

    async def resume():
        await arrivals.ended("u", 60.0)
        order.append("resumed")

    with arrivals.of("other"):
        with arrivals.of("u"):
            with arrivals.of("u"):
                waiting = asyncio.ensure_future(resume())
                await asyncio.sleep(0)
            order.append("one ended")
            await asyncio.sleep(0)
        order.append("both ended")
        await asyncio.wait_for(waiting, 1.0)
    assert order == ["one ended", "both ended", "resumed"]


async def test_a_connection_whose_end_is_never_told_is_not_waited_for_any_longer():
    arrivals = Arrivals()
    with arrivals.of("u"):
        await asyncio.wait_for(arrivals.ended("u", 0.01), 1.0)
