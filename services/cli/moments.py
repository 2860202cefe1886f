"""Times as people say them."""

from __future__ import annotations

import argparse
import re
import time
from datetime import UTC, datetime


def moment(text: str) -> float:
    """A time for --until, in seconds since the epoch: a date or time of ISO 8601 (UTC without an offset), or so many
    days or hours from now (30d, 12h)."""
    found = re.fullmatch(r"(\d{1,5})([dh])", text)
    if found:
        return time.time() + int(found[1]) * {"d": 86400, "h": 3600}[found[2]]
    try:
        told = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: 2027-01-31, 2027-01-31T12:00Z, 30d or 12h") from None
    return (told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp()
