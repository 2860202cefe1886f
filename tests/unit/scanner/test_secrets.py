"""Secrets in files and configurations: found where they are, told without being told, and no others."""

import base64
import json
import zlib

import pytest

from services.scanner.decisions.configuration import LIMIT, problems
from services.scanner.decisions.secrets import FILE_LIMIT, FILE_MOST, in_file, is_searched

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
RANDOM = "aB3xK9mQ2pL7vR5tY8wZ1cN4dF6gH0jS"


def checked(prefix: str) -> str:
    """A token of this kind whose checksum is right. None is anybody's."""
    body = RANDOM[:30]
    value, digits = zlib.crc32(body.encode()), ""
    while value:
        value, digit = divmod(value, 62)
        digits = BASE62[digit] + digits
    return prefix + body + digits.rjust(6, "0")


def key(kind: str) -> str:
    return f"-----BEGIN {kind}-----\n" + "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n" * 8 + f"-----END {kind}-----\n"


def part(**members) -> str:
    return base64.urlsafe_b64encode(json.dumps(members).encode()).decode().rstrip("=")


AWS_SECRET = "q7Lk2Zp9" + "Xv4Tn8Bw" + "3Rm6Yc1H" + "d5Js0Fg+" + "Ku/WeNaM"
ACCESS = f"[default]\naws_access_key_id = AKIA{'QWERTY2345ZXCVBN'}\naws_secret_access_key = {AWS_SECRET}\n"
TOKEN = f"{part(alg='HS256')}.{part(iss='me', exp=1)}.{RANDOM}"


@pytest.mark.parametrize(
    ("text", "rule", "line", "shown"),
    [
        ("a\n" + key("RSA PRIVATE KEY"), "private-key", 2, "BEGIN RSA PRIVATE KEY"),
        (key("OPENSSH PRIVATE KEY"), "private-key", 1, "BEGIN OPENSSH PRIVATE KEY"),
        (key("PRIVATE KEY"), "private-key", 1, "BEGIN PRIVATE KEY"),
        (ACCESS, "aws-access-key", 2, "AKIA…CVBN"),
        (f"x = '{checked('ghp_')}'", "github-token", 1, "ghp_…"),
        (f"\n\n{checked('npm_')}", "npm-token", 3, "npm_…"),
        (f"glpat-{RANDOM[:20]}", "gitlab-token", 1, "glpa…"),
        (f"xoxb-123456789012-{RANDOM[:24]}", "slack-token", 1, "xoxb…"),
        (f"sk_live_{RANDOM[:28]}", "stripe-key", 1, "sk_l…"),
        (f"AIza{RANDOM}abc", "google-api-key", 1, "AIza…"),
        (f"pypi-AgEI{RANDOM * 3}", "pypi-token", 1, "pypi-AgE…"),
        (TOKEN, "json-web-token", 1, "eyJ…"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else None,
)
def test_a_secret_is_found_and_only_how_it_begins_is_told(text, rule, line, shown):
    (found,) = in_file("srv/app.conf", text.encode())
    assert (found.rule, found.path, found.line, found.shown) == (rule, "srv/app.conf", line, shown)


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN RSA PRIVATE KEY-----\n-----END RSA PRIVATE KEY-----",
        'if line == "-----BEGIN PRIVATE KEY-----": raise ValueError("no key in here, whatever else there may be")',
        "-----BEGIN PUBLIC KEY-----\n" + "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n" * 8,
        "AKIAIOSFODNN7EXAMPLE wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "AKIAQWERTY2345ZXCVBN alone is no secret",
        "AKIAQWERTY2345ZXCVBN " + "0123456789abcdef0123456789abcdef01234567",
        checked("ghp_")[:-1] + "~",
        "ghp_" + "x" * 36,
        "glpat-" + "x" * 20,
        "xoxb-123456789012-" + "x" * 24,
        f"{part(alg='none')}.{part(iss='me', exp=1)}.{RANDOM}",
        f"{part(alg='HS256')}.{part(name='me')}.{RANDOM}",
    ],
)
def test_frames_examples_and_wrong_checksums_are_none(text):
    assert in_file("srv/app.conf", text.encode()) == []


LOGIN = base64.b64encode(b"me:secret-of-mine").decode()


