"""Which of two versions comes first, as each kind of package has it.

deb: Debian Policy 5.6.12. apk: apk-tools' version.c, described in apk-package(5). npm: https://semver.org, item 11.
Python's rule (PEP 440) is `packaging`'s.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

Compare = Callable[[str, str], int]
"""Negative, zero or positive. Raises ValueError for what is no version."""


def _sign(left: Any, right: Any) -> int:
    return (left > right) - (left < right)


def _magnitude(digits: str) -> tuple[int, str]:
    """Orders numbers of any length without making them numbers."""
    digits = digits.lstrip("0")
    return len(digits), digits


_DEB_END: tuple[tuple[int, ...], tuple[int, str]] = ((0,), (0, ""))
_DEB_PART = re.compile(r"([^0-9]*)([0-9]*)")


def _deb_rank(character: str) -> int:
    if character == "~":
        return -1
    return ord(character) if character.isalpha() else ord(character) + 256


@lru_cache(maxsize=4096)
def _deb_parts(text: str) -> list[tuple[tuple[int, ...], tuple[int, str]]]:
    parts = [
        ((*map(_deb_rank, words), 0), _magnitude(digits))
        for words, digits in _DEB_PART.findall(text)
        if words or digits
    ]
    while parts and parts[-1] == _DEB_END:  # `1` and `1.0` differ, but nothing and `0` don't
        parts.pop()
    return [*parts, _DEB_END]


@lru_cache(maxsize=4096)
def _deb_key(version: str) -> tuple[Any, ...]:
    epoch, colon, rest = version.strip().partition(":")
    if not colon or not (epoch.isascii() and epoch.isdigit()):
        epoch, rest = "0", version.strip()
    upstream, dash, revision = rest.rpartition("-")
    if not dash:
        upstream, revision = rest, ""
    return _magnitude(epoch), _deb_parts(upstream), _deb_parts(revision)


def compare_deb(left: str, right: str) -> int:
    """dpkg --compare-versions."""
    return _sign(_deb_key(left), _deb_key(right))


_INVALID, _DIGIT_OR_ZERO, _DIGIT, _LETTER, _SUFFIX, _SUFFIX_NUMBER, _HASH, _REVISION, _END = range(-1, 8)
_SUFFIXES = {
    name: rank
    for rank, name in [*enumerate(("alpha", "beta", "pre", "rc"), -4), *enumerate(("cvs", "svn", "git", "hg", "p"))]
}
_GOES_BACK = {(_DIGIT, _DIGIT_OR_ZERO), (_SUFFIX, _SUFFIX), (_SUFFIX_NUMBER, _SUFFIX), (_LETTER, _DIGIT)}


class _Apk:
    """A version, token by token: `kind` is what comes next."""

    def __init__(self, text: str) -> None:
        self._rest = text
        self.kind = _DIGIT if text[:1].isdigit() else _INVALID

    def take(self) -> Any:
        """The value of the token that is due. The kinds of values are the same where two tokens are of one kind."""
        kind, rest = self.kind, self._rest
        if kind in (_END, _INVALID):
            return 0
        value: Any
        if kind == _DIGIT_OR_ZERO and rest.startswith("0"):
            # Behind a point a leading zero makes a fraction of it: .01 < .1
            digits = re.match(r"[0-9]*", rest)[0]  # type: ignore[index]
            value, used = (0, digits.rstrip("0"), len(digits)), len(digits)
        elif kind in (_DIGIT_OR_ZERO, _DIGIT, _SUFFIX_NUMBER, _REVISION):
            digits = re.match(r"[0-9]*", rest)[0]  # type: ignore[index]
            value, used = (1, *_magnitude(digits)), len(digits)
            if not digits and kind == _DIGIT_OR_ZERO:
                self.kind = _INVALID
                return (1, 0, "")
        elif kind == _LETTER:
            value, used = ord(rest[0]), 1
        elif kind == _HASH:
            value = re.match(r"[0-9a-f]*", rest)[0]  # type: ignore[index]
            used = len(value)
        else:
            name = re.match(r"[a-z]*", rest)[0]  # type: ignore[index]
            if name not in _SUFFIXES:
                self.kind = _INVALID
                return -99
            value, used = _SUFFIXES[name], len(name)
        self._rest = rest[used:]
        self._next()
        return value

    def _next(self) -> None:
        kind, rest = self.kind, self._rest
        first, skipped = rest[:1], 1
        if not rest:
            following, skipped = _END, 0
        elif kind in (_DIGIT, _DIGIT_OR_ZERO) and "a" <= first <= "z":
            following, skipped = _LETTER, 0
        elif kind == _LETTER and first.isdigit():
            following, skipped = _DIGIT, 0
        elif kind == _SUFFIX and first.isdigit():
            following, skipped = _SUFFIX_NUMBER, 0
        elif rest.startswith("-r"):
            following, skipped = _REVISION, 2
        else:
            following = {".": _DIGIT_OR_ZERO, "_": _SUFFIX, "~": _HASH}.get(first, _INVALID)
        if following != _INVALID and following <= kind and (kind, following) not in _GOES_BACK:
            following = _INVALID if following < kind or kind != _DIGIT_OR_ZERO else following
        self.kind = following
        self._rest = rest[skipped:]


def compare_apk(left: str, right: str) -> int:
    """apk version -t."""
    a, b = _Apk(left), _Apk(right)
    while a.kind == b.kind and a.kind not in (_END, _INVALID):
        order = _sign(a.take(), b.take())
        if order:
            return order
    if a.kind == b.kind:
        return 0
    if a.kind == _SUFFIX and a.take() < 0:
        return -1
    if b.kind == _SUFFIX and b.take() < 0:
        return 1
    return _sign(b.kind, a.kind)


_SEMVER = re.compile(r"[v=\s]*(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:\.\d+)*(?:-?([0-9A-Za-z.-]+))?(?:\+.*)?\Z", re.ASCII)


@lru_cache(maxsize=4096)
def _semver_key(version: str) -> tuple[Any, ...]:
    found = _SEMVER.match(version.strip())
    if found is None:
        raise ValueError(f"{version!r} is no semantic version")
    numbers = [_magnitude(found[i] or "") for i in (1, 2, 3)]
    if found[4] is None:
        return numbers, 1, []
    # Numbers go before words, and are ordered as numbers.
    words = [(0, _magnitude(w), "") if w.isdigit() else (1, (0, ""), w) for w in found[4].split(".")]
    return numbers, 0, words


def compare_npm(left: str, right: str) -> int:
    """Semantic versioning's precedence; a leading `v` and missing numbers are borne. Raises ValueError."""
    return _sign(_semver_key(left), _semver_key(right))


def compare_pypi(left: str, right: str) -> int:
    """PEP 440. Raises ValueError."""
    return _sign(_pep440(left), _pep440(right))


@lru_cache(maxsize=4096)
def _pep440(version: str) -> Any:
    from packaging.version import Version  # only images with Python packages need it

    return Version(version)


COMPARE: dict[str, Compare] = {"deb": compare_deb, "apk": compare_apk, "npm": compare_npm, "pypi": compare_pypi}
"""By kind of package."""
