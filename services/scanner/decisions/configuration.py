"""What is wrong with an image by its configuration alone: secrets in it, root, content that nobody can check.

https://github.com/opencontainers/image-spec/blob/main/config.md; the rules are those of the CIS Docker Benchmark
(chapter 4) that say something of a finished image.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from services.scanner.decisions.secrets import FILE_MOST, Secret, in_words, named

LIMIT = 4 << 20
"""The largest configuration that is read (bytes)."""
_ASSIGNED = re.compile(r"(?<![\w$])([A-Za-z_][A-Za-z0-9_]{0,99})=(\"[^\"]*\"|'[^']*'|[^\s;&|]{1,500})")
_REMOTE = re.compile(r"^\s*ADD\s+(?:--\S+\s+)*https?://")
_ROOT = re.compile(r"(?:root|0+)?(?::.*)?\Z")


def problems(text: bytes) -> list[Secret]:
    """What is wrong with an image of this configuration. Raises ValueError for one that can't be read."""
    if len(text) > LIMIT:
        raise ValueError(f"it has {len(text)} bytes")
    try:
        told = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if not isinstance(told, dict):
        raise ValueError("it is no object")
    config = _member(told, "config", dict)
    variables = [each.partition("=") for each in _member(config, "Env", list) if isinstance(each, str)]
    found = list(_in_variables((name, value) for name, _, value in variables))
    known = {value for _, _, value in variables}
    found += _in_history(_member(told, "history", list), known)
    user = config.get("User")
    if _ROOT.match(user if isinstance(user, str) else ""):
        found.append(Secret("runs-as-root", "Runs as root: no other USER is set", "MEDIUM", "config.User", 0, ""))
    return found


def _member(table: dict[str, Any], name: str, kind: type) -> Any:
    found = table.get(name)
    return found if isinstance(found, kind) else kind()


def _in_variables(variables: Iterator[tuple[str, str]]) -> Iterator[Secret]:
    for name, value in variables:
        place = f"config.Env.{name[:100]}"
        hit = named(place, name[:100], value)
        yield from in_words(place, value) or ([hit] if hit else [])


def _in_history(history: list[Any], known: set[str]) -> list[Secret]:
    """What steps of the build say, in their commands: build arguments stay there for good."""
    found: list[Secret] = []
    for at, step in enumerate(history):
        command = step.get("created_by") if isinstance(step, dict) else None
        if not isinstance(command, str):
            continue
        place = f"history[{at}]"
        found += in_words(place, command)
        if _REMOTE.match(command):
            found.append(Secret("unverified-add", "ADD of a URL: nobody checks what comes", "LOW", place, 0, ""))
        for name, value in _ASSIGNED.findall(command):
            value = value.strip("\"'")
            hit = named(place, name, value) if value not in known else None
            found += [hit] if hit else []
    return found[:FILE_MOST]
