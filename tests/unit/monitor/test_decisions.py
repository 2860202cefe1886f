"""What the monitor decides."""

import pytest

from contracts.records.logs import LogEvent
from contracts.records.traces import Span
from services.monitor.api.places import group_name, name_in_arn
from services.monitor.decisions.logs import (
    PAGE_BYTES,
    Page,
    Pattern,
    Placed,
    Position,
    TraceLine,
    accept,
    read_token,
    token,
    trace_line,
    within,
)
from services.shared.errors import AwsError

DAY = 24 * 3600 * 1000
NOW = 100 * DAY


def placed(text: str = "x", index: int = 0) -> Placed:
    return Placed(Position(1, index), LogEvent(5, text), 6)


def test_a_token_says_direction_and_place():
    assert read_token(token("f", Position(12, 3))) == ("f", Position(12, 3))


@pytest.mark.parametrize("text", ["", "f/1:2/s", "x/00000000000000000001:000001/s", "f/…"])
def test_what_is_no_token_is_refused(text):
    with pytest.raises(AwsError, match="nextToken"):
        read_token(text)


@pytest.mark.parametrize(
    ("pattern", "line", "matches"),
    [
        (None, "anything", True),
        ("", "anything", True),
        ("ERROR", "an ERROR here", True),
        ("ERROR", "an error here", False),
        ("a b", "b then a", True),
        ("a b", "only a", False),
        ('"a b"', "b then a b", True),
        ('"a b"', "a  b", False),
        ("a -b", "a b", False),
        ('a -"x y"', "a xy", True),
        ("?a ?b", "just b", True),
        ("?a ?b", "none", False),
        (r'"say \"hi\""', 'I say "hi"', True),
    ],
)
def test_plain_terms_mean_lines(pattern, line, matches):
    assert Pattern(pattern).matches(line) is matches


@pytest.mark.parametrize("pattern", ["{ $.a = 1 }", "[ip, user]", "%err.*%", '"open'])
def test_patterns_that_are_not_served_are_refused(pattern):
    with pytest.raises(AwsError, match="filter pattern"):
        Pattern(pattern)


def test_a_page_is_full_by_number_or_by_size():
    page = Page(2)
    assert [page.add(placed()) for _ in range(3)] == [True, True, False]
    page = Page(None)
    assert [page.add(placed("x" * (PAGE_BYTES // 2))) for _ in range(2)] == [True, False]
    assert Page(None).add(placed("x" * PAGE_BYTES)), "one event always fits, or a page would never end"


def test_events_are_judged_by_age():
    events = [LogEvent(t, "m") for t in (NOW - 15 * DAY, NOW - 1, NOW, NOW + DAY)]
    accepted = accept(events, NOW, None)
    assert (accepted.events, accepted.too_old_end, accepted.too_new_start) == (events[1:3], 1, 3)
    events = [LogEvent(t, "m") for t in (NOW - 3 * DAY, NOW)]
    accepted = accept(events, NOW, 1)
    assert (accepted.events, accepted.expired_end) == (events[1:], 1)


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([LogEvent(NOW, "b"), LogEvent(NOW - 1, "a")], "chronological"),
        ([LogEvent(NOW - 2 * DAY, "a"), LogEvent(NOW, "b")], "24 hours"),
        ([LogEvent(NOW, "x" * 600_000)] * 2, "too large"),
    ],
)
def test_a_batch_out_of_bounds_is_refused(events, words):
    with pytest.raises(AwsError, match=words):
        accept(events, NOW, None)


def test_a_time_range_has_its_start_and_not_its_end():
    assert [within(LogEvent(t, ""), 1, 3) for t in (0, 1, 2, 3)] == [False, True, True, False]


def test_a_group_is_named_by_name_or_arn_and_not_by_both():
    arn = "arn:aws:logs:us-east-1:1:log-group:/shop"
    assert group_name("/shop", None) == group_name(None, arn) == group_name(None, arn + ":*") == "/shop"
    for both in ((None, None), ("/a", "/b")):
        with pytest.raises(AwsError):
            group_name(*both)
    with pytest.raises(AwsError):
        name_in_arn("arn:aws:s3:::bucket")


def test_a_trace_is_named_by_its_root():
    spans = [
        Span(trace_id="t", span_id="2", parent_id="1", name="child", service="b", start_ns=1, end_ns=9, status="ERROR"),
        Span(trace_id="t", span_id="1", name="root", service="a", start_ns=2, end_ns=5),
    ]
    assert trace_line(spans) == TraceLine(
        trace_id="t", name="root", service="a", start_ns=1, end_ns=9, spans=2, status="ERROR"
    )
