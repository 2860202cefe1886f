"""Which of two versions comes first, as each kind of package has it.

deb: Debian Policy 5.6.12. apk: apk-tools' version.c, described in apk-package(5). rpm: rpm-version(7). Those of
programming languages are in language_versions.py.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import zip_longest
from typing import Any

from services.scanner.decisions.language_versions import (
    compare_composer,
    compare_gem,
    compare_maven,
    compare_nuget,
    compare_pypi,
    compare_semver,
)
from services.scanner.decisions.ordering import Compare, magnitude, sign

__all__ = ["COMPARE", "Compare"]

_DEB_END: tuple[tuple[int, ...], tuple[int, str]] = ((0,), (0, ""))
_DEB_PART = re.compile(r"([^0-9]*)([0-9]*)")


def _deb_rank(character: str) -> int:
    if character == "~":
        return -1
    return ord(character) if character.isalpha() else ord(character) + 256


@lru_cache(maxsize=4096)
def _deb_parts(text: str) -> list[tuple[tuple[int, ...], tuple[int, str]]]:
    parts = [
        ((*map(_deb_rank, words), 0), magnitude(digits)) for words, digits in _DEB_PART.findall(text) if words or digits
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
    return magnitude(epoch), _deb_parts(upstream), _deb_parts(revision)


def compare_deb(left: str, right: str) -> int:
    """dpkg --compare-versions."""
    return sign(_deb_key(left), _deb_key(right))


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
            value, used = (1, *magnitude(digits)), len(digits)
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
        order = sign(a.take(), b.take())
        if order:
            return order
    if a.kind == b.kind:
        return 0
    if a.kind == _SUFFIX and a.take() < 0:
        return -1
    if b.kind == _SUFFIX and b.take() < 0:
        return 1
    return sign(b.kind, a.kind)


_RPM_PART = re.compile(r"[0-9]+|[a-zA-Z]+|~|\^", re.ASCII)


def _rpm_order(left: str, right: str) -> int:
    """rpmvercmp: `~` goes before everything, `^` behind the end and before all else, letters before numbers."""
    for a, b in zip_longest(_RPM_PART.findall(left), _RPM_PART.findall(right), fillvalue=""):
        if a == b:
            continue
        if "~" in (a, b):
            return -1 if a == "~" else 1
        if "^" in (a, b):
            return (-1 if b else 1) if a == "^" else (1 if a else -1)
        if not a or not b:
            return 1 if a else -1
        if a.isdigit() != b.isdigit():
            return 1 if a.isdigit() else -1
        order = sign(magnitude(a), magnitude(b)) if a.isdigit() else sign(a, b)
        if order:
            return order
    return 0


def _rpm_split(version: str) -> tuple[str, str, bool, str]:
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    number, dash, release = rest.partition("-")
    return epoch, number, bool(dash), release


def compare_rpm(left: str, right: str) -> int:
    """Epoch, version, release; nothing is told of a release that is not there: it goes first."""
    epoch, number, dash, release = _rpm_split(left)
    other_epoch, other_number, other_dash, other_release = _rpm_split(right)
    order = _rpm_order(epoch, other_epoch) or _rpm_order(number, other_number)
    return order or sign(dash, other_dash) or _rpm_order(release, other_release)


COMPARE: dict[str, Compare] = {
    "deb": compare_deb,
    "apk": compare_apk,
    "rpm": compare_rpm,
    "npm": compare_semver,
    "cargo": compare_semver,
    "golang": compare_semver,
    "nuget": compare_nuget,
    "pypi": compare_pypi,
    "maven": compare_maven,
    "gem": compare_gem,
    "composer": compare_composer,
}
"""By kind of package, named as package URLs name it."""
