"""What the edge can be told."""

from __future__ import annotations

import msgspec


class EdgeSettings(msgspec.Struct, kw_only=True, frozen=True):
    """`upstreams` says where the services' own ports are, when they are processes of their own.

    It is `scheduler=http://10.0.0.5:4571,registry=http://10.0.0.6:4572`; a service that is not named is not served.
    `upstream_timeout_s` is how long one of them may take to answer.
    """

    upstreams: str = ""
    upstream_timeout_s: float = 60.0

    def upstream_urls(self) -> dict[str, str]:
        """The base URL of each service. Raises ValueError when `upstreams` cannot be read."""
        urls = {}
        for entry in filter(None, (part.strip() for part in self.upstreams.split(","))):
            name, separator, url = entry.partition("=")
            if not separator or not url.startswith(("http://", "https://")):
                raise ValueError(f"upstreams: {entry!r} is not service=http://host:port")
            urls[name.strip()] = url.strip().rstrip("/")
        return urls
