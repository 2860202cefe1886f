"""Attributes of container instances: what they may be called.

https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Attribute.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from contracts.aws import ecs
from services.shared.errors import AwsError

MOST_ATTRIBUTES = 10
_NAME = re.compile(r"[A-Za-z0-9_./\\-]{1,128}\Z")
_VALUE = re.compile(r"[A-Za-z0-9_./\\@:-](?:[A-Za-z0-9_./\\@: -]{0,126}[A-Za-z0-9_./\\@:-])?\Z")


def check_attributes(attributes: Iterable[ecs.Attribute]) -> None:
    """Refuse names and values that ECS does not allow, and names that are its own. Raises AwsError."""
    for attribute in attributes:
        if not _NAME.match(attribute.name):
            raise AwsError("InvalidParameterException", f"Invalid attribute name: {attribute.name}.")
        if attribute.name.startswith(("ecs.", "com.amazonaws.ecs.")):
            raise AwsError("InvalidParameterException", f"The attribute name {attribute.name} is reserved.")
        if attribute.value and not _VALUE.match(attribute.value):
            raise AwsError("InvalidParameterException", f"Invalid value of the attribute {attribute.name}.")
