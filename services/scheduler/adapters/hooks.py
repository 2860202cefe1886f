"""Asking the targets of lifecycle hooks over HTTP."""

from __future__ import annotations

from typing import Any

import aiohttp
import msgspec

from services.scheduler.ports import HookAway

_MOST_BYTES = 64 * 1024
_HEADERS = {"Content-Type": "application/json", "User-Agent": "roadstead"}
_AWAY = frozenset({408, 429, 500, 502, 503, 504})


class HttpHooks:
    """POSTs JSON, reads JSON. Goes after no redirection, and reads 64 KiB at most. Hooks are rare: each call has a
    connection of its own."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, connect=min(5.0, timeout_s))

    async def ask(self, url: str, payload: dict[str, Any]) -> Any:
        """What the target answers, as JSON; None for what is none, or for a refusal. Raises HookAway when it can't be
        reached, is overloaded or does not answer in time."""
        body = msgspec.json.encode(payload)
        try:
            async with (
                aiohttp.ClientSession(timeout=self._timeout, headers=_HEADERS) as session,
                session.post(url, data=body, allow_redirects=False) as answer,
            ):
                if answer.status in _AWAY:
                    raise HookAway(f"it answered {answer.status}")
                if answer.status != 200:
                    return None
                return _decoded(await _limited(answer.content))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise HookAway(str(error) or type(error).__name__) from error


async def _limited(content: aiohttp.StreamReader) -> bytes:
    """All that was sent, as long as it is not too much."""
    found = b""
    async for chunk in content.iter_any():
        found += chunk
        if len(found) > _MOST_BYTES:
            return b""
    return found


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:
        return None
