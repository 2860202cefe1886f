"""Which of two versions comes first, as the registries of programming languages have it.

npm, Cargo, Go: https://semver.org, item 11 (Go's pseudo-versions are prereleases of it). NuGet: the same with a fourth
number, whatever the case of letters. Maven: https://maven.apache.org/pom.html#version-order-specification. RubyGems:
the rules in Gem::Version's documentation. Packagist: PHP's version_compare. Python's rule (PEP 440) is `packaging`'s.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from services.scanner.decisions.ordering import magnitude, sign

_SEMVER = re.compile(r"(?:go|[v=\s])*(\d+)(?:\.(\d+))?(?:\.(\d+))?((?:\.\d+)*)(?:-?([0-9A-Za-z.-]+))?(?:\+.*)?\Z", re.A)


@lru_cache(maxsize=4096)
def _semver_key(version: str) -> tuple[Any, ...]:
    found = _semver(version)
    numbers = [magnitude(found[i] or "") for i in (1, 2, 3)]
    return (numbers, *_prerelease(found[5]))


def _semver(version: str) -> re.Match[str]:
    found = _SEMVER.match(version.strip())
    if found is None:
        raise ValueError(f"{version!r} is no semantic version")
    return found


def _prerelease(told: str | None) -> tuple[int, list[Any]]:
    if told is None:
        return 1, []
    # Numbers go before words, and are ordered as numbers.
    return 0, [(0, magnitude(w), "") if w.isdigit() else (1, (0, ""), w) for w in told.split(".")]


def compare_semver(left: str, right: str) -> int:
    """Semantic versioning's precedence; a leading `v` and missing numbers are borne. Raises ValueError."""
    return sign(_semver_key(left), _semver_key(right))


@lru_cache(maxsize=4096)
def _nuget_key(version: str) -> tuple[Any, ...]:
    found = _semver(version.lower())
    numbers = [magnitude(found[i] or "") for i in (1, 2, 3)]
    return ([*numbers, magnitude(found[4].lstrip(".").partition(".")[0])], *_prerelease(found[5]))


def compare_nuget(left: str, right: str) -> int:
    """https://learn.microsoft.com/nuget/concepts/package-versioning. Raises ValueError."""
    return sign(_nuget_key(left), _nuget_key(right))


def compare_pypi(left: str, right: str) -> int:
    """PEP 440. Raises ValueError."""
    return sign(_pep440(left), _pep440(right))


@lru_cache(maxsize=4096)
def _pep440(version: str) -> Any:
    from packaging.version import Version  # only images with Python packages need it

    return Version(version)


_MAVEN_TOKEN = re.compile(r"([.-]?)(\d+|[^\d.-]+|)", re.A)
_MAVEN_ORDER = {name: rank for rank, name in enumerate(("alpha", "beta", "milestone", "rc", "snapshot", "", "sp"))}
_MAVEN_ALIAS = {"cr": "rc", "ga": "", "final": "", "release": ""}
_MAVEN_SHORT = {"a": "alpha", "b": "beta", "m": "milestone"}
_MAVEN_NOTHING = ("", "0")

MavenToken = tuple[str, str]


@lru_cache(maxsize=4096)
def _maven_tokens(version: str) -> list[MavenToken]:
    """(separator, value) pairs, without what means nothing at the end of each part behind a hyphen."""
    found: list[MavenToken] = []
    text, at = version.lower(), 0
    while at < len(text):
        match = _MAVEN_TOKEN.match(text, at)
        assert match is not None
        separator, value = match[1], match[2]
        if not separator and found:
            separator = "-"  # a change between digits and letters
        at = match.end()
        if value.isdigit():
            value = value.lstrip("0") or "0"
        elif at < len(text) and text[at].isdigit():
            value = _MAVEN_SHORT.get(value, value)
        found.append((separator, _MAVEN_ALIAS.get(value, value) if value else "0"))
    return _maven_trimmed(found)


