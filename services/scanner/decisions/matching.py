"""What is known of the packages of an image: which ecosystem's advisories to ask, and what comes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from services.scanner.decisions.ecosystems import APK, DPKG, RPM, ecosystems
from services.scanner.decisions.layers import Contents, Installed, unreadable
from services.scanner.decisions.osv import Affected, Detail, judge, package_name
from services.scanner.decisions.packages import Package
from services.scanner.decisions.severities import RANK
from services.scanner.decisions.versions import COMPARE

NAMED = 5
"""How many findings of each severity a scan's record names."""

Finding = dict[str, Any]
"""contracts.rpc.scanner.Finding, in plain JSON."""


class Known(NamedTuple):
    """A vulnerability that an advisory tells of, and what the advisory says of a package. `exploited` is the day on
    which it became known to be exploited, empty when it is not known to be; `detail` reads what else there is."""

    advisory: str
    name: str
    severity: str
    score: float
    vector: str
    affected: Affected
    detail: Callable[[], Detail] = Detail
    exploited: str = ""


Lookup = Callable[[str, str], Iterable[Known]]
"""What is known of (ecosystem, package)."""


class Question(NamedTuple):
    """What the index is asked for a package: the same for all images that have it."""

    kind: str
    ecosystems: tuple[str, ...]
    name: str
    version: str


class Answer(NamedTuple):
    """Findings without their place in an image; whether some version could not be compared."""

    findings: list[Finding]
    odd: bool


class Place(NamedTuple):
    """Where in an image a package is: what is told of it with a finding."""

    kind: str
    package: str
    version: str
    source: str
    path: str
    layer: str


def questions(package: Package, release: dict[str, str]) -> list[Question]:
    """What to ask for a package. Debian's and Alpine's advisories speak of source packages; those of RPM distributions
    of packages or of what they were built of, each in its own way."""
    asked = tuple(ecosystems(package.kind, release))
    if not asked:
        return []
    named = [(package.source or package.name, package.source_version or package.version)]
    if package.kind == RPM:
        named.insert(0, (package.name, package.version))
    elif package.kind not in (DPKG, APK):
        named = [(package.name, package.version)]
    names = [(package_name(asked[0], name), version) for name, version in named]
    return [Question(package.kind, asked, name, version) for name, version in dict.fromkeys(names)]


def place_of(installed: Installed) -> Place:
    """Where a package is."""
    package = installed.package
    source = (package.source or package.name) if package.kind in (DPKG, APK, RPM) else ""
    return Place(package.kind, package.name, package.version, source, installed.path, installed.layer)


def answer(question: Question, lookup: Lookup) -> Answer:
    """What comes of a question. A vulnerability that several advisories tell of is one finding."""
    compare = COMPARE.get(question.kind)
    found: dict[str, Finding] = {}
    odd = False
    for ecosystem in question.ecosystems:
        for known in lookup(ecosystem, question.name):
            try:
                if compare is None:
                    raise ValueError(f"versions of {question.kind} are not compared")
                fixed = judge(question.version, known.affected, compare)
            except ValueError:  # one odd advisory hides no other
                odd = True
                continue
            if fixed is not None:
                finding = _finding(question.kind, ecosystem, known, fixed)
                found[known.name] = _better(found[known.name], finding) if known.name in found else finding
    return Answer(list(found.values()), odd)


def _finding(kind: str, ecosystem: str, known: Known, fixed: str) -> Finding:
    detail = known.detail()
    aliases = [known.advisory, *(each for each in detail.aliases if not each.startswith("CVE-"))]
    return {
        "name": known.name,
        "severity": known.severity,
        "ecosystem": ecosystem,
        "advisory": known.advisory,
        "aliases": [each for each in dict.fromkeys(aliases) if each != known.name],
        "description": detail.summary,
        "uri": _uri(kind, known.name),
        "fixed": fixed,
        "score": known.score,
        "vector": known.vector,
        "exploited": known.exploited,
    }


_URI = {
    DPKG: "https://security-tracker.debian.org/tracker/{}",
    APK: "https://security.alpinelinux.org/vuln/{}",
}


def _uri(kind: str, name: str) -> str:
    if not name.startswith("CVE-"):
        return f"https://osv.dev/vulnerability/{name}"
    return _URI.get(kind, "https://nvd.nist.gov/vuln/detail/{}").format(name)


def _better(one: Finding, other: Finding) -> Finding:
    """Of two advisories on one vulnerability: the worse severity, the better words, a fix if one knows of it."""
    worse, less = (other, one) if RANK[other["severity"]] > RANK[one["severity"]] else (one, other)
    filled = {name: less[name] for name in ("description", "fixed", "score", "vector", "exploited") if not worse[name]}
    return {**worse, **filled, "aliases": list(dict.fromkeys([*worse["aliases"], *less["aliases"]]))}


