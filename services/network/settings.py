"""Settings of the network service (`ROADSTEAD_NETWORK_…`)."""

import msgspec


class NetworkSettings(msgspec.Struct, kw_only=True, frozen=True):
    """The quotas: groups in a region, and rules of a group in one direction. AWS' defaults are 2,500 and 60."""

    groups: int = 2500
    rules: int = 60
