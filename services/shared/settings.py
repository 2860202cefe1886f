"""Settings: typed defaults in a Struct, overridden by the environment, checked before anything starts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TypeVar

import msgspec

S = TypeVar("S", bound=msgspec.Struct)


class SettingsError(Exception):
    """A variable has a value that does not fit; the message names it and says what fits."""


def load(kind: type[S], prefix: str, environment: Mapping[str, str] | None = None, **overrides: object) -> S:
    """Settings of this kind: `prefix` + the field's name in capitals (`ROADSTEAD_SCHEDULER_PORT`) overrides the
    default, `overrides` that are not None override both. Raises SettingsError."""
    environment = os.environ if environment is None else environment
    values: dict[str, object] = {}
    for field in msgspec.structs.fields(kind):
        name = f"{prefix}{field.name}".upper()
        if name in environment:
            values[field.name] = _check(kind, field, name, environment[name])
    values |= {name: value for name, value in overrides.items() if value is not None}
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{prefix.lower().rstrip('_') or 'settings'}: {error}") from error


def _check(kind: type[S], field: msgspec.structs.FieldInfo, name: str, text: str) -> object:
    try:
        return msgspec.convert(text, field.type, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{name}={text!r} does not fit {kind.__name__}.{field.name}: {error}") from error
