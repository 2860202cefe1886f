"""Roles that ECR assumes: `customRoleArn` of pull-through rules and of creation templates."""

from __future__ import annotations

from services.registry.handlers.policies import Asker
from services.registry.ports import Granter
from services.shared.authorization import Authorization, trusts_service
from services.shared.errors import AccessDenied

PULL_THROUGH = "pullthroughcache.ecr.amazonaws.com"
TEMPLATES = "ecr.amazonaws.com"
"""Whom the roles must trust.
https://docs.aws.amazon.com/AmazonECR/latest/userguide/pull-through-cache-private.html,
https://docs.aws.amazon.com/AmazonECR/latest/userguide/repository-creation-templates-create-iam.html"""


def in_role(role_arn: str) -> Granter:
    """ECR in this role, as who lets the registry use a KMS key."""
    return Granter(role_arn, role=role_arn)


class Roles:
    """Assumes them, as they and their policies are now."""

    def __init__(self, authorization: Authorization) -> None:
        self._authorization = authorization

    def assume(self, role_arn: str, service: str) -> Asker:
        """ECR in this role. Raises AccessDenied when the role is gone, or does not trust ECR."""
        role = self._authorization.role(role_arn)
        if role is None:
            raise AccessDenied(f"ECR was unable to assume the role '{role_arn}': the role does not exist.")
        if not trusts_service(role, service):
            raise AccessDenied(
                f"ECR was unable to assume the role '{role_arn}': its trust policy does not let {service} assume it."
            )
        return Asker(role.account, role.arn, role=role.arn)
