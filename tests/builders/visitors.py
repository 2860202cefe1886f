"""Requests to App Runner services: over HTTPS, with the platform's own authority."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading

import aiohttp
from aiohttp.abc import AbstractResolver


class Localhost(AbstractResolver):
    """Resolves as RFC 6761 has it for .localhost; the C library does not."""

    async def resolve(self, host, port=0, family=0):
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": 2, "proto": 0, "flags": 0}]

    async def close(self):
        pass


class Visitors:
    """Requests over HTTPS with the platform's authority, each with its status and body."""

    def __init__(self, ca_file, url) -> None:
        self.url = f"https://{url}"
        self.context = ssl.create_default_context(cafile=ca_file)

    async def _visit(self, session, path, timeout=20.0, headers=None):
        wait = aiohttp.ClientTimeout(timeout)
        try:
            async with session.get(self.url + path, timeout=wait, headers=headers) as answer:
                return answer.status, (await answer.text()).strip()
        except (aiohttp.ClientError, TimeoutError) as error:
            return 0, f"{type(error).__name__}: {error}"

    def _session(self):
        connector = aiohttp.TCPConnector(ssl=self.context, resolver=Localhost(), limit=64)
        return aiohttp.ClientSession(connector=connector)

    def once(self, path="/", **headers):
        async def run():
            async with self._session() as session:
                return await self._visit(session, path, headers=headers)

        return asyncio.run(run())

    @contextlib.contextmanager
    def keep_coming(self, count=4, path="/", pause=0.005):
        """`count` visitors who ask again and again, until the block ends; the list of all answers."""
        answers, over = [], threading.Event()

        async def one(session):
            while not over.is_set():
                answers.append(await self._visit(session, path))
                await asyncio.sleep(pause)

        async def run():
            async with self._session() as session:
                await asyncio.gather(*(one(session) for _ in range(count)))

        thread = threading.Thread(target=lambda: asyncio.run(run()))
        thread.start()
        try:
            yield answers
        finally:
            over.set()
            thread.join()