def placed(finding: Finding, place: Place) -> Finding:
    """A finding in an image."""
    where = {"package": place.package, "version": place.version, "source": place.source}
    return {**finding, **where, "path": place.path, "layer": place.layer}


class Matched(NamedTuple):
    """What was found in an image, the worst first; the packages (name, version, path) that could not be compared."""

    findings: list[Finding]
    odd: list[list[str]]


Answers = Callable[[Question], Answer]


def remembering(lookup: Lookup) -> Answers:
    """Asks each question once: many packages are built of one source, and images share packages."""
    known: dict[Question, Answer] = {}

    def ask(question: Question) -> Answer:
        if question not in known:
            known[question] = answer(question, lookup)
        return known[question]

    return ask


def match(contents: Contents, ask: Answers) -> Matched:
    """Everything in an image is looked up."""
    return match_again(Matched([], []), all_questions(contents), ask)


def match_again(before: Matched, asked: Iterable[tuple[Place, Question]], ask: Answers) -> Matched:
    """What there is when the places of `asked` are looked up anew, with all their questions, and the others are as they
    were."""
    asked = list(asked)
    touched = {(place.package, place.version, place.path) for place, _ in asked}
    found: dict[tuple[str, ...], Finding] = {}
    for finding in before.findings:
        if (finding["package"], finding["version"], finding["path"]) not in touched:
            found[_key(finding)] = finding
    odd = {(each[0], each[1], each[2]): None for each in before.odd if (each[0], each[1], each[2]) not in touched}
    for place, question in asked:
        told = ask(question)
        if told.odd:
            odd[place.package, place.version, place.path] = None
        for finding in told.findings:
            finding = placed(finding, place)
            key = _key(finding)
            found[key] = _better(found[key], finding) if key in found else finding
    return Matched(sorted(found.values(), key=order), [list(each) for each in sorted(odd)])


def _key(finding: Finding) -> tuple[str, ...]:
    return finding["name"], finding["package"], finding["version"], finding["path"]


def order(finding: Finding) -> tuple[Any, ...]:
    """The order in which findings are told: the worst first."""
    return (-RANK[finding["severity"]], *_key(finding))


def summary(found: list[Finding]) -> dict[str, Any]:
    """What the scan's record says of its findings: {counts, fixable, named} by severity. Takes them in order."""
    counts: dict[str, int] = {}
    fixable: dict[str, int] = {}
    named: dict[str, list[str]] = {}
    for finding in [*(f for f in found if f["fixed"]), *(f for f in found if not f["fixed"])]:
        severity = finding["severity"]
        counts[severity] = counts.get(severity, 0) + 1
        if finding["fixed"]:
            fixable[severity] = fixable.get(severity, 0) + 1
        names = named.setdefault(severity, [])
        if len(names) < NAMED and finding["name"] not in names:
            names.append(finding["name"])
    exploited = sum(1 for finding in found if finding.get("exploited"))
    return {"counts": counts, "fixable": fixable, "named": named, "exploited": exploited}


class Tally(NamedTuple):
    """What is asked about an image: (the ecosystems, how they are called, how many packages); and, in words, what of it
    could not be read."""

    asked: list[tuple[list[str], str, int]]
    notes: list[str]


def tally(contents: Contents) -> Tally:
    """The packages of an image by where they are looked up."""
    counted: dict[tuple[str, ...], int] = {}
    for installed in contents.packages:
        asked = tuple(ecosystems(installed.package.kind, contents.release))
        counted[asked] = counted.get(asked, 0) + 1
    unknown = contents.release.get("PRETTY_NAME") or "an unknown system"
    links = f"{contents.unread} files of packages are hard links and were not read" if contents.unread else ""
    notes = [each for each in (links, unreadable(contents)) if each]
    return Tally([(list(asked), asked[0] if asked else unknown, n) for asked, n in counted.items()], notes)


def unjudged(told: Tally, covered: Callable[[str], bool], odd: int) -> str:
    """What the scan could not judge, in words; empty when there is nothing."""
    missing: dict[str, int] = {}
    for asked, name, count in told.asked:
        if not any(covered(ecosystem) for ecosystem in asked):
            missing[name] = missing.get(name, 0) + count
    words = [f"no advisories for {name} ({count} packages not judged)" for name, count in sorted(missing.items())]
    words += told.notes
    if odd:
        words.append(f"{odd} packages have versions that can't be compared")
    return "; ".join(words)


def difference(before: list[Finding], after: list[Finding]) -> tuple[list[Finding], list[Finding]]:
    """(findings that are new, findings that are gone)."""
    old, new = {_key(finding) for finding in before}, {_key(finding) for finding in after}
    return [f for f in after if _key(f) not in old], [f for f in before if _key(f) not in new]


def all_questions(contents: Contents) -> Iterator[tuple[Place, Question]]:
    """Everything that is asked about an image."""
    for installed in contents.packages:
        place = place_of(installed)
        for question in questions(installed.package, contents.release):
            yield place, question
