"""Secrets and parameters: found, and their values opened."""

from __future__ import annotations

import base64

from contracts.records.identity import PARAMETER, SECRET, Parameter, ParameterVersion, Secret, SecretVersion
from services.identity.decisions.parameters import parameter_name
from services.identity.decisions.secrets import pick, secret_name
from services.shared.errors import AwsError
from services.shared.sealing import CannotOpen, Vault
from services.shared.state import Store

NOT_FOUND = ("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")


class Values:
    """Opens and seals. A value is bound to its owner, its name and its version."""

    def __init__(self, store: Store, vault: Vault) -> None:
        self._store = store
        self._vault = vault

    def digest(self, value: bytes) -> str:
        """A keyed hash of a value."""
        return self._vault.digest(value)

    def seal(self, value: bytes, *about: str) -> str:
        """Sealed, as text."""
        return base64.b64encode(self._vault.seal(value, _about(about))).decode()

    def secret(self, account: str, region: str, reference: str) -> Secret:
        """The secret of this name or ARN (also an ARN without its suffix). Raises ResourceNotFoundException."""
        table = self._store.table(SECRET)
        if not reference.startswith("arn:"):
            found = table.record(account, region, reference)
            if found is not None:
                return found
        resource = reference.partition(":secret:")[2]
        for name in (secret_name(resource, reference), resource) if resource else ():
            found = table.record(account, region, name)
            if found is not None and (found.arn == reference or found.name == resource):
                return found
        raise AwsError(*NOT_FOUND)

    def secret_value(
        self, secret: Secret, version_id: str | None = None, stage: str | None = None
    ) -> tuple[SecretVersion, bytes]:
        """A version and its value. Raises ResourceNotFoundException, InvalidRequestException, DecryptionFailure."""
        if secret.deleted_at is not None:
            raise AwsError(
                "InvalidRequestException",
                "You can't perform this operation on the secret because it was marked for deletion.",
            )
        version = pick(secret, version_id, stage)
        if version is None:
            asked = f"VersionId: {version_id}" if version_id else f"staging label: {stage or 'AWSCURRENT'}"
            what = f"Secrets Manager can't find the specified secret value for {asked}"
            raise AwsError("ResourceNotFoundException", what)
        about = ("secret", secret.account, secret.region, secret.arn, version.version_id)
        return version, self._open(version.sealed, about, "DecryptionFailure")

    def parameter(self, account: str, region: str, reference: str) -> Parameter | None:
        """The parameter of this name or ARN, without a version or label."""
        for name in parameter_name(reference):
            found = self._store.table(PARAMETER).record(account, region, name)
            if found is not None:
                return found
        return None

    def parameter_value(self, parameter: Parameter, version: ParameterVersion) -> str:
        """A version's value. Raises InternalServerError when the key is not the one it was sealed with."""
        about = ("parameter", parameter.account, parameter.region, parameter.name, str(version.version))
        return self._open(version.sealed, about, "InternalServerError").decode()

    def _open(self, sealed: str, about: tuple[str, ...], code: str) -> bytes:
        try:
            return self._vault.unseal(base64.b64decode(sealed), _about(about))
        except CannotOpen:
            raise AwsError(code, "The value can't be decrypted: it was sealed with another key") from None


def _about(parts: tuple[str, ...]) -> str:
    return "\n".join(parts)
