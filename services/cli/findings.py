"""What a scan found, as a table, as JSON and as SARIF. Values in, text out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

from contracts.records.scanner import SEVERITIES

NARROW, WIDE, LEAST = 80, 120, 12
_SARIF = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {"CRITICAL": "error", "HIGH": "error", "MEDIUM": "warning"}
_SCORES = {"CRITICAL": "9.5", "HIGH": "8.0", "MEDIUM": "5.5", "LOW": "2.0"}
"""GitHub's `security-severity` for what has no score, in the middle of the severity's range.
https://docs.github.com/en/code-security/code-scanning/integrating-with-code-scanning/sarif-support-for-code-scanning"""

Found = dict[str, Any]


def failing(images: Iterable[Found], fail_on: str, *, fixable_only: bool, secrets: bool = False) -> list[Found]:
    """What fails a pipeline: findings of this severity or worse, not suppressed; and, of `secrets`, what is in the
    images that should not be."""
    images, least = list(images), SEVERITIES.index(fail_on)
    found = [each for image in images for each in image["problems"]] if secrets else []
    return [each for each in found if SEVERITIES.index(each["severity"]) >= least] + [
        finding
        for image in images
        for finding in image["findings"]
        if not finding["suppressed"]
        and SEVERITIES.index(finding["severity"]) >= least
        and (finding["fixed"] or not fixable_only)
    ]


def counts(findings: Iterable[Found]) -> str:
    """Findings by severity, in words."""
    counted = Counter(finding["severity"] for finding in findings)
    return ", ".join(f"{counted[name]} {name}" for name in reversed(SEVERITIES) if counted[name]) or "no findings"


def table(images: Sequence[Found], width: int) -> str:
    """All images, one below the other, each line at most so wide."""
    return "\n\n".join("\n".join(_image(image, min(max(width, NARROW), WIDE))) for image in images)


def _image(image: Found, width: int) -> list[str]:
    name = f"{image['repository']}@{image['digest'][:19]}"
    if image["error"]:
        return [f"{name}: could not be scanned: {image['error']}"]
    counted = [finding for finding in image["findings"] if not finding["suppressed"]]
    suppressed = [finding for finding in image["findings"] if finding["suppressed"]]
    lines = [f"{name}: {counts(counted)} in {image['packages']} packages"]
    rows = [
        (each["severity"], each["name"], each["package"], each["version"], each["fixed"] or "-") for each in counted
    ]
    lines += _rows(("SEVERITY", "FINDING", "PACKAGE", "INSTALLED", "FIXED IN"), rows, width)
    if image["problems"]:
        lines += ["", f"Secrets and misconfiguration: {counts(image['problems'])}"]
        told = [
            (each["severity"], each["rule"], _place(each), each["shown"] or each["title"]) for each in image["problems"]
        ]
        lines += _rows(("SEVERITY", "RULE", "PLACE", "WHAT"), told, width)
    if suppressed:
        lines += ["", f"Suppressed: {len(suppressed)}"]
        told = [(each["severity"], each["name"], each["package"], each["suppressed"]) for each in suppressed]
        lines += _rows(("SEVERITY", "FINDING", "PACKAGE", "REASON"), told, width)
    _, semicolon, unjudged = image["description"].partition("; ")
    return [*lines, "", f"Not judged: {unjudged}"] if semicolon else lines


def _place(problem: Found) -> str:
    line = f":{problem['line']}" if problem["line"] else ""
    return f"{'/' if problem['layer'] else ''}{problem['path']}{line}"


def _rows(head: tuple[str, ...], rows: list[tuple[str, ...]], width: int) -> list[str]:
    """Columns as wide as what is in them; the widest give way where there is not enough room, the second (what it is)
    last."""
    if not rows:
        return []
    widths = [max(len(line[at]) for line in [head, *rows]) for at in range(len(head))]
    while sum(widths) + 2 * (len(widths) - 1) > width:
        rest = max((at for at in range(len(widths)) if at != 1), key=widths.__getitem__)
        widths[rest if widths[rest] > LEAST else 1] -= 1
    return [
        "  ".join(_fit(text, room) for text, room in zip(line, widths, strict=True)).rstrip() for line in [head, *rows]
    ]


