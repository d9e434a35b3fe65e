"""Telling a lost database from a wrong query, and waiting until it is back."""

import random
import sqlite3
import time
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import psycopg
import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

FIRST_PAUSE_SECONDS = 0.25
# Connection exceptions, insufficient resources, operator intervention (shut down, crashed, starting up), system errors.
LOST_CLASSES = ("08", "53", "57", "58")
# Failed over to a replica; serialization failure; deadlock; a session ended while idle in its transaction.
LOST_STATES = frozenset({"25006", "40001", "40P01", "25P03"})
# A statement that was cancelled on purpose or took too long would only be cancelled again.
QUERY_CANCELED = "57014"
SQLITE_LOST = frozenset(
    {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL}
)
# The second: a connection that is the first to open the file could not lay out the index of its journal.
SQLITE_WITHOUT_ROOM = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE})

log = structlog.stdlib.get_logger(__name__)


def is_outage(error: BaseException) -> bool:
    """Whether the same transaction is worth another attempt: the database was away, or chose it as a victim."""
    if isinstance(error, PoolTimeout):
        return True
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    cause = error.orig
    if isinstance(cause, sqlite3.Error):
        return getattr(cause, "sqlite_errorcode", 0) & 0xFF in SQLITE_LOST
    if not isinstance(cause, psycopg.Error):
        return False
    state = cause.sqlstate
    if state is None:
        # The server was never reached or went away in mid-sentence: libpq and the resolver give no code.
        return isinstance(cause, (psycopg.OperationalError, psycopg.InterfaceError))
    return state != QUERY_CANCELED and (state[:2] in LOST_CLASSES or state in LOST_STATES)


def is_full(error: BaseException) -> bool:
    """Whether the database could not write because its disk has no room."""
    cause = getattr(error, "orig", None)
    if isinstance(cause, sqlite3.Error):
        return getattr(cause, "sqlite_errorcode", 0) in SQLITE_WITHOUT_ROOM
    return isinstance(cause, psycopg.errors.DiskFull)


def outlast_outages(work: Callable[Parameters, Result], *, longest_pause: float) -> Callable[Parameters, Result]:
    """The same function, run again from its beginning until no outage interrupts it, however long that takes.

    Args:
        longest_pause: seconds between two attempts; the first come sooner.
    """

    @wraps(work)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        pause = min(FIRST_PAUSE_SECONDS, longest_pause)
        while True:
            try:
                return work(*args, **kwargs)
            except Exception as error:
                if not is_outage(error):
                    raise
                log.warning("waiting for the database", work=work.__name__, error=type(error).__name__)
            time.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - only spreads the attempts
            pause = min(2 * pause, longest_pause)

    return run
