"""What the AWS server needs from outside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec

from services.shared.aws.context import Identity, RequestContext
from services.shared.aws.http import AwsHttpRequest


class AccessKey(msgspec.Struct, frozen=True):
    """A key and whom it speaks for. Temporary ones have a session token and expire (epoch seconds)."""

    access_key_id: str
    secret: str
    account: str
    principal_arn: str
    user_id: str
    session_token: str | None = None
    expires_at: float | None = None


class KeyLookup(Protocol):
    """Where access keys are found, at once: from memory."""

    def find(self, access_key_id: str) -> AccessKey | None:
        """The key, or None if there is none or it is inactive."""
        ...


class Authenticator(Protocol):
    """The door."""

    def authenticate(self, request: AwsHttpRequest) -> Identity:
        """Who signed the request. Raises AuthenticationFailure."""
        ...


class Span(Protocol):
    """An operation being observed."""

    def end(self, status: int, error: str) -> None:
        """It was answered: the HTTP status, and the error's code or an empty string."""
        ...


class Observer(Protocol):
    """What sees each operation begin and end (traces, metrics). It must be cheap: it is on the hot path."""

    def start(self, context: RequestContext, headers: Mapping[str, str]) -> Span:
        """An authenticated request with a known operation is about to be decoded."""
        ...


#: Is called with each decoded request before its operation; refuses it by raising (AccessDenied).
Guard = Callable[[RequestContext, Any], Awaitable[None]]
