"""Logins of other registries: secrets, read by identity. They come sealed, and are kept nowhere."""

from __future__ import annotations

import base64

from contracts.rpc.identity import READ_REGISTRY_LOGIN, ReadRegistryLogin
from services.registry.decisions.upstream import Login, read_login
from services.registry.ports import LoginFailed
from services.shared.bus import Bus, CommandRefused
from services.shared.sealing import Asker, CannotOpen


class SecretLogins:
    """See ports.Logins."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def of(self, credential_arn: str) -> Login:
        """See ports.Logins."""
        asker = Asker()
        key = base64.b64encode(asker.public).decode()
        request = ReadRegistryLogin(credential_arn=credential_arn, public_key=key)
        try:
            reply = await self._bus.call(READ_REGISTRY_LOGIN, request)
            login = read_login(asker.open(base64.b64decode(reply.sealed), credential_arn))
        except CommandRefused as refused:
            raise LoginFailed(refused.message, refused.code) from None
        except CannotOpen:
            raise LoginFailed(f"The secret {credential_arn} can't be opened", "UnableToAccessSecretException") from None
        if login is None:
            raise LoginFailed(f"The secret {credential_arn} is no JSON object with a username and an accessToken")
        return login
