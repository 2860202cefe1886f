"""AWS' cron: minutes, hours, day of month, month, day of week, year.

https://docs.aws.amazon.com/autoscaling/application/userguide/scheduled-scaling-using-cron-expressions.html

Days of the week are 1-7, Sunday first. `L` is the last day of the month (day of month) or Saturday, and with a day the
last such day of the month (`6L`); `15W` is the weekday nearest to the 15th, `LW` the last weekday; `3#2` the second
Tuesday. One of the two day fields must be `?`.
"""

from __future__ import annotations

import calendar
import re
from datetime import datetime, timedelta
from functools import lru_cache

import msgspec

_MONTH_NAMES = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_MONTHS = {name: str(number) for number, name in enumerate(_MONTH_NAMES, 1)}
_DAYS = {name: str(number) for number, name in enumerate(("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"), 1)}
FIRST_YEAR, LAST_YEAR = 1970, 2199
_NAME = re.compile(r"[A-Z]{3}")


class Cron(msgspec.Struct, frozen=True):
    """A parsed expression: the values that each field allows. `days` and `weekdays` are the items of the day fields
    as they were written; one of them is `?`."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[str, ...]
    months: frozenset[int]
    weekdays: tuple[str, ...]
    years: tuple[int, ...]


@lru_cache(maxsize=256)
def parse(text: str) -> Cron:
    """Read the six fields. Raises ValueError, saying which one is wrong."""
    fields = text.upper().split()
    if len(fields) != 6:
        raise ValueError(f"a cron expression has six fields, not {len(fields)}")
    minutes, hours, days, months, weekdays, years = fields
    if (days == "?") == (weekdays == "?"):
        raise ValueError("exactly one of day of month and day of week must be ?")
    return Cron(
        minutes=tuple(sorted(_values("minutes", minutes, 0, 59))),
        hours=tuple(sorted(_values("hours", hours, 0, 23))),
        days=_day_items(days),
        months=frozenset(_values("month", _NAME.sub(lambda m: _MONTHS.get(m[0], m[0]), months), 1, 12)),
        weekdays=_weekday_items(_NAME.sub(lambda m: _DAYS.get(m[0], m[0]), weekdays)),
        years=tuple(sorted(_values("year", years, FIRST_YEAR, LAST_YEAR))),
    )


def _number(field: str, text: str, low: int, high: int) -> int:
    if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
        raise ValueError(f"{field}: {text!r} is not between {low} and {high}")
    return int(text)


def _values(field: str, text: str, low: int, high: int) -> set[int]:
    found: set[int] = set()
    for item in text.split(","):
        span, slash, step_text = item.partition("/")
        step = _number(field, step_text, 1, max(high, 1)) if slash else 1
        first, dash, last = span.partition("-")
        if span == "*":
            begin, end = low, high
        elif dash:
            begin, end = _number(field, first, low, high), _number(field, last, low, high)
        else:
            begin = _number(field, first, low, high)
            end = high if slash else begin
        if begin <= end:
            found.update(range(begin, end + 1, step))
        elif field == "day of week":  # FRI-MON goes around the end of the week
            found.update((day - 1) % 7 + 1 for day in range(begin, end + 8, step))
        else:
            raise ValueError(f"{field}: {item!r} ends before it begins")
    return found


def _day_items(text: str) -> tuple[str, ...]:
    if text == "?":
        return ("?",)
    plain, special = [], []
    for item in text.split(","):
        if item in ("L", "LW"):
            special.append(item)
        elif item.endswith("W"):
            special.append(f"{_number('day of month', item[:-1], 1, 31)}W")
        else:
            plain.append(item)
    found = _values("day of month", ",".join(plain), 1, 31) if plain else set()
    return (*special, *(str(day) for day in sorted(found)))


def _weekday_items(text: str) -> tuple[str, ...]:
    if text == "?":
        return ("?",)
    plain, special = [], []
    for item in text.split(","):
        day, hash_, nth = item.partition("#")
        if hash_:
            number = _number("day of week", nth, 1, 5)
            special.append(f"{_number('day of week', day, 1, 7)}#{number}")
        elif item.endswith("L"):
            special.append(f"{_number('day of week', item[:-1], 1, 7)}L" if item != "L" else "7")
        else:
            plain.append(item)
    found = _values("day of week", ",".join(plain), 1, 7) if plain else set()
    return (*special, *(str(day) for day in sorted(found)))


def days_of(cron: Cron, year: int, month: int) -> list[int]:
    """The days of this month on which it fires, whatever the hour."""
    last = calendar.monthrange(year, month)[1]
    found: set[int] = set()
    if cron.weekdays == ("?",):
        for item in cron.days:
            found |= _month_day(item, year, month, last)
    else:
        for item in cron.weekdays:
            found |= _week_day(item, year, month, last)
    return sorted(found)


def _month_day(item: str, year: int, month: int, last: int) -> set[int]:
    if item == "L":
        return {last}
    if item == "LW":
        return {_nearest_weekday(year, month, last, last)}
    if item.endswith("W"):
        day = int(item[:-1])
        return {_nearest_weekday(year, month, day, last)} if day <= last else set()
    return {int(item)} if int(item) <= last else set()


def _nearest_weekday(year: int, month: int, day: int, last: int) -> int:
    weekday = calendar.weekday(year, month, day)
    if weekday == 5:
        return day - 1 if day > 1 else day + 2
    if weekday == 6:
        return day + 1 if day < last else day - 2
    return day


def _week_day(item: str, year: int, month: int, last: int) -> set[int]:
    day, hash_, nth = item.partition("#")
    number = int(day.removesuffix("L"))
    of_week = [d for d in range(1, last + 1) if (calendar.weekday(year, month, d) + 1) % 7 + 1 == number]
    if item.endswith("L"):
        return {of_week[-1]}
    if hash_:
        return {of_week[int(nth) - 1]} if int(nth) <= len(of_week) else set()
    return set(of_week)


def next_after(cron: Cron, moment: datetime) -> datetime | None:
    """The first time after `moment` (a naive local time) at which it fires; None when there is none any more."""
    earliest = moment.replace(second=0, microsecond=0) + timedelta(minutes=1)
    for year in cron.years:
        if year < earliest.year:
            continue
        for month in range(1, 13):
            if month not in cron.months or (year, month) < (earliest.year, earliest.month):
                continue
            for day in days_of(cron, year, month):
                found = _time_of_day(cron, datetime(year, month, day), earliest)
                if found is not None:
                    return found
    return None


def _time_of_day(cron: Cron, day: datetime, earliest: datetime) -> datetime | None:
    if day.date() < earliest.date():
        return None
    for hour in cron.hours:
        for minute in cron.minutes:
            found = day.replace(hour=hour, minute=minute)
            if found >= earliest:
                return found
    return None
