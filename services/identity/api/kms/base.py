"""What the areas of KMS share: the keys, and how to find what a request names."""

from __future__ import annotations

from collections.abc import Iterable

from contracts.aws import kms
from contracts.records.kms import KmsKey
from services.identity.decisions.kms_keys import MAX_TAGS
from services.identity.handlers.kms_access import KmsAccess
from services.identity.handlers.kms_keys import KmsKeys
from services.shared.aws.context import RequestContext
from services.shared.aws.service import AwsService
from services.shared.clock import Clock
from services.shared.errors import AwsError
from services.shared.policies import RESOURCE, MalformedPolicy, parse
from services.shared.state import Store

PAGE = 100
BAD_MARKER = "InvalidMarkerException"


class KmsOperations(AwsService):
    """The base of each area."""

    api = kms.API

    def __init__(self, store: Store, keys: KmsKeys, access: KmsAccess, clock: Clock) -> None:
        self._store = store
        self._keys = keys
        self._access = access
        self._clock = clock

    def _key(self, context: RequestContext, reference: str) -> KmsKey:
        """The key of this id, ARN or alias. Raises NotFoundException."""
        return self._keys.find(context.account, context.region, reference)

    def _own(self, context: RequestContext, reference: str) -> KmsKey:
        """The caller's own key of this id or ARN: aliases are not taken where a key is changed. Raises
        NotFoundException, AccessDeniedException for a key of another account."""
        key = self._keys.find(context.account, context.region, reference, aliases=False)
        if key.account != context.account:
            raise AwsError("AccessDeniedException", f"{key.arn} is another account's: only that one may change it")
        return key


def unsupported(what: str) -> AwsError:
    """Something of KMS that is not here."""
    return AwsError("UnsupportedOperationException", f"{what} not supported by Roadstead")


def dry_run(asked: bool | None) -> None:
    """Raises DryRunOperationException when it was only to be tried: it would have succeeded."""
    if asked:
        raise AwsError("DryRunOperationException", "The request would have succeeded, but the DryRun option is set.")


def checked_policy(text: str) -> str:
    """The text, if it is a key policy. Raises MalformedPolicyDocumentException."""
    try:
        parse(text, RESOURCE)
    except MalformedPolicy as malformed:
        raise AwsError("MalformedPolicyDocumentException", str(malformed)) from None
    return text


def with_tags(old: dict[str, str], given: Iterable[kms.Tag]) -> dict[str, str]:
    """Tags with others put over them. Raises TagException, LimitExceededException."""
    tags = {**old, **{tag.tag_key: tag.tag_value for tag in given}}
    if any(tag.lower().startswith("aws:") for tag in tags):
        raise AwsError("TagException", "Tags that begin with aws: can't be set")
    if len(tags) > MAX_TAGS:
        raise AwsError("LimitExceededException", f"A key can't have more than {MAX_TAGS} tags")
    return tags
