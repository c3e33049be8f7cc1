"""Dates as people type them: 2024, 2024-06, 2024-06-30, 2024-06-30T12:00, 7d, 2w."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from ..errors import AppError

_AGO = re.compile(r"(\d+)\s*(h|d|w)")
_YEAR_OR_MONTH = re.compile(r"(\d{4})(?:-(\d{2}))?")
_HOURS = {"h": 1, "d": 24, "w": 7 * 24}


def parse_date(text: str, *, option: str, now: datetime) -> datetime:
    """Return the moment that `text` names; a date is its first moment in the time zone of `now`, which is aware.

    "7d" is seven days before `now`; h, d and w are hours, days and weeks. Raises AppError naming `option`.
    """
    word = text.strip().lower()
    try:
        if match := _AGO.fullmatch(word):
            return now - timedelta(hours=int(match[1]) * _HOURS[match[2]])
        if match := _YEAR_OR_MONTH.fullmatch(word):
            return _local(datetime(int(match[1]), int(match[2] or 1), 1), now)
        return _local(datetime.fromisoformat(text.strip()), now)
    except (ValueError, OverflowError):
        raise AppError(
            f"{option} is {text!r}: expected a date such as 2024, 2024-06-30 or 2024-06-30T12:00, or an age such as "
            "12h, 7d or 2w"
        ) from None


def _local(date: datetime, now: datetime) -> datetime:
    """Return `date` aware: in its own zone, else in local time if that is what `now` is in."""
    if date.tzinfo is not None:
        return date
    try:
        local = date.astimezone()
    except (ValueError, OverflowError):  # the first and last day of the calendar, whose moment elsewhere is beyond it
        return date.replace(tzinfo=now.tzinfo)
    # astimezone() knows daylight saving on that day; a fixed zone of `now` (tests, servers in UTC) is taken as it is.
    return local if now.utcoffset() == now.astimezone().utcoffset() else date.replace(tzinfo=now.tzinfo)
