"""One database: its engine, and the two ways to talk with it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.types import Float

from app.db.bounded import bound

SQLITE_BUSY_SECONDS = 30
POOL_SECONDS = 30
# Of libpq, in seconds: without them a host that vanished holds a connection for hours. The URL may give others.
CONNECT_AND_KEEP_ALIVE = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 20,
    "keepalives_interval": 5,
    "keepalives_count": 4,
}


class database_seconds(ColumnElement[float]):  # noqa: N801 - reads as an SQL function
    """Seconds since 1970 by the database's clock, to the millisecond: hosts may disagree, their database does not."""

    inherit_cache = True
    type = Float()


@compiles(database_seconds, "sqlite")
def _sqlite_seconds(element: object, compiler: object, **_: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(database_seconds, "postgresql")
def _postgresql_seconds(element: object, compiler: object, **_: Any) -> str:
    return "extract(epoch from clock_timestamp())::double precision"


def connection_arguments(url: URL) -> dict[str, int]:
    """What libpq is told about this PostgreSQL database in addition to its URL."""
    return {name: value for name, value in CONNECT_AND_KEEP_ALIVE.items() if name not in url.query}


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def connect(connection: Any, _: object) -> None:
        # The driver's own transactions begin late and cannot wait for a writer; ours begin in `begin` below.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(f"PRAGMA busy_timeout={SQLITE_BUSY_SECONDS * 1000}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A read that turns into a write fails at once if somebody wrote in between: writers begin as writers.
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


class Database:
    """An engine with its two kinds of session. Close it to give its connections back.

    Args:
        limit_seconds: of one statement, and of the wait for a connection, on PostgreSQL; beyond it SQLAlchemy's
            `OperationalError` or `TimeoutError`. None: as long as it takes.
    """

    def __init__(self, url: str | URL, *, pool_size: int = 10, limit_seconds: float | None = None) -> None:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            if not parsed.database or parsed.database == ":memory:":
                raise ValueError("FORERANK_DATABASE_URL: SQLite needs a file, since the API and the workers share it")
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            self.engine = create_engine(parsed, connect_args={"timeout": SQLITE_BUSY_SECONDS}, hide_parameters=True)
            _prepare_sqlite(self.engine)
        elif parsed.get_backend_name() == "postgresql":
            self.engine = create_engine(
                parsed,
                connect_args=connection_arguments(parsed),
                pool_size=pool_size,
                max_overflow=pool_size,
                pool_pre_ping=True,
                pool_timeout=limit_seconds or POOL_SECONDS,
                hide_parameters=True,
            )
            if limit_seconds is not None:
                bound(self.engine, limit_seconds)
        else:
            raise ValueError(f"FORERANK_DATABASE_URL: {parsed.get_backend_name()} is not sqlite or postgresql")
        self._writing = self.engine.execution_options(writes=True)
        # PostgreSQL shows each statement what is committed by then, in a transaction of the default level as outside
        # one; outside, nothing has to be begun and nothing undone, which saves a query two exchanges with the server.
        self._reading = self.engine if self.is_sqlite else self.engine.execution_options(isolation_level="AUTOCOMMIT")

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is one local file."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session for queries alone; what it read stays usable after it ends. Neither begin nor end waits."""
        with Session(self._reading, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A session that commits when the block ends, and rolls back when it raises."""
        with Session(self._writing, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()
