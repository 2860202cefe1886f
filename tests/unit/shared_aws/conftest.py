"""What every test of the AWS server starts from."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest

from services.shared.aws.server import AwsServer
from services.shared.aws.service import AwsService
from services.shared.aws.sigv4 import SigV4Authenticator
from tests.unit.shared_aws.door import KEY, SESSION_KEY, Door, Keys, open_door
from tests.unit.shared_aws.small_services import all_services


@pytest.fixture
def services() -> list[AwsService]:
    return all_services()


@pytest.fixture
def server(services: list[AwsService]) -> AwsServer:
    return AwsServer(services, SigV4Authenticator(Keys(KEY, SESSION_KEY), time.time))


@pytest.fixture
async def door(server: AwsServer) -> AsyncIterator[Door]:
    async with open_door(server.handle) as opened:
        yield opened
