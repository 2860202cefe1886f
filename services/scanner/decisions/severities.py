"""How bad a vulnerability is, in ECR's words, from what an advisory says of it.

Of several scores CVSS 3 goes before 4, and 2 comes last: Amazon Inspector takes CVSS 3.1 as the one that counts and
shows 4.0 beside it. https://docs.aws.amazon.com/inspector/latest/user/findings-understanding-score.html"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

ORDER = ("UNDEFINED", "INFORMATIONAL", "LOW", "MEDIUM", "HIGH", "CRITICAL")
"""ECR's severities (FindingSeverity), the worst last."""

RANK = {name: rank for rank, name in enumerate(ORDER)}

_WORDS = {
    "CRITICAL": "CRITICAL",
    "IMPORTANT": "HIGH",
    "HIGH": "HIGH",
    "MODERATE": "MEDIUM",
    "MEDIUM": "MEDIUM",
    "LOW": "LOW",
    "NEGLIGIBLE": "INFORMATIONAL",
    "UNIMPORTANT": "INFORMATIONAL",
    "INFORMATIONAL": "INFORMATIONAL",
}
_TYPES = {"CVSS_V3": 3, "CVSS_V4": 4, "CVSS_V2": 2}
_PREFERRED = (3, 4, 2)


class Score(NamedTuple):
    """A CVSS base score: the vector's own version (`3.1`), 0.0 to 10.0, the vector."""

    version: str
    base: float
    vector: str


def of_word(word: Any) -> str:
    """The severity that a word means; UNDEFINED for none."""
    return _WORDS.get(word.upper(), "UNDEFINED") if isinstance(word, str) else "UNDEFINED"


def of_score(score: float) -> str:
    """The qualitative rating of a CVSS score (CVSS 3.1 specification, section 5)."""
    for least, severity in ((9.0, "CRITICAL"), (7.0, "HIGH"), (4.0, "MEDIUM"), (0.1, "LOW")):
        if score >= least:
            return severity
    return "INFORMATIONAL"


def of_cvss(score: Score) -> str:
    """The qualitative rating of a CVSS score. Version 2 knows no CRITICAL (https://nvd.nist.gov/vuln-metrics/cvss)."""
    severity = of_score(score.base)
    if score.version.startswith("2"):
        return "HIGH" if severity == "CRITICAL" else severity
    return severity


@lru_cache(maxsize=8192)
def scored(kind: int, vector: str) -> Score:
    """The base score of a vector of CVSS 2, 3 or 4. Raises ValueError."""
    from cvss import CVSS2, CVSS3, CVSS4  # only those who import advisories need it
    from cvss.exceptions import CVSSError

    try:
        if kind == 2:
            return Score("2.0", float(CVSS2(vector).base_score), vector)
        if kind == 3:
            return Score(vector[5:8], float(CVSS3(vector).base_score), vector)
        return Score("4.0", float(CVSS4(vector).base_score), vector)
    except (CVSSError, ArithmeticError, LookupError, TypeError) as error:
        raise ValueError(f"{vector[:200]!r} is no CVSS {kind} vector: {error}") from None


def scores(record: dict[str, Any]) -> list[Score]:
    """The CVSS scores of an OSV record that can be read, the one that counts first. Where the record itself has none,
    those of its packages."""
    found = _scores(record.get("severity"))
    if not found:
        found = [each for told in _dicts(record.get("affected")) for each in _scores(told.get("severity"))]
    return sorted(dict.fromkeys(found), key=lambda each: (_PREFERRED.index(int(each.version[0])), -each.base))


def _scores(told: Any) -> list[Score]:
    found = []
    for each in _dicts(told):
        kind, vector = _TYPES.get(str(each.get("type")), 0), each.get("score")
        if kind and isinstance(vector, str):
            try:
                found.append(scored(kind, vector))
            except ValueError:
                continue
    return found


def of_advisory(record: dict[str, Any]) -> tuple[str, float, str]:
    """(severity, CVSS base score or 0.0, its vector) of an OSV record, from the first of these that it has: a CVSS
    vector, a word of its database, a word of an affected package (Debian's urgency among them)."""
    found = scores(record)
    if found:
        return of_cvss(found[0]), found[0].base, found[0].vector
    words = [_dict(record.get("database_specific")).get("severity")]
    words += [told.get("score") for told in _dicts(record.get("severity"))]
    for affected in _dicts(record.get("affected")):
        specific = _dict(affected.get("ecosystem_specific"))
        words += [
            specific.get("severity"),
            specific.get("urgency"),
            _dict(affected.get("database_specific")).get("severity"),
        ]
        words += [told.get("score") for told in _dicts(affected.get("severity"))]
    return max((of_word(word) for word in words), key=RANK.__getitem__), 0.0, ""


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
