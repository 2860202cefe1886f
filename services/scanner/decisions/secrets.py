"""Secrets that lie in an image: in files of its layers, in its environment, in how it was built.

What is looked for has a published form, with a checksum or enough randomness where the form alone says little; what is
told of it is where it is and how it begins, never the secret. Documentation, certificates of authorities and tests of
libraries are passed over, and so are the examples that vendors print.

    https://docs.github.com/en/authentication/keeping-your-account-and-data-secure/about-authentication-to-github
    https://docs.gitlab.com/ee/security/tokens/
    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-unique-ids
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

FILE_LIMIT = 1 << 20
"""The largest text file that is searched (bytes)."""
FILE_MOST, LAYER_MOST = 20, 500
"""So many are told of a file, and of a layer."""
NEAR = 400
"""How far from an access key its secret is looked for (bytes)."""
_BINARY = 4096

_SKIPPED = re.compile(
    r"(?:^|/)usr/(?:share|lib)/(?:doc|man|info|locale|i18n|zoneinfo|ca-certificates|perl|perl5|terminfo|mime|licenses"
    r"|common-licenses|lintian|bash-completion|icons|fonts|python3/dist-packages/.*/tests?)/"
    r"|(?:^|/)etc/ssl/certs/|(?:^|/)etc/pki/ca-trust/|(?:^|/)var/lib/(?:dpkg|apt|rpm|apk)/|(?:^|/)lib/apk/db/"
    r"|(?:^|/)(?:tests?|testdata|__tests__|fixtures|spec|examples?|__pycache__)/"
    r"|_test\.go$|\.(?:pyc|so|a|o|gz|xz|bz2|zip|jar|png|jpe?g|gif|ico|woff2?|ttf|pdf|mo|html?|css|min\.js|map|md|rst|svg)$"
)


class Secret(NamedTuple):
    """A secret, and where: `line` counts from 1. `shown` is what may be told of it."""

    rule: str
    title: str
    severity: str
    path: str
    line: int
    shown: str


class _Rule(NamedTuple):
    """`needle` must be there before `pattern` is tried at all; `holds` judges its last group, or all of it."""

    name: str
    title: str
    severity: str
    needle: bytes
    pattern: re.Pattern[bytes]
    holds: Callable[[bytes], bool] = lambda text: True


def _random(bits: float) -> Callable[[bytes], bool]:
    """Whether a text has at least so many bits a character: words and `xxxx` have fewer."""

    def holds(text: bytes) -> bool:
        counted = Counter(text)
        return -sum(n / len(text) * math.log2(n / len(text)) for n in counted.values()) >= bits

    return holds


_BASE62 = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def _github(token: bytes) -> bool:
    """The last six characters are the CRC-32 of those between, in base 62.
    https://github.blog/engineering/platform-security/behind-githubs-new-authentication-token-formats/"""
    value, digits = zlib.crc32(token[4:-6]), b""
    while value:
        value, digit = divmod(value, 62)
        digits = _BASE62[digit : digit + 1] + digits
    return digits.rjust(6, b"0") == token[-6:]


def _key_body(text: bytes) -> bool:
    """Whether there is a key, not its frame alone."""
    return re.search(rb"[A-Za-z0-9+/]{32}", text.partition(b"KEY")[2]) is not None


