"""One platform for the flows and conformance tests of a run: real containers, so root and the `oci` runtime."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from services.testing.platform import Roadstead
from tests.builders.images import busybox_image
from tests.builders.seaweed import Seaweed

# A busy machine is slow, and a landing does not depend on luck: the examples are the same each time. New ones are
# looked for with `pytest --hypothesis-profile search`.
SLOW_IS_FINE = [HealthCheck.too_slow]
settings.register_profile("steady", deadline=None, suppress_health_check=SLOW_IS_FINE, derandomize=True)
settings.register_profile("search", deadline=None, suppress_health_check=SLOW_IS_FINE, max_examples=500)
settings.load_profile("steady")

pytest_plugins = ["services.testing.pytest_plugin"]


@pytest.fixture(scope="session")
def roadstead_options() -> dict[str, Any]:
    """Three zones, without Docker."""
    if os.geteuid() != 0:
        pytest.skip("real containers take root")
    os.environ.setdefault("ROADSTEAD_APP_RUNNER_GATEWAY_SCALE_IN_S", "3")  # what a test has patience for
    os.environ.setdefault("ROADSTEAD_SCHEDULER_EXPRESS_BAKE_MINUTES", "0")
    return {"zones": 3, "runtime": "oci"}


@pytest.fixture(scope="session")
def platform(roadstead: Roadstead) -> Roadstead:
    """The package's own fixture, under the name that these suites use."""
    return roadstead


@pytest.fixture(scope="session")
def busybox(platform: Roadstead) -> str:
    """The URI of an image with a shell in it."""
    return platform.push(busybox_image(), "busybox")


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """An S3 server for all tests of a run that want one; about three seconds to the first object."""
    server = Seaweed(tmp_path_factory.mktemp("seaweed"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def kept(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the registry of a test keeps its blobs: in files, or in S3 too if the test is marked with EACH_STORAGE."""
    where: str = getattr(request, "param", "files")
    if where == "s3":
        for name, value in request.getfixturevalue("seaweed").environment().items():
            monkeypatch.setenv(name, value)
    return where
