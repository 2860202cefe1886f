"""Pages, ranges, and which tags stay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.registry.decisions.pages import BadToken, chunk_start, page, query_int, tags_after
from services.registry.decisions.tags import is_immutable
from services.registry.handlers.cache import ManifestCache


@given(st.lists(st.text(), unique=True), st.integers(1, 5))
def test_pages_are_the_whole_in_order(names, size):
    found: list[str] = []
    token = None
    while True:
        items, token = page(names, lambda name: (name,), size, token)
        found += items
        if token is None:
            break
    assert found == sorted(names)


def test_what_comes_and_goes_between_pages_shifts_nothing():
    _, token = page(["a", "b", "c"], lambda name: (name,), 2, None)
    assert page(["aa", "c", "d"], lambda name: (name,), 2, token) == (["c", "d"], None)


@pytest.mark.parametrize("token", ["", "x", "é", "W10=x", "e30="])
def test_a_token_that_was_not_given_out(token):
    with pytest.raises(BadToken):
        page(["a"], lambda name: (name,), 1, token)


def test_tags_in_byte_order():
    tags = ["b", "A", "a", "_"]
    assert tags_after(tags, None, None) == (["A", "_", "a", "b"], False)
    assert tags_after(tags, None, 2) == (["A", "_"], True)
    assert tags_after(tags, "_", 2) == (["a", "b"], False)
    assert tags_after(tags, None, 0) == ([], False)


def test_where_a_chunk_begins():
    assert chunk_start(None, 5) is None
    assert chunk_start("5-9", 5) == 5
    assert chunk_start("bytes 5-9/*", None) == 5
    for text, length in (("5-3", None), ("x", None), ("0-9", 5), ("-5", None), ("", None)):
        with pytest.raises(ValueError):
            chunk_start(text, length)


def test_numbers_of_a_query():
    assert [query_int(text) for text in (None, "0", "7", "9" * 40)] == [None, 0, 7, 10_000]
    for text in ("-1", "1.5", "", "²"):
        with pytest.raises(ValueError):
            query_int(text)


@pytest.mark.parametrize(
    ("mutability", "filters", "immutable"),
    [
        ("MUTABLE", [], []),
        ("IMMUTABLE", [], ["latest", "dev-1", "v1"]),
        ("IMMUTABLE_WITH_EXCLUSION", ["latest", "dev-*"], ["v1"]),
        ("MUTABLE_WITH_EXCLUSION", ["v*"], ["v1"]),
        ("MUTABLE_WITH_EXCLUSION", ["."], []),
    ],
)
def test_which_tags_stay(mutability, filters, immutable):
    settings = {
        "imageTagMutability": mutability,
        "imageTagMutabilityExclusionFilters": [{"filterType": "WILDCARD", "filter": each} for each in filters],
    }
    assert [tag for tag in ("latest", "dev-1", "v1") if is_immutable(settings, tag)] == immutable


def test_tags_may_be_moved_where_nothing_is_said():
    assert not is_immutable({}, "1")


def test_the_cache_lets_go_of_what_was_not_asked_for():
    cache = ManifestCache(10)
    for digest in ("a", "b"):
        cache.put(digest, b"12345")
    cache.get("a")
    cache.put("c", b"123")
    cache.put("huge", b"1" * 11)
    assert [cache.get(digest) for digest in ("a", "b", "c", "huge")] == [b"12345", None, b"123", None]