_RULES = (
    _Rule(
        "private-key", "Private key", "CRITICAL", b"PRIVATE KEY",
        re.compile(rb"-----BEGIN (?:(?:RSA|EC|DSA|OPENSSH|ENCRYPTED|PGP) )?PRIVATE KEY(?: BLOCK)?-----[^-]{64,20000}"),
        _key_body,
    ),
    _Rule(
        "github-token", "GitHub token", "CRITICAL", b"gh",
        re.compile(rb"gh[pousr]_[A-Za-z0-9]{36}\b"), _github,
    ),
    _Rule(
        "github-fine-grained-token", "GitHub fine-grained token", "CRITICAL", b"github_pat_",
        re.compile(rb"github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}\b"), _random(4.0),
    ),
    _Rule(
        "gitlab-token", "GitLab token", "CRITICAL", b"gl",
        re.compile(rb"gl(?:pat|dt|rt|cbt|ptt|soat)-[A-Za-z0-9_-]{20,50}\b"), _random(3.0),
    ),
    _Rule(
        "slack-token", "Slack token", "HIGH", b"xox",
        re.compile(rb"xox[abprs]-[0-9]{8,13}-[0-9A-Za-z-]{16,100}\b"), _random(3.0),
    ),
    _Rule(
        "slack-webhook", "Slack webhook", "MEDIUM", b"hooks.slack.com",
        re.compile(rb"https://hooks\.slack\.com/services/T[A-Z0-9]{8,12}/B[A-Z0-9]{8,12}/([A-Za-z0-9]{24})\b"),
        _random(3.0),
    ),
    _Rule(
        "stripe-key", "Stripe secret key", "CRITICAL", b"k_live_",
        re.compile(rb"[sr]k_live_[A-Za-z0-9]{24,99}\b"), _random(3.0),
    ),
    _Rule(
        "google-api-key", "Google API key", "HIGH", b"AIza",
        re.compile(rb"AIza[0-9A-Za-z_-]{35}(?![0-9A-Za-z_-])"), _random(3.5),
    ),
    _Rule("npm-token", "npm token", "CRITICAL", b"npm_", re.compile(rb"npm_[A-Za-z0-9]{36}\b"), _github),
    _Rule(
        "pypi-token", "PyPI token", "CRITICAL", b"pypi-AgEI",
        re.compile(rb"pypi-AgEI[A-Za-z0-9_-]{70,300}"), _random(4.0),
    ),
)  # fmt: skip
_ACCESS_KEY = re.compile(rb"(?<![A-Z0-9])A[KS]IA[A-Z2-7]{16}(?![A-Z0-9])")
_SECRET_KEY = re.compile(rb"(?<![A-Za-z0-9/+=])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])")
_TOKEN = re.compile(
    rb"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{10,2000}\.(eyJ[A-Za-z0-9_-]{10,4000})\.[A-Za-z0-9_-]{20,1000}"
)
_NAMED = re.compile(r"(?:PASSW(?:OR)?D|SECRET|TOKEN|API_?KEY|PRIVATE_?KEY|CREDENTIALS?)(?:_|$)", re.IGNORECASE)
_PLAIN = re.compile(r"[$%{<]|^(?:|/.*|true|false|none|null|changeme|example|dummy|test|x+|\*+|\d{1,4})$", re.IGNORECASE)


def is_searched(path: str) -> bool:
    """Whether a file may hold a secret of whoever made the image."""
    return _SKIPPED.search(path) is None


def in_file(path: str, data: bytes) -> list[Secret]:
    """The secrets in a text file, at most FILE_MOST."""
    if len(data) > FILE_LIMIT or b"\0" in data[:_BINARY]:
        return []
    found: list[Secret] = []
    for secret in _all(path, data):
        if (secret.rule, secret.line) not in {(each.rule, each.line) for each in found}:
            found.append(secret)
        if len(found) == FILE_MOST:
            break
    return found


def _all(path: str, data: bytes) -> Iterator[Secret]:
    yield from _tokens(path, data)
    name = path.rpartition("/")[2]
    reader = _FILES.get(name) or (_FILES[".kube/config"] if path.endswith(".kube/config") else None)
    if reader is None and path.endswith(".docker/config.json"):
        reader = _docker_logins
    for title, severity, at in reader(data) if reader else ():
        yield Secret("stored-login", title, severity, path, _line(data, at), "…")


def _tokens(path: str, data: bytes) -> Iterator[Secret]:
    """What is told by its form alone."""
    for rule in _RULES:
        if rule.needle not in data:
            continue
        for match in rule.pattern.finditer(data):
            if rule.holds(match[match.lastindex or 0]):
                shown = _shown(match[0])
                yield Secret(rule.name, rule.title, rule.severity, path, _line(data, match.start()), shown)
    if b"AKIA" in data or b"ASIA" in data:
        yield from _access_keys(path, data)
    if b"eyJ" in data:
        yield from _web_tokens(path, data)


def _shown(text: bytes) -> str:
    """How a secret begins: its kind, and no more than that."""
    if text.startswith(b"-----"):
        return text.split(b"-----")[1].decode("ascii", "replace")
    return text[: 4 if len(text) < 60 else 8].decode("ascii", "replace") + "…"


def _line(data: bytes, at: int) -> int:
    return data.count(b"\n", 0, at) + 1


