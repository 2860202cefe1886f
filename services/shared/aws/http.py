"""A request and a response without a transport."""

from __future__ import annotations

import msgspec
from multidict import CIMultiDict, CIMultiDictProxy


class AwsHttpRequest(msgspec.Struct, frozen=True):
    """A request as it came: `path` and `query` are raw (percent-encoded), the body is whole.

    `headers` are case-insensitive. `source_ip` is the peer's address, or empty.
    """

    method: str
    path: str
    query: str
    headers: CIMultiDict[str] | CIMultiDictProxy[str]
    body: bytes
    source_ip: str = ""

    @property
    def target(self) -> str:
        """Path and query as they stand in the request line."""
        return f"{self.path}?{self.query}" if self.query else self.path


class AwsHttpResponse(msgspec.Struct, frozen=True):
    """A response; the headers include its content type and request id."""

    status: int
    headers: dict[str, str]
    body: bytes
