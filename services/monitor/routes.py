"""Traces, for `roadstead trace` and whoever else asks over HTTP."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

import msgspec
from aiohttp import web

from services.monitor.adapters import TraceReader
from services.monitor.decisions import trace_line
from services.shared.errors import StateUnavailable

MOST_TRACES = 200


class Traces:
    """GET /traces and /traces/{trace_id}, as JSON."""

    def __init__(self, reader: TraceReader) -> None:
        self._reader = reader

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The table."""
        return [web.get("/traces", self.latest), web.get("/traces/{trace_id}", self.one)]

    async def one(self, request: web.Request) -> web.Response:
        """{"trace_id", "spans": [contracts.records.traces.Span]}; 404 when nothing of it is stored (any more)."""
        trace_id = request.match_info["trace_id"].lower()
        if not re.fullmatch(r"[0-9a-f]{32}", trace_id):
            return _json({"message": "a trace id has 32 hexadecimal digits"}, 400)
        try:
            spans = await self._reader.spans(trace_id)
        except StateUnavailable as error:
            return _json({"message": error.message}, 503)
        if not spans:
            return _json({"message": f"no span of {trace_id} is stored", "spans": []}, 404)
        return _json({"trace_id": trace_id, "spans": spans})

    async def latest(self, request: web.Request) -> web.Response:
        """{"traces": [decisions.TraceLine]}, the newest first; `limit` 20 unless given."""
        text = request.query.get("limit", "20")
        if not text.isdigit() or not 0 < int(text) <= MOST_TRACES:
            return _json({"message": f"limit is a number from 1 to {MOST_TRACES}"}, 400)
        try:
            ids = await self._reader.latest(int(text))
            traces = await asyncio.gather(*(self._reader.spans(trace_id) for trace_id in ids))
        except StateUnavailable as error:
            return _json({"message": error.message}, 503)
        lines = [trace_line(spans) for spans in traces if spans]
        return _json({"traces": sorted(lines, key=lambda line: line.start_ns, reverse=True)})


def _json(body: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json")
