"""Objects in S3 that tasks read and write by way of identity, which alone has keys to it: judged by the task's role."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from contracts.records.identity import Role
from contracts.rpc.identity import SessionLogStored, StoreSessionLog
from services.identity.handlers.sessions import Sessions
from services.shared.authorization import Authorization, denied
from services.shared.errors import AccessDenied, AwsError
from services.shared.policies import ALLOW
from services.shared.policies.demands import Demand
from services.shared.s3 import S3Client, S3Error, S3Settings

log = structlog.get_logger()

Done = TypeVar("Done")

_ARN = re.compile(r"arn:aws[a-z-]*:s3:::([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(.+)", re.DOTALL)
_ASIDE = frozenset(("", ".", ".."))
WITHIN_S = 20.0
"""How long an object may take: the agent that asked waits a little longer."""
NOT_CONFIGURED = "there is no S3 here: set ROADSTEAD_S3_ENDPOINT and its keys for identity"


class Objects:
    """`settings` without keys: there is no S3, and who asks for an object is told so."""

    def __init__(self, settings: S3Settings, sessions: Sessions, authorization: Authorization) -> None:
        self._sessions = sessions
        self._client = S3Client(settings) if settings.access_key_id else None
        self._authorization = authorization

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()

    async def read(self, role: Role, who: str, region: str, arn: str, limit: int) -> bytes:
        """An object of `limit` bytes at most, which the role may get. `who`: the session's name that a refusal tells.
        Raises AwsError, with the message of an AWS SDK for what S3 said."""
        bucket, key = _place(arn)
        self._require(role, who, region, (("s3:GetBucketLocation", bucket), ("s3:GetObject", f"{bucket}/{key}")))
        return await self._done("GetObject", lambda client: client.bucket(bucket).read(key, limit))

    async def write(self, role: Role, who: str, region: str, bucket: str, key: str, data: bytes) -> None:
        """Put an object where the role may. Raises AwsError, as `read` does."""
        bucket, key = _place(f"arn:aws:s3:::{bucket}/{key}")
        self._require(role, who, region, (("s3:GetBucketLocation", bucket), ("s3:PutObject", f"{bucket}/{key}")))
        await self._done("PutObject", lambda client: client.bucket(bucket).put(key, data))

    async def store_session_log(self, request: StoreSessionLog) -> SessionLogStored:
        """The command of that name. Raises AwsError, AccessDenied."""
        role = self._sessions.role_of_task(request.role_arn, request.service)
        try:
            content = base64.b64decode(request.content, validate=True)
        except binascii.Error:
            raise AwsError("ValidationException", "content: base64 is wanted") from None
        await self.write(role, request.task, request.region, request.bucket, request.key, content)
        return SessionLogStored()

    def _require(self, role: Role, who: str, region: str, wanted: tuple[tuple[str, str], ...]) -> None:
        for action, resource in wanted:
            demand = Demand(action, f"arn:aws:s3:::{resource}", {"aws:requestedregion": (region,)})
            verdict, by = self._authorization.of_role(role, None, demand, {})
            if verdict != ALLOW:
                session = f"arn:aws:sts::{role.account}:assumed-role/{role.role_name}/{who}"
                refused: AccessDenied = denied(session, demand, verdict, by)
                raise AwsError("AccessDenied", _told(action.partition(":")[2], 403, "AccessDenied", refused.message))

    async def _done(self, operation: str, work: Callable[[S3Client], Awaitable[Done]]) -> Done:
        if self._client is None:
            raise AwsError("ServiceUnavailable", NOT_CONFIGURED)
        try:
            async with asyncio.timeout(WITHIN_S):
                return await work(self._client)
        except S3Error as error:
            log.warning("s3.failed", operation=operation, error=str(error))
            raise AwsError(error.code or "S3Error", _told(operation, error.status, error.code, str(error))) from None
        except TimeoutError:
            raise AwsError("RequestTimeout", _told(operation, 0, "RequestTimeout", "S3 does not answer")) from None


def _place(arn: str) -> tuple[str, str]:
    """Bucket and key. What a server could take for a way to another place is refused: what is judged by the role's
    policies must be what is asked for."""
    found = _ARN.fullmatch(arn)
    if found is None or not _ASIDE.isdisjoint(found[2].split("/")):
        raise AwsError("InvalidArn", f"unable to parse bucket and key from the s3 ARN {arn}")
    return found[1], found[2]


def _told(operation: str, status: int, code: str, message: str) -> str:
    """In the words of the SDK that ECS' agent asks S3 with."""
    answered = f"https response error StatusCode: {status}, " if status else ""
    return f"operation error S3: {operation}, {answered}api error {code or 'Unknown'}: {message}"