def _fit(text: str, room: int) -> str:
    return text.ljust(room) if len(text) <= room else text[: room - 1] + "…"


def sarif(images: Sequence[Found], version: str) -> str:
    """SARIF 2.1.0, one run; suppressed findings have their suppression.
    https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html"""
    rules: dict[str, Found] = {}
    results = []
    for image in images:
        for finding in image["findings"]:
            rule = rules.setdefault(finding["name"], _rule(finding))
            results.append(_result(image, finding, list(rules).index(rule["id"])))
        for problem in image["problems"]:
            rule = rules.setdefault(problem["rule"], _problem_rule(problem))
            results.append(_problem_result(image, problem, list(rules).index(rule["id"])))
    errors = [image for image in images if image["error"]]
    run = {
        "tool": {"driver": {"name": "Roadstead", "version": version, "rules": list(rules.values())}},
        "invocations": [
            {
                "executionSuccessful": not errors,
                "toolExecutionNotifications": [
                    {"level": "error", "message": {"text": f"{each['repository']}@{each['digest']}: {each['error']}"}}
                    for each in errors
                ],
            }
        ],
        "results": results,
    }
    return json.dumps({"$schema": _SARIF, "version": "2.1.0", "runs": [run]}, indent=2)


def _problem_rule(problem: Found) -> Found:
    like = {"name": problem["rule"], "description": problem["title"].partition(":")[0], "uri": ""}
    return _rule({**like, "severity": problem["severity"]})


def _problem_result(image: Found, problem: Found, rule: int) -> Found:
    shown = f" ({problem['shown']})" if problem["shown"] else ""
    return {
        "ruleId": problem["rule"],
        "ruleIndex": rule,
        "level": _LEVELS.get(problem["severity"], "note"),
        "message": {"text": f"{problem['title']}{shown} in {_place(problem)}"},
        "locations": [_location(image, problem["path"], problem["line"] or 1)],
        "partialFingerprints": {"finding/v1": f"{problem['rule']}/{problem['path']}/{problem['line']}"},
        "properties": {"layer": problem["layer"]},
    }


def _location(image: Found, path: str, line: int) -> Found:
    return {
        "physicalLocation": {"artifactLocation": {"uri": quote(path)}, "region": {"startLine": line}},
        "logicalLocations": [{"fullyQualifiedName": f"{image['repository']}@{image['digest']}", "kind": "module"}],
    }


def _rule(finding: Found) -> Found:
    score = finding.get("score") or 0.0
    rule: Found = {
        "id": finding["name"],
        "shortDescription": {"text": finding["description"] or finding["name"]},
        "defaultConfiguration": {"level": _LEVELS.get(finding["severity"], "note")},
        "properties": {
            "tags": ["security", finding["severity"]],
            "security-severity": f"{score:.1f}" if score else _SCORES.get(finding["severity"], "0.0"),
        },
    }
    return {**rule, "helpUri": finding["uri"]} if finding["uri"] else rule


def _result(image: Found, finding: Found, rule: int) -> Found:
    fixed = f"; fixed in {finding['fixed']}" if finding["fixed"] else "; no fix is known"
    result: Found = {
        "ruleId": finding["name"],
        "ruleIndex": rule,
        "level": _LEVELS.get(finding["severity"], "note"),
        "message": {
            "text": f"{finding['package']} {finding['version']} has {finding['name']} ({finding['severity']}){fixed}"
        },
        "locations": [_location(image, finding["path"] or finding["package"], 1)],
        "partialFingerprints": {
            "finding/v1": "/".join((finding["name"], finding["package"], finding["version"], finding["path"]))
        },
        "properties": {"package": finding["package"], "version": finding["version"], "layer": finding["layer"]},
    }
    if finding["suppressed"]:
        result["suppressions"] = [{"kind": "external", "justification": finding["suppressed"]}]
    return result