def _maven_trimmed(found: list[MavenToken]) -> list[MavenToken]:
    end = len(found)
    while end > 0:
        start = end
        while start > 0 and found[start - 1][1] in _MAVEN_NOTHING:
            start -= 1
        del found[start:end]
        end = start - 1
        while end > 0 and found[end][0] != "-":
            end -= 1
    return found


def _maven_rank(token: MavenToken) -> tuple[Any, ...]:
    separator, value = token
    if value.isdigit():
        return (2 if separator == "-" else 3, magnitude(value), "")
    if value in _MAVEN_ORDER:
        return (1, (_MAVEN_ORDER[value], ""), "")
    return (1, (len(_MAVEN_ORDER), ""), value)


def compare_maven(left: str, right: str) -> int:
    """Maven's ComparableVersion."""
    a, b = _maven_tokens(left), _maven_tokens(right)
    for i in range(max(len(a), len(b))):
        one = a[i] if i < len(a) else _maven_padding(b[i])
        other = b[i] if i < len(b) else _maven_padding(a[i])
        order = sign(_maven_rank(one), _maven_rank(other))
        if order:
            return order
    return 0


def _maven_padding(beside: MavenToken) -> MavenToken:
    return beside[0], "0" if beside[1].isdigit() else ""


_GEM = re.compile(r"[0-9]+|[a-z]+", re.I | re.A)
_GEM_VALID = re.compile(r"\s*[0-9][0-9a-zA-Z]*(?:\.[0-9a-zA-Z]+)*(?:-[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?\s*\Z", re.A)


@lru_cache(maxsize=4096)
def _gem_key(version: str) -> list[tuple[int, tuple[int, str], str]]:
    if _GEM_VALID.match(version) is None:
        raise ValueError(f"{version!r} is no version of a gem")
    segments: list[str] = _GEM.findall(version.replace("-", ".pre."))
    first = next((i for i, each in enumerate(segments) if not each.isdigit()), len(segments))
    kept = [*_without_zeros(segments[:first]), *_without_zeros(segments[first:])]
    # What is missing is 0, so the end lies between letters and numbers.
    told = [(2, magnitude(each), "") if each.isdigit() else (0, (0, ""), each) for each in kept]
    return [(1, (0, ""), "") if each == (2, (0, ""), "") else each for each in told] + [(1, (0, ""), "")]


def _without_zeros(segments: list[str]) -> list[str]:
    end = len(segments)
    while end and segments[end - 1].isdigit() and not segments[end - 1].strip("0"):
        end -= 1
    return segments[:end]


def compare_gem(left: str, right: str) -> int:
    """Gem::Version. Raises ValueError."""
    return sign(_gem_key(left), _gem_key(right))


_PHP = re.compile(r"\d+|[a-z]+", re.A)
_PHP_WORDS = {"dev": 0, "alpha": 1, "a": 1, "beta": 2, "b": 2, "rc": 3, "c": 3, "pl": 6, "p": 6, "patch": 6}
_PHP_END, _PHP_NUMBER = 4, 5


@lru_cache(maxsize=4096)
def _composer_key(version: str) -> list[tuple[int, tuple[int, str]]]:
    text = version.strip().lower().removeprefix("v").partition("+")[0]
    words = _PHP.findall(text)
    if not words or not words[0].isdigit():
        raise ValueError(f"{version!r} is no version that can be ordered: a branch")
    first = next((i for i, each in enumerate(words) if not each.isdigit()), len(words))
    words = [*_without_zeros(words[:first]), *words[first:]]  # Composer fills up with zeros
    ranks = [(_PHP_NUMBER, magnitude(w)) if w.isdigit() else (_PHP_WORDS.get(w, -1), (0, w)) for w in words]
    return [*((rank, (0, "") if rank in _PHP_WORDS.values() else value) for rank, value in ranks), (_PHP_END, (0, ""))]


def compare_composer(left: str, right: str) -> int:
    """PHP's version_compare, of versions as Composer fills them up. Raises ValueError."""
    return sign(_composer_key(left), _composer_key(right))
