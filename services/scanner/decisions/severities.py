"""How bad a vulnerability is, in ECR's words, from what an advisory says of it."""

from __future__ import annotations

from typing import Any

ORDER = ("UNDEFINED", "INFORMATIONAL", "LOW", "MEDIUM", "HIGH", "CRITICAL")
"""ECR's severities (FindingSeverity), the worst last."""

RANK = {name: rank for rank, name in enumerate(ORDER)}

_WORDS = {
    "CRITICAL": "CRITICAL",
    "HIGH": "HIGH",
    "MODERATE": "MEDIUM",
    "MEDIUM": "MEDIUM",
    "LOW": "LOW",
    "NEGLIGIBLE": "INFORMATIONAL",
    "UNIMPORTANT": "INFORMATIONAL",
    "INFORMATIONAL": "INFORMATIONAL",
}
_V3: dict[str, dict[str, float]] = {
    "AV": {"N": 0.85, "A": 0.62, "L": 0.55, "P": 0.2},
    "AC": {"L": 0.77, "H": 0.44},
    "UI": {"N": 0.85, "R": 0.62},
    "C": {"H": 0.56, "L": 0.22, "N": 0.0},
    "I": {"H": 0.56, "L": 0.22, "N": 0.0},
    "A": {"H": 0.56, "L": 0.22, "N": 0.0},
}
_PRIVILEGES = {"U": {"N": 0.85, "L": 0.62, "H": 0.27}, "C": {"N": 0.85, "L": 0.68, "H": 0.5}}


def of_word(word: Any) -> str:
    """The severity that a word means; UNDEFINED for none."""
    return _WORDS.get(word.upper(), "UNDEFINED") if isinstance(word, str) else "UNDEFINED"


def of_score(score: float) -> str:
    """The qualitative rating of a CVSS score (CVSS 3.1 specification, section 5)."""
    for least, severity in ((9.0, "CRITICAL"), (7.0, "HIGH"), (4.0, "MEDIUM"), (0.1, "LOW")):
        if score >= least:
            return severity
    return "INFORMATIONAL"


def cvss3(vector: str) -> float:
    """The base score of a CVSS 3.0 or 3.1 vector (specification, section 7.1). Raises ValueError."""
    parts = dict(part.partition(":")[::2] for part in vector.split("/"))
    try:
        value = {name: table[parts[name]] for name, table in _V3.items()}
        changed = {"U": False, "C": True}[parts["S"]]
        privileges = _PRIVILEGES[parts["S"]][parts["PR"]]
    except KeyError as error:
        raise ValueError(f"{vector!r} is no CVSS 3 vector: {error} is missing or unknown") from None
    base = 1 - (1 - value["C"]) * (1 - value["I"]) * (1 - value["A"])
    impact = 7.52 * (base - 0.029) - 3.25 * (base - 0.02) ** 15 if changed else 6.42 * base
    if impact <= 0:
        return 0.0
    exploitability = 8.22 * value["AV"] * value["AC"] * privileges * value["UI"]
    score = min((1.08 if changed else 1.0) * (impact + exploitability), 10.0)
    # Round up to one decimal, without what floating point adds (specification, appendix A).
    whole = round(score * 100_000)
    return whole / 100_000 if whole % 10_000 == 0 else (whole // 10_000 + 1) / 10.0


def of_advisory(record: dict[str, Any]) -> tuple[str, float, str]:
    """(severity, CVSS 3 score or 0.0, its vector) of an OSV record, from the first of these that it has: a CVSS 3
    vector, a word of its database, a word of an affected package (Debian's urgency among them)."""
    for told in _dicts(record.get("severity")):
        vector = told.get("score")
        if told.get("type") == "CVSS_V3" and isinstance(vector, str):
            try:
                score = cvss3(vector)
            except ValueError:
                continue
            return of_score(score), score, vector
    words = [_dict(record.get("database_specific")).get("severity")]
    words += [told.get("score") for told in _dicts(record.get("severity"))]
    for affected in _dicts(record.get("affected")):
        specific = _dict(affected.get("ecosystem_specific"))
        words += [specific.get("severity"), specific.get("urgency")]
    return max((of_word(word) for word in words), key=RANK.__getitem__), 0.0, ""


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
