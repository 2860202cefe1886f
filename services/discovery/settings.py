"""Settings of discovery (`ROADSTEAD_DISCOVERY_…`)."""

import msgspec


class DiscoverySettings(msgspec.Struct, kw_only=True, frozen=True):
    """Where the DNS server listens, and whom it asks for names that are not its own.

    `dns_port` 0: the port it had when it ran last, or a free one. `resolvers`: addresses, comma-separated (with
    `:port` if not 53); empty: those of /etc/resolv.conf; `none`: nobody. `resolver_timeout_s` is the patience with one.
    """

    dns_host: str = "127.0.0.1"
    dns_port: int = 0
    resolvers: str = ""
    resolver_timeout_s: float = 2.0
