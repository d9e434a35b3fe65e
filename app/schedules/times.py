"""When a cron expression is due, as the engine's scheduler reads it.

Times are those of a time zone's wall clock. What a change of the clock does:

- a time that the clock skips is due at the first moment after the gap;
- a time that the clock shows twice is due at the first of them, unless the expression names no hour (``0 * * * *``):
  then each of the two is an hour of its own.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo, available_timezones

from croniter import croniter
from croniter.croniter import CroniterError

FIELDS = (5, 6)
# Fields that croniter fills at random or from a hash: a schedule has to be due at times that can be told.
RANDOM = re.compile(r"(^|[\s,])[RH]([\s(/,]|$)", re.IGNORECASE)
# So many show the shortest pause of any usual expression.
LOOKED_AT = 200


class BadTimes(ValueError):
    """The expression or the time zone makes no sense; the message says what to write instead."""


def check(cron: str, zone: str, *, shortest: timedelta, present: datetime) -> None:
    """Refuse what would never fire, or too often.

    Raises:
        BadTimes: and why.
    """
    if zone not in available_timezones():
        raise BadTimes(f"there is no time zone {zone!r}; write one such as Europe/Berlin or UTC")
    words = cron.split()
    if cron != " ".join(words) or len(words) not in FIELDS or RANDOM.search(cron):
        raise BadTimes("write five fields: minute, hour, day of month, month, day of week; or six, seconds first")
    try:
        valid = croniter.is_valid(cron, second_at_beginning=True)
        found = next_times(cron, zone, after=present, count=LOOKED_AT) if valid else []
    except CroniterError:
        found = []
    if not found:
        raise BadTimes(f"{cron!r} is never due")
    pauses = [later - sooner for sooner, later in pairwise(found)]
    if pauses and min(pauses) < shortest:
        raise BadTimes(
            f"{cron!r} is due again after {min(pauses).total_seconds():g} s; this server allows no pause shorter than "
            f"{shortest.total_seconds():g} s"
        )


def _due(cron: str, zone: str, after: datetime) -> Iterator[datetime]:
    times = croniter(cron, after.astimezone(ZoneInfo(zone)), second_at_beginning=True)
    while True:
        moment: datetime = times.get_next(datetime)
        if not is_repetition(cron, zone, moment):
            yield moment.astimezone(UTC)


def next_times(cron: str, zone: str, *, after: datetime, count: int) -> list[datetime]:
    """The next moments, in UTC, at which the expression is due."""
    try:
        return list(islice(_due(cron, zone, after), count))
    except CroniterError:
        return []


def latest_due(cron: str, zone: str, *, after: datetime, until: datetime) -> datetime | None:
    """The last moment in (after, until] at which the expression was due."""
    times = croniter(cron, (until + timedelta(seconds=1)).astimezone(ZoneInfo(zone)), second_at_beginning=True)
    while True:
        moment: datetime = times.get_prev(datetime)
        if moment <= after:
            return None
        if moment <= until and not is_repetition(cron, zone, moment):
            return moment.astimezone(UTC)


def is_repetition(cron: str, zone: str, moment: datetime) -> bool:
    """Whether the wall clock showed this time before, and the expression names its hour."""
    words = cron.split()
    if "*" in words[-4]:
        return False
    local = moment.astimezone(ZoneInfo(zone))
    first = local.replace(fold=0)
    return local.fold == 1 and first.utcoffset() != local.utcoffset()
