"""Dates that documents say of themselves."""

from __future__ import annotations

from datetime import UTC, datetime


def said_date(value: str) -> datetime | None:
    """Return the moment of an ISO date, None for anything else; without a zone it is local time, as in `--after`."""
    try:
        date = datetime.fromisoformat(value)
    except ValueError:
        return None
    if date.tzinfo is not None:
        return date
    try:
        return date.astimezone()
    except (ValueError, OverflowError):  # the first and last day of the calendar
        return date.replace(tzinfo=UTC)
