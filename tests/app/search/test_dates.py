"""Dates as people type them."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from searchctl.app.errors import AppError
from searchctl.app.search.dates import parse_date
from searchctl.index.filters import microseconds

NOW = datetime(2026, 3, 15, 12, 30, tzinfo=UTC)


def test_dates(subtests: pytest.Subtests) -> None:
    for text, expected in [
        ("2024", datetime(2024, 1, 1, tzinfo=UTC)),
        ("2024-06", datetime(2024, 6, 1, tzinfo=UTC)),
        ("2024-06-30", datetime(2024, 6, 30, tzinfo=UTC)),
        ("2024-06-30T08:15", datetime(2024, 6, 30, 8, 15, tzinfo=UTC)),
        ("2024-06-30T08:15+02:00", datetime(2024, 6, 30, 6, 15, tzinfo=UTC)),
        ("12h", datetime(2026, 3, 15, 0, 30, tzinfo=UTC)),
        ("7d", datetime(2026, 3, 8, 12, 30, tzinfo=UTC)),
        ("2w", datetime(2026, 3, 1, 12, 30, tzinfo=UTC)),
        ("2 W", datetime(2026, 3, 1, 12, 30, tzinfo=UTC)),
    ]:
        with subtests.test(text=text, expected=expected):
            assert parse_date(text, option="--after", now=NOW) == expected


def test_nonsense_names_option_value_and_what_was_expected(subtests: pytest.Subtests) -> None:
    for text in ["", "soon", "2024-13", "2024-02-30", "7x", "99999999999w", "-7d"]:
        with subtests.test(text=text), pytest.raises(AppError, match=r"--after is .*expected a date"):
            parse_date(text, option="--after", now=NOW)


def test_the_ends_of_the_calendar_are_dates(subtests: pytest.Subtests) -> None:
    for zone in ["UTC", "Asia/Tokyo", "America/New_York"]:
        for text in ["0001", "0001-01-01", "9999-12-31T23:59"]:
            with subtests.test(zone=zone, text=text), pytest.MonkeyPatch.context() as monkeypatch:
                monkeypatch.setenv("TZ", zone)
                time.tzset()
                try:
                    now = datetime.now().astimezone()
                    parsed = parse_date(text, option="--before", now=now)
                    assert parsed.isoformat().startswith(text[:4])
                    microseconds(parsed)  # what the filter makes of it
                finally:
                    monkeypatch.undo()
                    time.tzset()
