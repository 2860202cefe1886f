"""Names, paths, hosts and references."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.registry.decisions.names import (
    Reference,
    RepositoryId,
    Target,
    locate,
    parse_arn,
    parse_path,
    parse_reference,
    valid_digest,
    valid_repository,
    valid_tag,
    valid_upload,
)

HOSTS = frozenset({"localhost:5000", "127.0.0.1:5000"})
DIGEST = "sha256:" + "a" * 64
DEFAULT = ("000000000000", "us-east-1")


@pytest.mark.parametrize("name", ["ab", "a/b/c", "a.b_c__d-e--f/g1", "x" * 256, "123456789012/shop"])
def test_what_may_be_a_repository(name):
    assert valid_repository(name)


@pytest.mark.parametrize(
    "name",
    [
        *("", "a", "A", "a/", "/a", "a//b", "..", "a/../b", "a\n", "a b", "-a", "a-", "a..b", "a\0b", "x" * 257),
        "123456789012.us-east-1/shop",
    ],
)
def test_what_may_not(name):
    assert not valid_repository(name)


@given(st.text())
def test_no_name_that_is_valid_can_leave_its_directory(name):
    if valid_repository(name):
        assert not {"", ".", ".."} & set(name.split("/")) and "\0" not in name


@pytest.mark.parametrize("text", ["sha256:" + "A" * 64, "sha256:" + "a" * 63, "sha512:" + "a" * 128, DIGEST + "\n", ""])
def test_what_is_no_digest(text):
    assert valid_digest(DIGEST) and not valid_digest(text)


def test_tags_and_uploads():
    assert [valid_tag(t) for t in ("1", "v1.0-rc_1", "_", "x" * 128)] == [True] * 4
    assert [valid_tag(t) for t in ("", ".a", "-a", "a/b", "a:b", "x" * 129, "a\n")] == [False] * 7
    assert valid_upload("0123abcd-0123-0123-0123-0123456789ab")
    assert not valid_upload("../../x") and not valid_upload("")


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("a/b/blobs/uploads/", Target("uploads", "a/b")),
        ("a/b/blobs/uploads", Target("uploads", "a/b")),
        ("a/b/blobs/uploads/1-2", Target("upload", "a/b", "1-2")),
        (f"a/blobs/{DIGEST}", Target("blob", "a", DIGEST)),
        ("a/manifests/manifests/1", Target("manifest", "a/manifests", "1")),
        (f"a/referrers/{DIGEST}", Target("referrers", "a", DIGEST)),
        ("a/tags/list", Target("tags", "a")),
        ("", None),
        ("a", None),
        ("manifests/1", None),
        ("_catalog", None),
    ],
)
def test_what_a_path_means(path, target):
    assert parse_path(path) == target


@pytest.mark.parametrize(
    ("host", "name", "expected"),
    [
        ("localhost:5000", "a/b", (*DEFAULT, "a/b")),
        ("localhost:5000", "111111111111.eu-west-1/a", ("111111111111", "eu-west-1", "a")),
        ("localhost:5000", "111111111111.eu-west-1", (*DEFAULT, "111111111111.eu-west-1")),
        ("localhost:5000", "111111111111/a", (*DEFAULT, "111111111111/a")),
        ("111111111111.dkr.ecr.us-gov-west-1.amazonaws.com", "a", ("111111111111", "us-gov-west-1", "a")),
        ("111111111111.DKR.ECR.eu-west-1.amazonaws.com:5000", "a", ("111111111111", "eu-west-1", "a")),
        ("111111111111.dkr.ecr.eu-west-1.amazonaws.com.evil", "a", (*DEFAULT, "a")),
    ],
)
def test_which_repository_a_client_means(host, name, expected):
    assert locate(host, name) == RepositoryId(*expected)


@pytest.mark.parametrize(
    ("image", "repository", "suffix"),
    [
        ("localhost:5000/shop", (*DEFAULT, "shop"), ""),
        ("localhost:5000/shop:1", (*DEFAULT, "shop"), ":1"),
        (f"127.0.0.1:5000/a/b@{DIGEST}", (*DEFAULT, "a/b"), f"@{DIGEST}"),
        (f"localhost:5000/a:1@{DIGEST}", (*DEFAULT, "a"), f":1@{DIGEST}"),
        ("111111111111.dkr.ecr.eu-west-1.amazonaws.com/a/b:1", ("111111111111", "eu-west-1", "a/b"), ":1"),
        ("localhost:5000/111111111111.eu-west-1/a:1", ("111111111111", "eu-west-1", "a"), ":1"),
    ],
)
def test_a_reference_of_this_registry(image, repository, suffix):
    assert parse_reference(image, HOSTS) == Reference(RepositoryId(*repository), suffix)


@pytest.mark.parametrize("image", ["busybox", "busybox:1", "library/busybox", "localhost:5001/a", "public.ecr.aws/a/b"])
def test_a_reference_of_another_registry(image):
    assert parse_reference(image, HOSTS) is None


def test_a_repository_s_path_and_arn_lead_back_to_it():
    for repository in (RepositoryId(*DEFAULT, "a/b"), RepositoryId("111111111111", "eu-west-1", "a")):
        assert locate("localhost:5000", repository.path) == repository
        assert parse_arn(repository.arn) == repository
    assert parse_arn("arn:aws:ecs:us-east-1:000000000000:repository/a") is None
