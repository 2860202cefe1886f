"""The text of a lifecycle policy: read, and refused when it is none.

https://docs.aws.amazon.com/AmazonECR/latest/userguide/lifecycle_policy_parameters.html
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

MAX_RULES = 50
MAX_WILDCARDS = 4
MAX_DESCRIPTION = 256
_COUNT_TYPES = ("imageCountMoreThan", "sinceImagePushed", "sinceImagePulled", "sinceImageTransitioned")
_SELECTION = frozenset(
    {"tagStatus", "tagPatternList", "tagPrefixList", "storageClass", "countType", "countUnit", "countNumber"}
)


class BadLifecycle(ValueError):
    """The text is no lifecycle policy. The message says what is wrong, naming the member."""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule. storage: standard | archive, of the images it selects. `count` is a number of images or of days, by
    `count_type`. `archive`: what it finds is archived, and not deleted."""

    priority: int
    tag_status: str
    count_type: str
    count: int
    prefixes: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    storage: str = "standard"
    archive: bool = False


@lru_cache(maxsize=256)
def read_lifecycle(text: str) -> tuple[Rule, ...]:
    """The rules in this text, by priority. Raises BadLifecycle."""
    try:
        given = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError):
        raise BadLifecycle("the policy is not valid JSON") from None
    _object(given, "policy", {"rules"})
    if not isinstance(given.get("rules"), list) or not 1 <= len(given["rules"]) <= MAX_RULES:
        raise BadLifecycle(f"rules must be an array of 1 to {MAX_RULES} rules")
    rules = tuple(sorted((_rule(each, n) for n, each in enumerate(given["rules"])), key=lambda rule: rule.priority))
    _check_together(rules)
    return rules


def _rule(given: Any, number: int) -> Rule:
    where = f"rules[{number}]"
    _object(given, where, {"rulePriority", "description", "selection", "action"})
    for member in ("rulePriority", "selection", "action"):
        if member not in given:
            raise BadLifecycle(f"{where}.{member} is required")
    description = given.get("description", "")
    if not isinstance(description, str) or len(description) > MAX_DESCRIPTION:
        raise BadLifecycle(f"{where}.description must be a string of at most {MAX_DESCRIPTION} characters")
    selection = given["selection"]
    _object(selection, f"{where}.selection", _SELECTION)
    where = f"{where}.selection"
    status = _one_of(selection, "tagStatus", ("tagged", "untagged", "any"), where)
    count_type = _one_of(selection, "countType", _COUNT_TYPES, where)
    storage = _one_of(selection, "storageClass", ("standard", "archive"), where, default="standard")
    prefixes, patterns = _tags(selection, status, where)
    _check_unit(selection, count_type, where)
    if storage != ("archive" if count_type == "sinceImageTransitioned" else "standard"):
        raise BadLifecycle(f"{where}.storageClass '{storage}' does not go with countType '{count_type}'")
    return Rule(
        priority=_number(given, "rulePriority", f"rules[{number}]"),
        tag_status=status,
        count_type=count_type,
        count=_number(selection, "countNumber", where),
        prefixes=prefixes,
        patterns=patterns,
        storage=storage,
        archive=_archives(given["action"], storage, f"rules[{number}].action"),
    )


def _object(given: Any, where: str, members: set[str] | frozenset[str]) -> None:
    if not isinstance(given, dict):
        raise BadLifecycle(f"{where} must be an object")
    unknown = sorted(set(given) - members)
    if unknown:
        raise BadLifecycle(f"{where} has unknown members: {', '.join(unknown)}")


def _one_of(given: dict[str, Any], member: str, values: tuple[str, ...], where: str, default: str | None = None) -> str:
    value = given.get(member, default)
    if value not in values:
        raise BadLifecycle(f"{where}.{member} must be one of {', '.join(values)}")
    return str(value)


def _number(given: dict[str, Any], member: str, where: str) -> int:
    value = given.get(member)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise BadLifecycle(f"{where}.{member} must be an integer of at least 1")
    return value


def _tags(selection: dict[str, Any], status: str, where: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    named = [member for member in ("tagPrefixList", "tagPatternList") if member in selection]
    if status != "tagged" and named:
        raise BadLifecycle(f"{where}.{named[0]} goes with tagStatus 'tagged' only")
    if status == "tagged" and len(named) != 1:
        raise BadLifecycle(f"{where} needs tagPrefixList or tagPatternList, and not both, with tagStatus 'tagged'")
    found: dict[str, tuple[str, ...]] = {}
    for member in named:
        values = selection[member]
        if not isinstance(values, list) or not values or not all(isinstance(v, str) and v for v in values):
            raise BadLifecycle(f"{where}.{member} must be an array of strings that are not empty")
        found[member] = tuple(values)
    patterns = found.get("tagPatternList", ())
    if any(pattern.count("*") > MAX_WILDCARDS for pattern in patterns):
        raise BadLifecycle(f"{where}.tagPatternList: a pattern has at most {MAX_WILDCARDS} wildcards (*)")
    return found.get("tagPrefixList", ()), patterns


def _check_unit(selection: dict[str, Any], count_type: str, where: str) -> None:
    unit = selection.get("countUnit")
    if count_type == "imageCountMoreThan":
        if "countUnit" in selection:
            raise BadLifecycle(f"{where}.countUnit does not go with countType 'imageCountMoreThan'")
    elif unit != "days":
        raise BadLifecycle(f"{where}.countUnit must be 'days' with countType '{count_type}'")


def _archives(action: Any, storage: str, where: str) -> bool:
    _object(action, where, {"type", "targetStorageClass"})
    kind = _one_of(action, "type", ("expire", "transition"), where)
    if kind == "expire":
        if "targetStorageClass" in action:
            raise BadLifecycle(f"{where}.targetStorageClass goes with type 'transition' only")
        return False
    _one_of(action, "targetStorageClass", ("archive",), where)
    if storage == "archive":
        raise BadLifecycle(f"{where}.type 'transition' is for images of storageClass 'standard'")
    return True


def _check_together(rules: tuple[Rule, ...]) -> None:
    """What holds between the rules; those of each storage class are apart."""
    if len({rule.priority for rule in rules}) != len(rules):
        raise BadLifecycle("rulePriority must be another one in each rule")
    for storage in ("standard", "archive"):
        own = [rule for rule in rules if rule.storage == storage]
        for status in ("any", "untagged"):
            if sum(rule.tag_status == status for rule in own) > 1:
                raise BadLifecycle(f"only one rule may have tagStatus '{status}' (storageClass '{storage}')")
        if any(rule.tag_status == "any" for rule in own[:-1]):
            raise BadLifecycle("a rule with tagStatus 'any' must have the highest rulePriority")
        prefixes = [frozenset(rule.prefixes) for rule in own if rule.prefixes]
        if len(set(prefixes)) != len(prefixes):
            raise BadLifecycle("there is more than one rule with the same tagPrefixList")
