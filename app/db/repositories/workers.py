"""Queries on workers and their heartbeats, all by the database's clock."""

from collections.abc import Sequence

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from app.db.session import database_seconds
from app.db.tables import Worker


class Workers:
    """Who is alive."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def register(self, *, identifier: str, host: str, boot: str, pid: int, device: str) -> None:
        """A worker starts."""
        self.session.add(
            Worker(
                id=identifier,
                host=host,
                boot=boot,
                pid=pid,
                device=device,
                heartbeat=self.session.scalar(select(database_seconds())),
            )
        )

    def beat(self, identifier: str) -> bool:
        """A worker says that it lives; False when its row is gone (it was taken for dead)."""
        beaten = self.session.execute(
            update(Worker).where(Worker.id == identifier).values(heartbeat=database_seconds()).returning(Worker.id)
        )
        return beaten.first() is not None

    def identifiers(self) -> list[str]:
        """All workers that registered and were not forgotten."""
        return list(self.session.scalars(select(Worker.id)))

    def silent(self, *, limit_seconds: float) -> list[str]:
        """Workers that were not heard of for this long."""
        return list(
            self.session.scalars(select(Worker.id).where(Worker.heartbeat < database_seconds() - limit_seconds))
        )

    def on_host(self, *, host: str, boot: str) -> list[tuple[str, int]]:
        """(worker, pid) of all that run, or ran, on this host since it booted."""
        rows = self.session.execute(select(Worker.id, Worker.pid).where(Worker.host == host, Worker.boot == boot))
        return [(identifier, pid) for identifier, pid in rows]

    def forget(self, identifiers: Sequence[str]) -> None:
        """Take workers off the list whose work has been taken over, or handed over."""
        self.session.execute(delete(Worker).where(Worker.id.in_(identifiers)))

    def all(self) -> list[tuple[Worker, float]]:
        """Every worker with the seconds since its last heartbeat, the newest first."""
        rows = self.session.execute(
            select(Worker, database_seconds() - Worker.heartbeat).order_by(Worker.started_at.desc())
        )
        return [(row, silent) for row, silent in rows]

    def alive(self, *, limit_seconds: float) -> int:
        """How many workers were heard of within the limit."""
        count = self.session.scalar(
            select(func.count()).select_from(Worker).where(Worker.heartbeat >= database_seconds() - limit_seconds)
        )
        return count or 0
