"""One platform for the flows and conformance tests of a run: real containers, so root and the `oci` runtime."""

import os
from collections.abc import Iterator

import pytest

from tests.builders.images import busybox_image
from tests.builders.platform import Roadstead, roadstead


@pytest.fixture(scope="session")
def platform() -> Iterator[Roadstead]:
    """A platform of three zones."""
    if os.geteuid() != 0:
        pytest.skip("real containers take root")
    with roadstead(runtime="oci") as running:
        yield running


@pytest.fixture(scope="session")
def busybox(platform: Roadstead) -> str:
    """The URI of an image with a shell in it."""
    return platform.push(busybox_image(), "busybox")
