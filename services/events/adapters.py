"""Targets over HTTP."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp

from services.events.ports import Answer

_READ = 4096
"""Bytes of an answer that are read, so that its connection can be used again."""


class HttpTargets:
    """Posts over HTTP and HTTPS. Redirects are not followed: where an event goes is what its webhook says."""

    def __init__(self, timeout_s: float) -> None:
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session = aiohttp.ClientSession(timeout=timeout, headers={"user-agent": "Roadstead"}, trust_env=False)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send it and read the status."""
        try:
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
                await answer.content.read(_READ)
                return Answer(answer.status)
        except TimeoutError:
            return Answer(None, "it did not answer in time")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Answer(None, str(error) or type(error).__name__)

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()