def _access_keys(path: str, data: bytes) -> Iterator[Secret]:
    """Ids alone are no secrets: with a secret key near them they are."""
    for match in _ACCESS_KEY.finditer(data):
        around = data[max(match.start() - NEAR, 0) : match.end() + NEAR]
        if not match[0].endswith(b"EXAMPLE") and any(map(_is_secret_key, _SECRET_KEY.findall(around))):
            shown = f"{match[0][:4].decode()}…{match[0][-4:].decode()}"
            title = "AWS access key with its secret"
            yield Secret("aws-access-key", title, "CRITICAL", path, _line(data, match.start()), shown)


def _is_secret_key(text: bytes) -> bool:
    kinds = (rb"[a-z]", rb"[A-Z]", rb"[0-9]")
    return b"EXAMPLE" not in text and all(re.search(kind, text) for kind in kinds) and _random(4.0)(text)


def _web_tokens(path: str, data: bytes) -> Iterator[Secret]:
    """JSON web tokens (RFC 7519) that say of whom they are; others are examples more often than not."""
    for match in _TOKEN.finditer(data):
        header, claims = _json(match[0].split(b".")[0]), _json(match[1])
        if header.get("alg", "none") != "none" and {"iss", "exp"} <= claims.keys():
            yield Secret("json-web-token", "JSON web token", "MEDIUM", path, _line(data, match.start()), "eyJ…")


def _json(text: bytes) -> dict[str, object]:
    try:
        told = json.loads(base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4)))
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


Login = tuple[str, str, int]
"""Title, severity, and at which byte."""


def _docker_logins(data: bytes) -> Iterator[Login]:
    try:
        auths = json.loads(data).get("auths", {})
        logins = [each.get("auth", "") for each in auths.values()]
        decoded = [base64.b64decode(each, validate=True) for each in logins if each]
    except (ValueError, AttributeError, TypeError, RecursionError, binascii.Error):
        return
    if any(login.partition(b":")[2] for login in decoded):
        yield "Login to a container registry", "HIGH", max(data.find(b'"auth"'), 0)


def _matching(pattern: bytes, title: str, severity: str = "HIGH") -> Callable[[bytes], Iterator[Login]]:
    compiled = re.compile(pattern, re.MULTILINE)

    def read(data: bytes) -> Iterator[Login]:
        for match in compiled.finditer(data):
            if not _PLAIN.match(match[1].decode("utf-8", "replace").strip("\"'")):
                yield title, severity, match.start(1)

    return read


_FILES: dict[str, Callable[[bytes], Iterator[Login]]] = {
    ".dockercfg": _docker_logins,
    ".netrc": _matching(rb"\bpassword[ \t\r\n]{1,9}(\S{1,200})", "Password in .netrc"),
    "_netrc": _matching(rb"\bpassword[ \t\r\n]{1,9}(\S{1,200})", "Password in _netrc"),
    ".pgpass": _matching(rb"^[^#:\n]+:[^:\n]+:[^:\n]+:[^:\n]+:(\S{1,200})", "Password of PostgreSQL"),
    ".npmrc": _matching(rb"_(?:authToken|password|auth)[ \t]*=[ \t]*(\S{1,300})", "Login to a package registry"),
    ".pypirc": _matching(rb"^[ \t]*password[ \t]*[=:][ \t]*(\S{1,300})", "Login to a package registry"),
    ".git-credentials": _matching(rb"^https?://[^:/\s]+:([^@/\s]{1,300})@", "Login to a Git server"),
    ".kube/config": _matching(
        rb"^\s*(?:token|password|client-key-data):[ \t]*(\S{1,9000})", "Login to a Kubernetes cluster", "CRITICAL"
    ),
}


def in_words(place: str, text: str) -> list[Secret]:
    """The secrets in a line of an image's configuration."""
    return [each._replace(line=0) for each in _tokens(place, text.encode(errors="replace"))]


def named(place: str, name: str, value: str) -> Secret | None:
    """A variable that says by its name that its value is secret, unless the value says that it is none."""
    plain = len(value) < 8 or _PLAIN.search(value) is not None or not _random(2.5)(value.encode(errors="replace"))
    if _NAMED.search(name) is None or plain:
        return None
    return Secret("secret-in-configuration", f"Secret in {name}", "HIGH", place, 0, f"{name}=…")
