"""Each service's own HTTP answers what its OpenAPI document says, asked of a running platform."""

from __future__ import annotations

import json
import urllib.request

import msgspec
import pytest

from services.shared.http import COMMON
from tools.openapi import tables


@pytest.fixture(scope="module")
def asked(platform):
    """Something happened, so that lists are not empty."""
    platform.client("ecs").create_cluster(clusterName="documented")
    return platform


def test_what_is_documented_is_served_and_has_the_documented_shape(asked):
    seen = []
    for running in asked.info["services"]:
        own, _ = tables(running["name"])
        for route in (*COMMON, *own):
            unasked = route.method != "GET" or route.status == 101  # a WebSocket has no answer to this
            with_login = 401 in route.errors and not route.locked
            if unasked or with_login or "{" in route.path:
                continue
            request = urllib.request.Request(f"http://127.0.0.1:{running['port']}{route.path}")
            if route.locked:
                key = (asked.data / running["name"] / "door.key").read_text()
                request.add_header("Authorization", f"Bearer {key}")
            with urllib.request.urlopen(request, timeout=10) as answer:
                body = answer.read()
            assert answer.status == route.status
            assert answer.headers.get_content_type() == route.media, route
            if route.response is not None:
                strict = msgspec.convert(json.loads(body), route.response)
                assert msgspec.to_builtins(strict) == json.loads(body), f"{running['name']} {route.path}"
            seen.append((running["name"], route.path))
    assert {("scheduler", "/state"), ("monitor", "/events"), ("agent", "/node"), ("edge", "/")} <= set(seen)
    assert {name for name, path in seen if path == "/readyz"} == {each["name"] for each in asked.info["services"]}