@pytest.mark.parametrize(
    ("path", "text", "line"),
    [
        ("root/.docker/config.json", json.dumps({"auths": {"registry.example": {"auth": LOGIN}}}), 1),
        ("root/.netrc", "machine example.com\nlogin me\npassword hunter2hunter2\n", 3),
        ("home/me/.pgpass", "db.example:5432:shop:me:hunter2hunter2\n", 1),
        ("app/.npmrc", "registry=https://example.com\n//example.com/:_authToken=abcdef123456\n", 2),
        ("root/.pypirc", "[pypi]\nusername = me\npassword = hunter2hunter2\n", 3),
        ("root/.git-credentials", "https://me:hunter2hunter2@example.com\n", 1),
        ("root/.kube/config", "users:\n- user:\n    token: abcdef123456\n", 3),
    ],
)
def test_logins_that_tools_keep_are_found(path, text, line):
    (found,) = in_file(path, text.encode())
    assert (found.rule, found.line, found.shown) == ("stored-login", line, "…")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("root/.docker/config.json", json.dumps({"auths": {"registry.example": {}}, "credsStore": "x"})),
        ("root/.docker/config.json", "[" * 100_000),
        ("root/.docker/config.json", json.dumps({"auths": {"a": {"auth": "%%"}}})),
        ("app/.npmrc", "//example.com/:_authToken=${NPM_TOKEN}\n"),
        ("root/.kube/config", "clusters: []\n"),
        ("app/config.json", json.dumps({"auths": {"registry.example": {"auth": LOGIN}}})),
    ],
)
def test_files_without_a_login_are_none(path, text):
    assert in_file(path, text.encode()) == []


def test_binaries_and_large_files_are_not_searched():
    assert in_file("a", b"\0" + ACCESS.encode()) == []
    assert in_file("a", ACCESS.encode() + b" " * FILE_LIMIT) == []


def test_a_file_full_of_secrets_is_told_of_so_often_and_no_more():
    assert len(in_file("a", "\n".join([checked("ghp_")] * 1000).encode())) == FILE_MOST


@pytest.mark.parametrize(
    ("path", "searched"),
    [
        ("usr/share/doc/openssl/key.pem", False),
        ("etc/ssl/certs/ca-certificates.crt", False),
        ("usr/lib/python3/test/keycert.pem", False),
        ("app/node_modules/x/test/fixtures/key.pem", False),
        ("usr/share/ca-certificates/mozilla/x.crt", False),
        ("app/logo.png", False),
        ("etc/ssl/private/server.key", True),
        ("root/.aws/credentials", True),
        ("usr/share/nginx/app.env", True),
    ],
)
def test_documentation_tests_and_certificates_of_authorities_are_passed_over(path, searched):
    assert is_searched(path) == searched


def wrong(history=(), **config):
    told = {"config": {"User": "app", **config}, "history": [{"created_by": each} for each in history]}
    return [(each.rule, each.path, each.shown) for each in problems(json.dumps(told).encode())]


def test_secrets_of_the_environment_are_found_by_form_and_by_name():
    found = wrong(Env=["PATH=/bin", f"GH={checked('ghp_')}", "DB_PASSWORD=hunter2-Zx9", "API_TOKEN_FILE=/run/token"])
    assert found == [
        ("github-token", "config.Env.GH", "ghp_…"),
        ("secret-in-configuration", "config.Env.DB_PASSWORD", "DB_PASSWORD=…"),
    ]


def test_secrets_of_build_arguments_stay_in_the_history():
    found = wrong(["RUN |1 NPM_TOKEN=hunter2-Zx9q /bin/sh -c npm ci", "ADD https://example.com/x.tgz /"])
    assert found == [
        ("secret-in-configuration", "history[0]", "NPM_TOKEN=…"),
        ("unverified-add", "history[1]", ""),
    ]


def test_what_the_environment_says_is_not_told_of_twice():
    assert wrong(["ENV DB_PASSWORD=hunter2-Zx9"], Env=["DB_PASSWORD=hunter2-Zx9"]) == [
        ("secret-in-configuration", "config.Env.DB_PASSWORD", "DB_PASSWORD=…")
    ]


@pytest.mark.parametrize(
    "value", ["", "changeme", "$DB_PASSWORD", "/run/secrets/db", "xxxxxxxxxxxx", "12345", "{{ x }}"]
)
def test_placeholders_are_no_secrets(value):
    assert wrong(Env=[f"DB_PASSWORD={value}"]) == []


@pytest.mark.parametrize(("user", "root"), [("", 1), ("root", 1), ("0", 1), ("0:0", 1), ("root:app", 1), ("1000", 0)])
def test_an_image_without_another_user_runs_as_root(user, root):
    assert len(wrong(User=user)) == root


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"[" * 100_000, b" " * (LIMIT + 1), b"\xff"])
def test_a_configuration_that_can_not_be_read_is_told_of(text):
    with pytest.raises(ValueError):
        problems(text)


def test_odd_members_of_a_configuration_hide_nothing():
    told = {"config": {"Env": [5, "A"], "User": 7}, "history": [1, {"created_by": 2}]}
    assert [each.rule for each in problems(json.dumps(told).encode())] == ["runs-as-root"]
