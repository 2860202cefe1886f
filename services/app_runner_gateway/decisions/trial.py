"""Test traffic: which requests go to a deployment that is on its way, before production traffic does.

https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_GatewayAlbTestTrafficRules.html
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from contracts.records.scheduler import Gateway, Service
from services.app_runner_gateway.decisions.proxy import test_line


class Trial(msgspec.Struct, frozen=True):
    """The deployment that gets it, empty for none; the lines of the proxy's map that lead there, and the headers that
    they are by (in small letters)."""

    deployment: str = ""
    lines: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()


def trial_of(service: Service, gateways: Mapping[str, Gateway]) -> Trial:
    """That of a service, by the rules of the gateways that it is behind (`gateways`: by name, of its account and
    region): from the test traffic's shift until the deployment is complete or goes back."""
    primary = service.deployments[0] if service.deployments else None
    on_its_way = primary is not None and primary.stage is not None and not primary.stage.rolls_back
    if primary is None or not on_its_way or not primary.test_weight or service.connector is None:
        return Trial()
    lines, headers = [], set()
    for route in service.connector.routes:
        gateway = gateways.get(route.gateway)
        rule = (gateway.configuration.get("testTrafficRules") or {}).get("header") if gateway is not None else None
        if rule:
            name = rule["name"].lower()
            headers.add(name)
            lines += [test_line(name, value, route.host) for value in rule["values"]]
    return Trial(primary.id, tuple(lines), tuple(sorted(headers))) if lines else Trial()
