"""Wildcards and policy variables: `*`, `?`, `${aws:userid}`, `${aws:PrincipalTag/team, 'none'}`, `${*}`.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

Context = Mapping[str, Sequence[str]]
"""A request's condition keys, in lower case, and their values. A key that the request does not have is not there."""

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_DEFAULT = re.compile(r"^\s*([^,]+?)\s*,\s*'(.*)'\s*$", re.DOTALL)


class Undefined(Exception):
    """A variable has no value in this request: what names it matches nothing."""


def expand(text: str, context: Context, *, variables: bool) -> list[tuple[str, bool]]:
    """The text in parts: (part, whether `*` and `?` in it are wildcards). Raises Undefined."""
    if not variables or "${" not in text:
        return [(text, True)]
    parts: list[tuple[str, bool]] = []
    at = 0
    for found in _VARIABLE.finditer(text):
        parts += [(text[at : found.start()], True), (_value(found[1], context), False)]
        at = found.end()
    return [*parts, (text[at:], True)]


def plain(text: str, context: Context, *, variables: bool) -> str:
    """The text with its variables' values, without wildcards. Raises Undefined."""
    return "".join(part for part, _ in expand(text, context, variables=variables))


def _value(name: str, context: Context) -> str:
    if name.strip() in ("*", "?", "$"):
        return name.strip()
    with_default = _DEFAULT.match(name)
    key = with_default[1] if with_default else name.strip()
    values = context.get(key.lower(), ())
    if len(values) == 1:  # a key with several values can't be a variable
        return values[0]
    if with_default is not None:
        return with_default[2]
    raise Undefined(key)


def like(parts: Sequence[tuple[str, bool]], value: str, *, ignore_case: bool = False) -> bool:
    """Whether the value is what these parts describe, from end to end. Takes at most the product of both lengths,
    whatever the pattern: between two stars the first place that fits is as good as any other."""
    (first, _), *others = _pieces(tuple(parts), ignore_case)
    if not others:
        return first.fullmatch(value) is not None
    last, length = others.pop()
    begins = first.match(value)
    if begins is None:
        return False
    at, end = begins.end(), len(value) - length
    for piece, _ in others:
        found = piece.search(value, at, max(end, 0))
        if found is None:
            return False
        at = found.end()
    return end >= at and last.fullmatch(value, end) is not None


@lru_cache(maxsize=4096)
def _pieces(parts: tuple[tuple[str, bool], ...], ignore_case: bool) -> list[tuple[re.Pattern[str], int]]:
    """What stands between the stars, each with its length."""
    texts, lengths = [""], [0]
    for part, wild in parts:
        for character in part:
            if wild and character == "*":
                texts.append("")
                lengths.append(0)
                continue
            texts[-1] += "." if wild and character == "?" else re.escape(character)
            lengths[-1] += 1
    flags = re.DOTALL | (re.IGNORECASE if ignore_case else 0)
    return [(re.compile(text, flags), length) for text, length in zip(texts, lengths, strict=True)]


def arn_like(pattern: str, value: str, context: Context, *, variables: bool) -> bool:
    """Whether an ARN matches: each of the first five segments by itself, the rest as one."""
    if pattern == "*":
        return True
    wanted, given = _segments(pattern), value.split(":", 5)
    try:
        if len(wanted) < 6 or len(given) < 6:
            return like(expand(pattern, context, variables=variables), value)
        return all(like(expand(w, context, variables=variables), g) for w, g in zip(wanted, given, strict=True))
    except Undefined:
        return False


def _segments(pattern: str) -> list[str]:
    """Six segments; a colon inside `${aws:userid}` parts nothing."""
    hidden = _VARIABLE.sub(lambda found: found[0].replace(":", "\0"), pattern)
    return [part.replace("\0", ":") for part in hidden.split(":", 5)]
