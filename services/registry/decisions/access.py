"""Repository and registry policies, read: what they come to with the caller's own is in
services/shared/policies/resource_based.py."""

from __future__ import annotations

from services.shared.policies import RESOURCE, TRUST, Document, MalformedPolicy, parse


def read_repository_policy(text: str) -> Document:
    """A repository's policy: about that repository, so that it names no resources. Raises MalformedPolicy."""
    return _about_ecr(parse(text, TRUST))


def read_registry_policy(text: str) -> Document:
    """A registry's policy; its statements name repositories. Raises MalformedPolicy."""
    return _about_ecr(parse(text, RESOURCE))


def _about_ecr(document: Document) -> Document:
    for statement in document.statements:
        for action in statement.actions:
            if action != "*" and not action.lower().startswith("ecr:"):
                raise MalformedPolicy(f"The action {action} is none of ECR's")
    return document
