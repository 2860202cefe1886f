"""The fixture `roadstead`: a platform that all tests of a run share, and what it said last under a test that failed.

pytest imports this wherever Roadstead is installed, so it imports nothing that costs time.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from services.testing.platform import Roadstead


@pytest.fixture(scope="session")
def roadstead_options() -> dict[str, Any]:
    """What the fixture `roadstead` is started with (see roadstead.testing.roadstead); override it in a conftest.py."""
    return {"zones": 1, "runtime": "auto"}


@pytest.fixture(scope="session")
def roadstead(roadstead_options: dict[str, Any]) -> Iterator[Roadstead]:
    """A platform on this machine; no Docker needed (as root, with runc)."""
    from services.testing.platform import roadstead as started

    with started(**roadstead_options) as platform:
        yield platform


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Generator[None, Any, Any]:
    """Put the end of the platform's logs under a test that used it and failed."""
    report = yield
    if report.failed:
        for value in {id(v): v for v in getattr(item, "funcargs", {}).values()}.values():
            if type(value).__module__.startswith("services.testing.") and hasattr(value, "last_words"):
                report.sections.append(("Roadstead", value.last_words()))
    return report
