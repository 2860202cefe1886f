"""OpenVEX documents, taken as suppressions. https://github.com/openvex/spec/blob/main/OPENVEX-SPEC.md

`not_affected` and `fixed` suppress what they are of; a later `affected` or `under_investigation` on the same takes that
back. Products are images (`pkg:oci/…`, or a SHA-256 among their hashes), with packages as subcomponents, or packages in
any image.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote

from contracts.records.scanner import Suppression
from services.scanner.decisions.suppressions import TEXT_LIMIT, BadSuppression, made

MOST = 10_000
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_STATUSES = ("not_affected", "affected", "fixed", "under_investigation")
_OF_SYSTEM = ("deb", "apk", "rpm")


class Taken(NamedTuple):
    """What a document comes to: suppressions, those that it takes back (by id), and what could not be used."""

    suppressions: list[Suppression]
    lifted: list[str]
    skipped: list[str]


class _Unknown(ValueError):
    """A product that can't be recognised."""


def read(document: Any, account: str, region: str, by: str, now: float) -> Taken:
    """What a document says, for an account's images. Raises BadSuppression for one that is no OpenVEX."""
    if not isinstance(document, dict) or "openvex" not in str(document.get("@context", "")):
        raise BadSuppression("this is no OpenVEX document: its @context does not say so")
    statements = document.get("statements")
    if not isinstance(statements, list):
        raise BadSuppression("statements: a list is missing")
    source, stamp = str(document.get("@id", ""))[:TEXT_LIMIT], str(document.get("timestamp", ""))
    latest: dict[str, tuple[str, str, Suppression]] = {}
    skipped = []
    for number, statement in enumerate(statements, 1):
        try:
            for status, suppression in _statement(statement, account, region, by, now, source):
                when = str(statement.get("timestamp") or stamp)
                if suppression.id not in latest or latest[suppression.id][0] <= when:
                    latest[suppression.id] = (when, status, suppression)
        except ValueError as error:
            skipped.append(f"statement {number}: {error}")
    if len(latest) > MOST:
        raise BadSuppression(f"the document is of more than {MOST} findings")
    closed = [each for _, status, each in latest.values() if status in ("not_affected", "fixed")]
    lifted = [each.id for _, status, each in latest.values() if status not in ("not_affected", "fixed")]
    return Taken(closed, lifted, skipped)


def _statement(
    statement: Any, account: str, region: str, by: str, now: float, source: str
) -> list[tuple[str, Suppression]]:
    if not isinstance(statement, dict) or statement.get("status") not in _STATUSES:
        raise ValueError(f"its status is none of {', '.join(_STATUSES)}")
    status = statement["status"]
    name, aliases = _vulnerability(statement.get("vulnerability"))
    products = statement.get("products")
    if not isinstance(products, list) or not products:
        raise ValueError("it names no product")
    words = [str(statement.get(each) or "") for each in ("justification", "impact_statement", "status_notes")]
    reason = ": ".join(filter(None, [status, *words]))[:TEXT_LIMIT]
    if status == "not_affected" and not any(words[:2]):
        raise ValueError("not_affected without justification or impact_statement")
    return [
        (
            status,
            made(
                account=account,
                region=region,
                advisory=name,
                aliases=aliases,
                reason=reason,
                by=by,
                created_at=now,
                source=source,
                **scope,
            ),
        )
        for product in products
        for scope in _scopes(product)
    ]


def _vulnerability(told: Any) -> tuple[str, list[str]]:
    if isinstance(told, str):  # before 0.2.0
        told = {"name": told}
    name = told.get("name") if isinstance(told, dict) else None
    if not isinstance(name, str) or not 0 < len(name) <= TEXT_LIMIT:
        raise ValueError("it names no vulnerability")
    aliases = told.get("aliases") if isinstance(told, dict) else None
    return name, [each for each in aliases or [] if isinstance(each, str)][:20]


def _scopes(product: Any) -> list[dict[str, str]]:
    """What a product is of; each of its subcomponents, where it has some."""
    scope = _component(product)
    parts = product.get("subcomponents") if isinstance(product, dict) else None
    if not isinstance(parts, list) or not parts:
        return [scope]
    inside = [_component(part) for part in parts]
    if any("package" not in each for each in inside):
        raise ValueError("a subcomponent is no package")
    return [{**scope, **each} for each in inside]


def _component(component: Any) -> dict[str, str]:
    if isinstance(component, str):
        component = {"@id": component}
    if not isinstance(component, dict):
        raise _Unknown("a product can't be read")
    identifiers, hashes = component.get("identifiers"), component.get("hashes")
    found = (identifiers or {}).get("purl") if isinstance(identifiers, dict) else None
    url = found or component.get("@id") or ""
    if isinstance(url, str) and url.startswith("pkg:"):
        return _of_purl(url)
    told = next((hashes[name] for name in ("sha-256", "sha256") if isinstance(hashes, dict) and name in hashes), "")
    if isinstance(told, str) and _DIGEST.match(f"sha256:{told}"):
        return {"digest": f"sha256:{told}"}
    raise _Unknown(f"the product {str(url)[:100]!r} is neither a package URL nor has it a SHA-256")


def _of_purl(url: str) -> dict[str, str]:
    """https://github.com/package-url/purl-spec"""
    if len(url) > TEXT_LIMIT:
        raise _Unknown("a package URL is too long")
    body, _, query = url.partition("#")[0].partition("?")
    kind, _, rest = body.removeprefix("pkg:").strip("/").partition("/")
    kind = kind.lower()
    path, at, version = rest.rpartition("@")
    if not at or "/" in version:
        path, version = rest, ""
    names = [unquote(each) for each in path.strip("/").split("/") if each]
    if not names:
        raise _Unknown(f"the package URL {url!r} names nothing")
    qualifiers = {name: values[0] for name, values in parse_qs(query).items()}
    version = unquote(version)
    if kind == "oci":
        return _of_image(names[-1], version, qualifiers)
    if kind in _OF_SYSTEM:
        name = names[-1]
        if kind == "rpm" and qualifiers.get("epoch", "0") != "0" and version:
            version = f"{qualifiers['epoch']}:{version}"
    else:
        name = (":" if kind == "maven" else "/").join(names)
    return {"package": name, "ecosystem": kind} | ({"version": version} if version else {})


def _of_image(name: str, version: str, qualifiers: dict[str, str]) -> dict[str, str]:
    if _DIGEST.match(version):
        return {"digest": version}
    if version:
        raise _Unknown(f"the image {name} is named by {version!r}, not by its digest")
    _, slash, path = qualifiers.get("repository_url", "").partition("/")
    return {"repository": path if slash else name}
