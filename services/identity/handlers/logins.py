"""Logins of other registries, for the pull-through caches of this one: secrets, handed to the one that asked."""

from __future__ import annotations

import base64

import structlog

from contracts.rpc.identity import ReadRegistryLogin, RegistryLogin
from services.identity.handlers.vaults import Values
from services.shared.errors import AwsError
from services.shared.sealing import seal_to

log = structlog.get_logger()

NAMES = "ecr-pullthroughcache/"
"""What the names of secrets begin with that ECR may read.
https://docs.aws.amazon.com/AmazonECR/latest/userguide/pull-through-cache-creating-secret.html"""

_TOLD = {
    "ResourceNotFoundException": "SecretNotFoundException",
    "DecryptionFailure": "UnableToDecryptSecretValueException",
}


class RegistryLogins:
    """Answers `read_registry_login`."""

    def __init__(self, values: Values) -> None:
        self._values = values

    async def read(self, request: ReadRegistryLogin) -> RegistryLogin:
        """The value, sealed to the asker. Raises AwsError with a code that ECR has for it: SecretNotFoundException,
        UnableToDecryptSecretValueException, UnableToAccessSecretException for all else."""
        arn = request.credential_arn
        place = arn.split(":")
        if len(place) < 7 or not place[6].startswith(NAMES):
            raise AwsError("UnableToAccessSecretException", f"{arn} is no secret whose name begins with {NAMES}")
        try:
            secret = self._values.secret(place[4], place[3], arn)
            value = self._values.secret_value(secret)[1]
        except AwsError as error:
            code = _TOLD.get(error.code, "UnableToAccessSecretException")
            raise AwsError(code, f"The secret {arn} can't be read: {error.message}") from None
        log.info("registry_login.read", secret=arn)
        try:
            sealed = seal_to(base64.b64decode(request.public_key), value, arn)
        except ValueError:
            raise AwsError("UnableToAccessSecretException", "the asker's key is no X25519 key") from None
        return RegistryLogin(sealed=base64.b64encode(sealed).decode())
