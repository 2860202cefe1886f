"""When a scheduled action is due: at(…), rate(…), cron(…), in a time zone, between a start and an end.

https://docs.aws.amazon.com/autoscaling/application/APIReference/API_PutScheduledAction.html

A local time that a change to summer time skips fires at the moment at which it would have come without the change; one
that comes twice fires the first time.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from contracts.records.autoscaler import ScheduledAction
from services.autoscaler.decisions import cron
from services.autoscaler.decisions.names import invalid

_FORM = re.compile(r"(at|rate|cron)\((.*)\)\Z", re.DOTALL)
_RATE = re.compile(r"([1-9][0-9]{0,6}) (minutes?|hours?|days?)\Z")
_AT = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\Z")
_SECONDS = {"minute": 60, "hour": 3600, "day": 86400}
_LOOK_BACK_S = 2 * 86400
_BEGINNING = datetime(1970, 1, 1)
_CRON_ENDS = datetime(cron.LAST_YEAR + 1, 1, 2, tzinfo=UTC).timestamp()


def check(schedule: str, timezone: str) -> None:
    """Refuse what is no schedule or no time zone. Raises ValidationException."""
    zone(timezone)
    form = _FORM.match(schedule)
    if form is None:
        raise invalid("Schedule expression must have the syntax: rate(<number>\\s?(minutes?|hours?|days?)), "
                      "cron(<cron expression>) or at(yyyy-MM-dd'T'HH:mm:ss).")  # fmt: skip
    kind, text = form.groups()
    if kind == "at":
        _at(text)
    elif kind == "rate":
        _rate(text)
    else:
        try:
            cron.parse(text)
        except ValueError as error:
            raise invalid(f"Schedule: {schedule} is not valid: {error}.") from None


def zone(name: str) -> ZoneInfo:
    """A time zone by its IANA name. Raises ValidationException."""
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise invalid(f"Timezone: {name} is not a valid time zone.") from None


def _at(text: str) -> datetime:
    try:
        if not _AT.match(text):
            raise ValueError(text)
        return datetime.fromisoformat(text)
    except ValueError:
        raise invalid(f"Schedule: at({text}) is not a time of the form yyyy-MM-ddTHH:mm:ss.") from None


def _rate(text: str) -> float:
    form = _RATE.match(text)
    if form is None or (form[1] == "1") == form[2].endswith("s"):
        raise invalid(f"Schedule: rate({text}) is not a number and minute(s), hour(s) or day(s).")
    return float(int(form[1]) * _SECONDS[form[2].removesuffix("s")])


def next_after(action: ScheduledAction, since: float) -> float | None:
    """The first occurrence after `since` (epoch seconds) that lies between the action's start and end."""
    since = max(since, action.put_at)
    if action.start_time is not None:
        since = max(since, action.start_time - 0.001)
    form = _FORM.match(action.schedule)
    assert form is not None
    kind, text = form.groups()
    if kind == "at":
        moment = _epoch(_at(text), action.timezone)
        found = moment if moment > since else None
    elif kind == "rate":
        found = _rated(action, _rate(text), since)
    else:
        found = _cronned(text, action.timezone, since)
    if found is not None and action.end_time is not None and found > action.end_time:
        return None
    return found


def _rated(action: ScheduledAction, seconds: float, since: float) -> float:
    """From the start time on; without one, a whole rate after the action was put."""
    first = action.start_time if action.start_time is not None else action.put_at + seconds
    return first if since < first else first + ((since - first) // seconds + 1) * seconds


def _cronned(text: str, timezone: str, since: float) -> float | None:
    if since > _CRON_ENDS:
        return None
    parsed = cron.parse(text)
    local = datetime.fromtimestamp(since, ZoneInfo(timezone)).replace(tzinfo=None)
    while (found := cron.next_after(parsed, local)) is not None:
        moment = _epoch(found, timezone)
        if moment > since:
            return moment
        local = found  # an hour that comes twice: the first was it
    return None


def _epoch(local: datetime, timezone: str) -> float:
    """Reckoned in seconds: at the ends of the calendar a date plus an offset would be none."""
    offset = local.replace(tzinfo=ZoneInfo(timezone), fold=0).utcoffset() or timedelta()
    return (local - _BEGINNING - offset).total_seconds()


def due(action: ScheduledAction, fired: float | None, now: float) -> float | None:
    """The latest occurrence that has come and was not acted upon; None when there is none.

    What was missed while nobody looked is made up for once, and only the last of it: bounds are absolute.
    """
    since = max(fired or 0.0, action.put_at)
    if since < now - _LOOK_BACK_S:
        recent = next_after(action, now - _LOOK_BACK_S)
        if recent is not None and recent <= now:
            since = now - _LOOK_BACK_S
    found = None
    while (following := next_after(action, since)) is not None and following <= now:
        found = since = following
    return found
