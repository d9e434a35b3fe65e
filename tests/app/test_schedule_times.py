"""When a schedule is due: cron expressions, time zones, and changes of the clock."""

from datetime import UTC, datetime, timedelta

import pytest

from app.schedules.times import BadTimes, check, is_repetition, latest_due, next_times

BERLIN = "Europe/Berlin"


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type,misc]


def test_wall_clock_is_that_of_the_zone() -> None:
    assert next_times("0 2 * * *", BERLIN, after=utc(2026, 1, 10), count=2) == [
        utc(2026, 1, 10, 1),
        utc(2026, 1, 11, 1),
    ]
    assert next_times("0 2 * * *", BERLIN, after=utc(2026, 7, 10), count=1) == [utc(2026, 7, 11)]


def test_skipped_time_is_due_after_the_gap() -> None:
    # On 29 March 2026 the clocks of Berlin go from 2:00 to 3:00.
    assert next_times("30 2 * * *", BERLIN, after=utc(2026, 3, 28, 12), count=2) == [
        utc(2026, 3, 29, 1),
        utc(2026, 3, 30, 0, 30),
    ]


def test_repeated_time_is_due_once() -> None:
    # On 25 October 2026 the clocks of Berlin show 2:00 to 3:00 twice.
    assert next_times("30 2 * * *", BERLIN, after=utc(2026, 10, 24, 12), count=2) == [
        utc(2026, 10, 25, 0, 30),
        utc(2026, 10, 26, 1, 30),
    ]
    assert is_repetition("30 2 * * *", BERLIN, utc(2026, 10, 25, 1, 30))


def test_every_hour_is_due_in_both_of_a_repeated_hour() -> None:
    assert next_times("0 * * * *", BERLIN, after=utc(2026, 10, 24, 23, 30), count=3) == [
        utc(2026, 10, 25, 0),
        utc(2026, 10, 25, 1),
        utc(2026, 10, 25, 2),
    ]


def test_latest_due_is_the_last_of_many_missed() -> None:
    assert latest_due("0 2 * * *", "UTC", after=utc(2026, 1, 1), until=utc(2026, 1, 10, 12)) == utc(2026, 1, 10, 2)


def test_latest_due_counts_the_very_moment() -> None:
    assert latest_due("0 2 * * *", "UTC", after=utc(2026, 1, 1), until=utc(2026, 1, 10, 2)) == utc(2026, 1, 10, 2)


def test_nothing_was_due_since() -> None:
    assert latest_due("0 2 * * *", "UTC", after=utc(2026, 1, 10, 2), until=utc(2026, 1, 10, 12)) is None


def test_latest_due_leaves_out_the_repetition() -> None:
    found = latest_due("30 2 * * *", BERLIN, after=utc(2026, 10, 20), until=utc(2026, 10, 25, 1, 45))
    assert found == utc(2026, 10, 25, 0, 30)


def refused(cron: str, zone: str = "UTC", *, shortest: int = 60) -> None:
    with pytest.raises(BadTimes):
        check(cron, zone, shortest=timedelta(seconds=shortest), present=utc(2026, 1, 1))


@pytest.mark.parametrize(
    "cron", ["", "2", "0 2 * *", "0 25 * * *", "0 0 31 2 *", "R R * * *", "@daily", " 0 2 * * *", "0 2 * * * * *", "x"]
)
def test_expression_that_is_never_due_is_refused(cron: str) -> None:
    refused(cron)


def test_unknown_zone_is_refused() -> None:
    refused("0 2 * * *", "Mars/Olympus")


def test_too_short_a_pause_is_refused() -> None:
    refused("* * * * * *")
    refused("0,1 2 * * *", shortest=3600)
    check("0 2 * * *", "UTC", shortest=timedelta(hours=1), present=utc(2026, 1, 1))


def test_days_and_months_have_names() -> None:
    check("0 2 * MAR-JUN THU,FRI", "UTC", shortest=timedelta(hours=1), present=utc(2026, 1, 1))
