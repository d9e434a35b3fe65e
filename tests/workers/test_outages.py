"""Which errors of a database are waited out, and that waiting does the work once."""

import sqlite3
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from dbos import _sys_db
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.db import outages
from app.db.outages import is_full, is_outage, outlast_outages
from workers import engine


def wrapped(cause: Exception, *, invalidated: bool = False) -> DBAPIError:
    return OperationalError("SELECT 1", {}, cause, connection_invalidated=invalidated)


def sqlite_error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("said by SQLite")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    "error",
    [
        wrapped(psycopg.OperationalError("connection is bad: no such file or directory")),
        wrapped(psycopg.OperationalError("connection failed: connection refused")),
        wrapped(psycopg.OperationalError("[Errno -2] Name or service not known")),
        wrapped(psycopg.OperationalError("consuming input failed: server closed the connection unexpectedly")),
        wrapped(psycopg.InterfaceError("the connection is closed")),
        wrapped(psycopg.errors.AdminShutdown("terminating connection due to administrator command")),
        wrapped(psycopg.errors.CrashShutdown("terminating connection because of crash of another server process")),
        wrapped(psycopg.errors.CannotConnectNow("the database system is starting up")),
        wrapped(psycopg.errors.TooManyConnections("sorry, too many clients already")),
        wrapped(psycopg.errors.ReadOnlySqlTransaction("cannot execute UPDATE in a read-only transaction")),
        wrapped(psycopg.errors.DeadlockDetected("deadlock detected")),
        wrapped(psycopg.ProgrammingError("anything"), invalidated=True),
        wrapped(sqlite_error(sqlite3.SQLITE_BUSY)),
        wrapped(sqlite_error(sqlite3.SQLITE_IOERR | 4 << 8)),
        wrapped(sqlite_error(sqlite3.SQLITE_FULL)),
        PoolTimeout("QueuePool limit reached"),
    ],
)
def test_a_lost_database_is_an_outage(error: Exception) -> None:
    assert is_outage(error)


@pytest.mark.parametrize(
    "error",
    [
        wrapped(psycopg.errors.QueryCanceled("canceling statement due to statement timeout")),
        wrapped(psycopg.errors.UndefinedTable("relation does not exist")),
        wrapped(sqlite_error(sqlite3.SQLITE_ERROR)),
        IntegrityError("INSERT", {}, psycopg.errors.UniqueViolation("duplicate key")),
        ValueError("connection failed"),
    ],
)
def test_a_wrong_query_is_none(error: Exception) -> None:
    assert not is_outage(error)


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (wrapped(sqlite_error(sqlite3.SQLITE_FULL)), True),
        (wrapped(sqlite_error(sqlite3.SQLITE_IOERR_SHMSIZE)), True),
        (wrapped(psycopg.errors.DiskFull("could not extend file")), True),
        (wrapped(sqlite_error(sqlite3.SQLITE_BUSY)), False),
        (wrapped(psycopg.OperationalError("connection is bad")), False),
        (PoolTimeout("QueuePool limit reached"), False),
    ],
)
def test_a_full_disk_is_told_from_a_lost_database(error: Exception, full: bool) -> None:
    assert is_full(error) is full


def test_work_is_repeated_until_no_outage_interrupts_it() -> None:
    failures: list[Exception] = [wrapped(psycopg.OperationalError("connection is bad")) for _ in range(50)]

    def work() -> str:
        if failures:
            raise failures.pop()
        return "done"

    assert outlast_outages(work, longest_pause=0.001)() == "done"


@dataclass
class Outage:
    """A database that is away until a clock, which only sleeping moves, says so many seconds."""

    seconds: float
    clock: float = 0
    attempts: int = 0

    def sleep(self, seconds: float) -> None:
        self.clock += seconds

    def query(self) -> str:
        self.attempts += 1
        if self.clock < self.seconds:
            raise wrapped(psycopg.OperationalError("connection is bad"))
        return "answered"


TEN_MINUTES = 600


def test_ten_minutes_are_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    outage = Outage(TEN_MINUTES)
    monkeypatch.setattr(outages, "time", outage)
    assert outlast_outages(outage.query, longest_pause=5)() == "answered"
    assert outage.clock < TEN_MINUTES + 5
    assert outage.attempts < 300


def test_the_engine_waits_ten_minutes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    outage = Outage(TEN_MINUTES)
    monkeypatch.setattr(_sys_db, "retriable_postgres_exception", _sys_db.retriable_postgres_exception)
    monkeypatch.setattr(_sys_db, "time", outage)
    engine.widen_retries()
    assert _sys_db.db_retry()(outage.query)() == "answered"
    assert outage.clock < TEN_MINUTES + 90


def test_another_error_is_raised_at_once() -> None:
    calls: list[Any] = []

    def work() -> None:
        calls.append(None)
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        outlast_outages(work, longest_pause=0.001)()
    assert len(calls) == 1


def test_the_engine_asks_the_same_question(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sys_db, "retriable_postgres_exception", _sys_db.retriable_postgres_exception)
    monkeypatch.setattr(_sys_db.time, "sleep", lambda seconds: None)
    failures: list[Exception] = [wrapped(psycopg.OperationalError("connection is bad")) for _ in range(5)]

    @_sys_db.db_retry()
    def query() -> str:
        if failures:
            raise failures.pop()
        return "answered"

    with pytest.raises(OperationalError):
        query()
    engine.widen_retries()
    assert query() == "answered"
