"""The AWS operations that identity answers: STS, IAM, Secrets Manager, Parameter Store, activations, KMS."""

from services.identity.api.activations import Activations
from services.identity.api.kms import Kms
from services.identity.api.parameters import Parameters
from services.identity.api.policies import ManagedPolicies
from services.identity.api.roles import Roles
from services.identity.api.secrets import Secrets
from services.identity.api.sts import SecurityTokens


class Iam(Roles, ManagedPolicies):
    """The operations of IAM that exist here: roles and policies."""


__all__ = ["Activations", "Iam", "Kms", "Parameters", "Secrets", "SecurityTokens"]
