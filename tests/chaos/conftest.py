"""A platform that a test may kill."""

import os
from collections.abc import Iterator

import pytest

from tests.builders.platform import Roadstead, roadstead


@pytest.fixture
def two_zones() -> Iterator[Roadstead]:
    """One of two zones, of the test's own."""
    if os.geteuid() != 0:
        pytest.skip("real containers take root")
    os.environ.setdefault("ROADSTEAD_SCHEDULER_EXPRESS_BAKE_MINUTES", "0")
    with roadstead(runtime="oci", zones=2) as running:
        yield running
