"""Task definitions that are made of what another operation or command was told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from contracts.aws import ecs
from contracts.records.scheduler import TaskDefinition
from services.scheduler.decisions.task_definitions import compatibilities, complete, required_attributes
from services.shared.errors import ValidationFailure


def definition_record(
    wire: Mapping[str, Any], *, account: str, region: str, family: str, now: float, by: str, tags: Mapping[str, str],
    hidden: bool = False,
) -> TaskDefinition:  # fmt: skip
    """A revision of a family, yet without a number, of RegisterTaskDefinition's wire JSON; ECS' defaults are filled in.
    Raises ValidationFailure, ClientException."""
    try:
        wanted = msgspec.convert({**wire, "family": family}, ecs.RegisterTaskDefinitionRequest)
    except msgspec.ValidationError as error:
        raise ValidationFailure([("definition", None, str(error))]) from error
    plain = complete(wanted)
    return TaskDefinition(
        account=account,
        region=region,
        family=family,
        revision=0,
        status="ACTIVE",
        definition=plain,
        registered_at=now,
        registered_by=by,
        requires_attributes=required_attributes(wanted),
        compatibilities=compatibilities(wanted),
        tags=dict(tags),
        hidden=hidden,
    )
