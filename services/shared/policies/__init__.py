"""IAM policies: read, checked and evaluated. Pure; what is stored and who asks is handed in.

Rules: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

from services.shared.policies.decide import (
    ALLOW,
    EXPLICIT_DENY,
    IMPLICIT_DENY,
    Principal,
    Question,
    decide,
    trusts,
)
from services.shared.policies.documents import IDENTITY, RESOURCE, TRUST, Document, MalformedPolicy, Statement, parse

__all__ = [
    "ALLOW",
    "EXPLICIT_DENY",
    "IDENTITY",
    "IMPLICIT_DENY",
    "RESOURCE",
    "TRUST",
    "Document",
    "MalformedPolicy",
    "Principal",
    "Question",
    "Statement",
    "decide",
    "parse",
    "trusts",
]
