"""AWS' cron, its odd corners, and schedules in time zones."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.records.autoscaler import ScheduledAction
from services.autoscaler.decisions import cron, schedules
from services.shared.errors import AwsError

NEW_YEAR = datetime(2026, 1, 1)


def firings(expression: str, count: int, since: datetime = NEW_YEAR) -> list[str]:
    parsed, found = cron.parse(expression), []
    for _ in range(count):
        moment = cron.next_after(parsed, since)
        if moment is None:
            break
        found.append(moment.strftime("%Y-%m-%d %H:%M"))
        since = moment
    return found


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("0 10 * * ? *", ["2026-01-01 10:00", "2026-01-02 10:00"]),
        ("15 12 ? * MON-FRI *", ["2026-01-01 12:15", "2026-01-02 12:15", "2026-01-05 12:15"]),
        ("0/10 8-9 ? * SAT 2026", ["2026-01-03 08:00", "2026-01-03 08:10"]),
        ("*/30 * 1 6 ? *", ["2026-06-01 00:00", "2026-06-01 00:30"]),
        ("0 0 L * ? *", ["2026-01-31 00:00", "2026-02-28 00:00"]),
        ("0 0 LW * ? *", ["2026-01-30 00:00", "2026-02-27 00:00"]),
        ("0 0 15W * ? *", ["2026-01-15 00:00", "2026-02-16 00:00", "2026-03-16 00:00"]),
        ("0 0 1W 8 ? *", ["2026-08-03 00:00"]),
        ("0 0 31W 1,5 ? 2026", ["2026-01-30 00:00", "2026-05-29 00:00"]),
        ("0 9 ? * 3#2 *", ["2026-01-13 09:00", "2026-02-10 09:00"]),
        ("0 9 ? * MON#5 *", ["2026-03-30 09:00", "2026-06-29 09:00"]),
        ("0 9 ? * 6L *", ["2026-01-30 09:00", "2026-02-27 09:00"]),
        ("0 9 ? * FRIL *", ["2026-01-30 09:00"]),
        ("0 9 ? * L *", ["2026-01-03 09:00", "2026-01-10 09:00"]),
        ("0 9 ? * FRI-MON *", ["2026-01-02 09:00", "2026-01-03 09:00", "2026-01-04 09:00", "2026-01-05 09:00"]),
        ("0 0 29 FEB ? *", ["2028-02-29 00:00", "2032-02-29 00:00"]),
        ("0 0 1 1 ? 2027/10", ["2027-01-01 00:00", "2037-01-01 00:00"]),
        ("5,3 1 1 jan ? 2027", ["2027-01-01 01:03", "2027-01-01 01:05"]),
        ("0 0 1 1 ? 2025", []),
        ("0 0 31 2 ? *", []),
    ],
)
def test_an_expression_fires_when_aws_says(expression, expected):
    assert firings(expression, len(expected) or 1) == expected


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("0 10 * * ?", "six fields, not 5"),
        ("0 10 * * * *", "must be ?"),
        ("0 10 ? * ? *", "must be ?"),
        ("60 10 * * ? *", "minutes: '60' is not between 0 and 59"),
        ("0 24 * * ? *", "hours"),
        ("0 0 32 * ? *", "day of month"),
        ("0 0 0W * ? *", "day of month"),
        ("0 0 ? * 8 *", "day of week"),
        ("0 0 ? * 2#6 *", "day of week"),
        ("0 0 ? * FOO *", "day of week"),
        ("0 0 1 13 ? *", "month"),
        ("0 0 1 1 ? 1969", "year"),
        ("5-2 0 1 1 ? *", "ends before it begins"),
        ("*/0 0 1 1 ? *", "minutes"),
        ("² 0 1 1 ? *", "minutes"),
        (", 0 1 1 ? *", "minutes"),
    ],
)
def test_what_is_no_expression_is_refused_by_its_field(expression, complaint):
    with pytest.raises(ValueError, match=re.escape(complaint)):
        cron.parse(expression)


@given(
    minute=st.integers(0, 59),
    hour=st.integers(0, 23),
    weekday=st.integers(1, 7),
    since=st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)),
)
def test_it_agrees_with_looking_at_every_minute(minute, hour, weekday, since):
    found = cron.next_after(cron.parse(f"{minute} {hour} ? * {weekday} *"), since)
    assert found is not None and since < found <= since + timedelta(days=7, minutes=1)
    assert (found.minute, found.hour, (found.weekday() + 1) % 7 + 1) == (minute, hour, weekday)


def action(schedule: str, timezone: str = "UTC", **members) -> ScheduledAction:
    given = {"put_at": NEW_YEAR.replace(tzinfo=UTC).timestamp(), **members}
    return ScheduledAction(
        account="0", region="r", resource="service/c/s", dimension="d", name="n", id="i", schedule=schedule,
        timezone=timezone, created_at=0.0, **given,
    )  # fmt: skip


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def test_a_cron_is_in_its_time_zone_also_when_the_clocks_change():
    nightly = action("cron(30 2 * * ? *)", "Europe/Berlin")
    assert schedules.next_after(nightly, at("2026-03-27T12:00")) == at("2026-03-28T01:30")
    assert schedules.next_after(nightly, at("2026-03-28T12:00")) == at("2026-03-29T01:30")  # 2:30 is skipped: 3:30
    assert schedules.next_after(nightly, at("2026-03-29T12:00")) == at("2026-03-30T00:30")
    assert schedules.next_after(nightly, at("2026-10-24T12:00")) == at("2026-10-25T00:30")  # comes twice: the first
    assert schedules.next_after(nightly, at("2026-10-25T00:30")) == at("2026-10-26T01:30")


ZONES = st.sampled_from(["UTC", "America/New_York", "Asia/Tokyo", "Pacific/Kiritimati"])
SCHEDULES = st.sampled_from(
    [
        "at(9999-12-31T23:59:59)",
        "at(0001-01-01T00:00:00)",
        "rate(1 minute)",
        "cron(0 0 * * ? *)",
        "cron(0 0 ? * 2 2199)",
    ]
)


@given(SCHEDULES, ZONES, st.none() | st.floats(0, 1e15), st.floats(0, 1e15))
def test_whatever_the_times_are_there_is_an_occurrence_behind_them_or_none(schedule, timezone, start, since):
    schedules.check(schedule, timezone)
    found = schedules.next_after(action(schedule, timezone, start_time=start), since)
    assert found is None or found > since or found >= start


def test_one_time_comes_once():
    once = action("at(2026-05-01T08:00:00)", "America/New_York")
    assert schedules.next_after(once, 0.0) == at("2026-05-01T12:00")
    assert schedules.next_after(once, at("2026-05-01T12:00")) is None


def test_a_rate_counts_from_its_start_or_from_when_it_was_put():
    assert schedules.next_after(action("rate(2 hours)"), 0.0) == at("2026-01-01T02:00")
    begun = action("rate(1 day)", start_time=at("2026-02-01T06:00"))
    assert schedules.next_after(begun, 0.0) == at("2026-02-01T06:00")
    assert schedules.next_after(begun, at("2026-02-01T06:00")) == at("2026-02-02T06:00")
    assert schedules.next_after(action("rate(1 day)", end_time=at("2026-01-01T12:00")), 0.0) is None


def test_what_was_missed_is_made_up_for_once_and_only_the_last():
    hourly = action("cron(0 * * * ? *)")
    now = at("2026-01-03T04:30")
    assert schedules.due(hourly, None, now) == at("2026-01-03T04:00")
    assert schedules.due(hourly, at("2026-01-03T04:00"), now) is None
    assert schedules.due(action("cron(0 0 2 1 ? *)"), None, at("2026-06-01T00:00")) == at("2026-01-02T00:00")
    minutely = action("rate(1 minute)")
    assert schedules.due(minutely, None, at("2026-12-31T00:00:30")) == at("2026-12-31T00:00")


@pytest.mark.parametrize(
    "schedule",
    ["", "at(2026-13-01T00:00:00)", "at(2026-01-01)", "rate(0 hours)", "rate(1 hours)", "rate(2 hour)", "rate(1 week)",
     "cron(* * * * *)", "every(1 hour)", "cron(0 10 * * ? *) "],
)  # fmt: skip
def test_what_is_no_schedule_is_a_validation_exception(schedule):
    with pytest.raises(AwsError) as refusal:
        schedules.check(schedule, "UTC")
    assert refusal.value.code == "ValidationException"


@pytest.mark.parametrize("timezone", ["Nowhere/City", "../etc/passwd", "", "europe"])
def test_what_is_no_time_zone_is_a_validation_exception(timezone):
    with pytest.raises(AwsError) as refusal:
        schedules.check("rate(1 hour)", timezone)
    assert refusal.value.code == "ValidationException"
