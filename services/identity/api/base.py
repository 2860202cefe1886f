"""What the areas of IAM share: the store, and how to find what a request names."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

from contracts.aws import iam
from contracts.records.identity import POLICY, ROLE, Policy, Role
from services.identity.decisions import Choose
from services.shared.aws.context import RequestContext
from services.shared.aws.service import AwsService
from services.shared.clock import Clock
from services.shared.errors import AwsError
from services.shared.policies import IDENTITY, MalformedPolicy, parse
from services.shared.policies.managed import AWS_MANAGED
from services.shared.state import Store

INLINE_LIMIT, MANAGED_LIMIT, TRUST_LIMIT = 10_240, 6_144, 2_048
"""How long policies may be, white space not counted:
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html"""

PAGE = 100


class IamOperations(AwsService):
    """The base of each area."""

    api = iam.API

    def __init__(self, store: Store, clock: Clock, choose: Choose) -> None:
        self._store = store
        self._clock = clock
        self._choose = choose
        self._roles = store.table(ROLE)
        self._policies = store.table(POLICY)

    def _role(self, context: RequestContext, name: str) -> Role:
        """The role. Raises NoSuchEntity."""
        role = self._roles.record(context.account, name)
        if role is None:
            raise no_such_role(name)
        return role

    async def _change_role(
        self, context: RequestContext, name: str, change: Callable[[Role], Role], event: str = "role.updated.v1"
    ) -> Role:
        """Write the changed role. Raises NoSuchEntity."""

        def changed(role: Role | None) -> Role:
            if role is None:
                raise no_such_role(name)
            return change(role)

        role = await self._store.update(ROLE, (context.account, name), changed, event)
        assert role is not None
        return role

    def _policy(self, context: RequestContext, arn: str) -> Policy:
        """A managed policy, AWS' own among them. Raises NoSuchEntity."""
        if arn in AWS_MANAGED:
            path, _, name = arn.partition(":policy")[2].rpartition("/")
            return Policy(
                account="aws",
                policy_name=name,
                policy_id="ANPA" + name.upper().ljust(17, "A")[:17],
                path=f"{path}/",
                arn=arn,
                document=AWS_MANAGED[arn],
                created_at=0.0,
            )
        found = self._policies.record(context.account, arn.rsplit("/", 1)[-1])
        if found is None or found.arn != arn:
            raise AwsError("NoSuchEntity", f"Policy {arn} does not exist or is not attachable.")
        return found


def no_such_role(name: str) -> AwsError:
    """As IAM says it."""
    return AwsError("NoSuchEntity", f"The role with name {name} cannot be found.")


def checked(document: str, limit: int, kind: str = IDENTITY) -> str:
    """The document, if it is a policy of this kind and not too long. Raises MalformedPolicyDocument, LimitExceeded."""
    try:
        parse(document, kind)
    except MalformedPolicy as malformed:
        raise AwsError("MalformedPolicyDocument", str(malformed)) from None
    if len("".join(document.split())) > limit:
        raise AwsError("LimitExceeded", f"Maximum policy size of {limit} bytes exceeded")
    return document


def encoded(document: str) -> str:
    """A document as IAM gives it back: percent-encoded (RFC 3986)."""
    return quote(document, safe="-_.~")


def with_tags(old: dict[str, str], given: dict[str, str]) -> dict[str, str]:
    """Tags with others put over them. Raises LimitExceeded."""
    tags = {**old, **given}
    if len(tags) > 50:
        raise AwsError("LimitExceeded", "The number of tags has reached the maximum limit.")
    return tags


def as_tags(tags: dict[str, str]) -> list[iam.Tag]:
    """As the API has them."""
    return [iam.Tag(key=key, value=value) for key, value in tags.items()]
