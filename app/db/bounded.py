"""Connections to PostgreSQL that give up on a server that does not answer."""

import time
from collections.abc import Generator
from typing import Any

import psycopg
from sqlalchemy import Engine, event

# The server is given a little longer than its own limit to say that it was reached.
GRACE_SECONDS = 1.0


class BoundedConnection(psycopg.Connection[Any]):
    """Each exchange with the server takes at most this long, even if the server is stopped or the network is silent."""

    answer_seconds: float = float("inf")

    def wait(self, gen: Generator[Any, Any, Any], *arguments: Any, **more: Any) -> Any:
        """As psycopg's own, which every exchange goes through.

        Raises:
            psycopg.OperationalError: there was no answer in time; the connection is closed.
        """
        return super().wait(self._bounded(gen), *arguments, **more)

    def _bounded(self, gen: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        deadline = time.monotonic() + self.answer_seconds
        try:
            wanted = next(gen)
            while True:
                # psycopg sends something here several times a second, whether the server did or not.
                ready = yield wanted
                if time.monotonic() > deadline:
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"the server did not answer within {self.answer_seconds:g} s")
                wanted = gen.send(ready)
        except StopIteration as end:
            return end.value


def bound(engine: Engine, limit_seconds: float) -> None:
    """End statements of new connections after this many seconds: by the server, and without it if it is silent."""

    @event.listens_for(engine, "do_connect")
    def connect(dialect: object, record: object, arguments: list[Any], parameters: dict[str, Any]) -> Any:
        connection = BoundedConnection.connect(*arguments, **parameters)
        connection.answer_seconds = limit_seconds + GRACE_SECONDS
        connection.execute("SELECT set_config('statement_timeout', %s, false)", [str(int(limit_seconds * 1000))])
        connection.commit()
        return connection
