"""The values of containers' `secrets`, and their environment files: read as the task's execution role, handed to the
agent that asked alone."""

from __future__ import annotations

import base64

import msgspec
import structlog

from contracts.records.identity import Role
from contracts.rpc.identity import ResolvedSecrets, ResolveSecrets
from services.identity.decisions.parameters import parameter_arn, pick, select
from services.identity.decisions.references import (
    SecretReference,
    WrongReference,
    json_member,
    read,
)
from services.identity.handlers.objects import Objects
from services.identity.handlers.sessions import Sessions
from services.identity.handlers.vaults import Values
from services.shared.authorization import Authorization, denied
from services.shared.errors import AwsError
from services.shared.policies import ALLOW
from services.shared.policies.demands import Demand
from services.shared.sealing import seal_to

log = structlog.get_logger()

_RETRIED = "service call has been retried 1 time(s)"
LARGEST_FILES = 2 * 1024 * 1024
"""Bytes of all environment files of a task: a process' environment has no more (Linux: a quarter of its stack)."""


class Injection:
    """Answers `resolve_secrets`."""

    def __init__(self, sessions: Sessions, authorization: Authorization, values: Values, objects: Objects) -> None:
        self._sessions = sessions
        self._authorization = authorization
        self._values = values
        self._objects = objects

    async def resolve(self, request: ResolveSecrets) -> ResolvedSecrets:
        """All values, sealed to the asker. Raises AwsError in the words that ECS gives as the reason."""
        try:
            role = self._sessions.role_of_task(request.role_arn, request.service)
        except AwsError as error:
            raise AwsError("ResourceInitializationError", _unable(error.message)) from None
        found = {text: self._value(request, role, text) for text in dict.fromkeys(request.values_from)}
        left = LARGEST_FILES
        for arn in dict.fromkeys(request.environment_files):
            text = await self._file(request, role, arn, left)
            left -= len(text.encode())
            found[arn] = text
        log.info("secrets.resolved", task=request.task, role=request.role_arn, count=len(found))
        try:
            sealed = seal_to(base64.b64decode(request.public_key), msgspec.json.encode(found), request.task)
        except ValueError:
            raise AwsError("ResourceInitializationError", "the asker's key is no X25519 key") from None
        return ResolvedSecrets(sealed=base64.b64encode(sealed).decode())

    def _value(self, request: ResolveSecrets, role: Role, text: str) -> str:
        try:
            reference = read(text)
        except WrongReference as wrong:
            raise AwsError("ResourceInitializationError", _unable(str(wrong))) from None
        if isinstance(reference, SecretReference):
            try:
                return self._secret(request, role, reference)
            except (AwsError, WrongReference) as error:
                why = f"failed to fetch secret {reference.secret} from secrets manager: {_told(error)}"
                raise AwsError(
                    "ResourceInitializationError",
                    _unable(f"unable to retrieve secret from asm: {_RETRIED}: {why}"),
                ) from None
        try:
            return self._parameter(request, role, reference.parameter)
        except AwsError as error:
            raise AwsError(
                "ResourceInitializationError",
                _unable(f"unable to retrieve secrets from ssm: {_RETRIED}: {_told(error)}"),
            ) from None

    async def _file(self, request: ResolveSecrets, role: Role, arn: str, limit: int) -> str:
        try:
            return (await self._objects.read(role, request.task, request.region, arn, limit)).decode()
        except AwsError as error:
            why = error.message
        except UnicodeDecodeError:
            why = f"{arn} is not UTF-8"
        raise AwsError("ResourceInitializationError", f"failed to download env files: {_RETRIED}: {why}")

    def _secret(self, request: ResolveSecrets, role: Role, reference: SecretReference) -> str:
        place = reference.secret.split(":")
        try:
            secret = self._values.secret(request.account, place[3], reference.secret)
        except AwsError:
            self._require(request, role, "secretsmanager:GetSecretValue", reference.secret)
            raise
        self._require(request, role, "secretsmanager:GetSecretValue", secret.arn)
        if secret.arn.split(":")[4] != place[4]:
            raise AwsError("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
        _, value = self._values.secret_value(secret, reference.version_id or None, reference.stage or None)
        try:
            text = value.decode()
        except UnicodeDecodeError:
            raise WrongReference("the secret is binary, which no environment variable can hold") from None
        return json_member(text, reference.json_key, secret.arn) if reference.json_key else text

    def _parameter(self, request: ResolveSecrets, role: Role, reference: str) -> str:
        name, selector = select(reference)
        region = reference.split(":")[3] if reference.startswith("arn:") else request.region
        arn = name if name.startswith("arn:") else parameter_arn(request.account, region, name)
        self._require(request, role, "ssm:GetParameters", arn)
        account = arn.split(":")[4]
        parameter = self._values.parameter(request.account, region, name) if account == request.account else None
        version = pick(parameter, selector) if parameter is not None else None
        if parameter is None or version is None:
            raise AwsError("InvalidParameters", f"invalid parameters: {reference}")
        return self._values.parameter_value(parameter, version)

    def _require(self, request: ResolveSecrets, role: Role, action: str, resource: str) -> None:
        demand = Demand(action, resource, {"aws:requestedregion": (request.region,)})
        verdict, by = self._authorization.of_role(role, None, demand, {})
        if verdict != ALLOW:
            who = f"arn:aws:sts::{role.account}:assumed-role/{role.role_name}/{request.task}"
            raise denied(who, demand, verdict, by)


def _unable(why: str) -> str:
    return f"unable to pull secrets or registry auth: execution resource retrieval failed: {why}"


def _told(error: AwsError | WrongReference) -> str:
    return f"{error.code}: {error.message}" if isinstance(error, AwsError) else str(error)
