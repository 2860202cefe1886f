"""Lifecycle policies: which images go, by which rule.

https://docs.aws.amazon.com/AmazonECR/latest/userguide/LifecyclePolicies.html ("How lifecycle policies work"): rules are
gone through by priority; an image whose tags fit to a rule is not touched by the rules after it, which still count it;
what is oldest goes first; a manifest that an index names stays until the index is gone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

import msgspec

from services.registry.decisions.lifecycle_text import Rule

DAY_S = 24 * 3600.0


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """What the rules look at of an image. `since` is when it was pushed, or brought back from the archive; `named_by`
    and `subject` are digests of the same repository: indexes that have it, and the image that it refers to."""

    digest: str
    since: float
    tags: tuple[str, ...] = ()
    pulled_at: float = 0.0
    archived: bool = False
    archived_at: float = 0.0
    named_by: tuple[str, ...] = ()
    subject: str | None = None


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """An image that is to go: `archive` it, or delete it. `priority` is the rule's, `tags` those it was judged by."""

    digest: str
    priority: int
    archive: bool
    tags: tuple[str, ...] = ()


def due(rules: Iterable[Rule], images: Sequence[Candidate], now: float, in_use: frozenset[str]) -> list[Due]:
    """What is to be done with the images of one repository, the oldest first. `in_use` are digests that running tasks
    need: they are counted and stay, and so does an index that names one of them.

    What refers to an image that is here (a signature, a bill of materials) is left out of all rules, and goes with it.
    """
    here = {image.digest for image in images}
    judged = [image for image in images if image.subject not in here]
    kept = _kept(images, in_use)
    claimed: set[str] = set()
    found: dict[str, Due] = {}
    for rule in sorted(rules, key=lambda rule: rule.priority):
        fitting = [image for image in judged if fits(rule, image)]
        for image in _over(rule, fitting, now):
            if image.digest not in claimed and image.digest not in kept:
                found[image.digest] = _due(rule, image)
        claimed.update(image.digest for image in fitting)
    ordered = [found[image.digest] for image in sorted(judged, key=_age) if image.digest in found]
    return _with_referrers(ordered, images, kept)


def _kept(images: Sequence[Candidate], in_use: frozenset[str]) -> set[str]:
    """What must stay whatever the rules say: what an index names, what is used, and every index that leads there."""
    parents = {image.digest: image.named_by for image in images}
    kept = {image.digest for image in images if image.named_by}
    waiting = [digest for digest in in_use if digest in parents]
    used: set[str] = set()
    while waiting:
        digest = waiting.pop()
        if digest not in used:
            used.add(digest)
            waiting += [parent for parent in parents[digest] if parent in parents]
    return kept | used


def fits(rule: Rule, image: Candidate) -> bool:
    """Whether an image has the storage class and the tags that a rule is about. Each prefix or pattern of a list must
    fit to some tag of it."""
    if image.archived != (rule.storage == "archive"):
        return False
    if rule.tag_status == "any":
        return True
    if rule.tag_status == "untagged":
        return not image.tags
    prefixes = all(any(tag.startswith(prefix) for tag in image.tags) for prefix in rule.prefixes)
    return bool(image.tags) and prefixes and all(_some(pattern, image.tags) for pattern in rule.patterns)


def _some(pattern: str, tags: tuple[str, ...]) -> bool:
    compiled = _compiled(pattern)
    return any(compiled.fullmatch(tag) for tag in tags)


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, pattern.split("*"))))


def _age(image: Candidate) -> tuple[float, str]:
    """The oldest first; the digest decides between images of the same moment, so that the answer is always one."""
    return image.since, image.digest


def _over(rule: Rule, fitting: list[Candidate], now: float) -> list[Candidate]:
    """Those of the fitting images that are too many, or too old."""
    if rule.count_type == "imageCountMoreThan":
        oldest = sorted(fitting, key=_age)
        return oldest[: max(len(oldest) - rule.count, 0)]
    before = now - rule.count * DAY_S
    return [image for image in fitting if _moment(rule.count_type, image) < before]


def _moment(count_type: str, image: Candidate) -> float:
    if count_type == "sinceImagePulled":
        return max(image.pulled_at, image.since)
    return image.archived_at if count_type == "sinceImageTransitioned" else image.since


def _due(rule: Rule, image: Candidate) -> Due:
    return Due(digest=image.digest, priority=rule.priority, archive=rule.archive, tags=image.tags)


def _with_referrers(ordered: list[Due], images: Sequence[Candidate], kept: set[str]) -> list[Due]:
    """Each image that goes, followed by what refers to it, and by what refers to that."""
    referring: dict[str, list[Candidate]] = {}
    for image in images:
        if image.subject is not None:
            referring.setdefault(image.subject, []).append(image)
    found: dict[str, Due] = {}
    waiting = list(reversed(ordered))
    while waiting:
        next_one = waiting.pop()
        if next_one.digest in found:
            continue
        found[next_one.digest] = next_one
        for image in sorted(referring.get(next_one.digest, []), key=_age):
            if image.digest not in kept and not (next_one.archive and image.archived):
                waiting.append(msgspec.structs.replace(next_one, digest=image.digest, tags=image.tags))
    return list(found.values())
