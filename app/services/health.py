"""Whether work can be done now."""

import structlog
from pydantic import BaseModel, Field

from app.db.migrate import is_current
from app.db.repositories.workers import Workers
from app.db.session import Database
from app.errors import Unavailable
from app.jobs import Jobs
from app.settings import Settings

log = structlog.stdlib.get_logger("forerank.health")


class Readiness(BaseModel):
    """All that a ranking needs is there."""

    status: str = Field(examples=["ready"])
    workers: int = Field(description="Workers heard of lately.", examples=[1])


def check(settings: Settings, database: Database, jobs: Jobs) -> Readiness:
    """Look at the database, the job engine and the workers.

    Raises:
        Unavailable: one of them fails; `errors` names each that does.
    """
    failed: list[dict[str, str]] = []
    workers = 0
    try:
        if not is_current(database):
            failed.append({"pointer": "/database", "detail": "its tables are of another version: forerank db upgrade"})
        with database.reading() as session:
            workers = Workers(session).alive(limit_seconds=settings.heartbeat_limit_seconds)
        if not workers:
            failed.append({"pointer": "/workers", "detail": "no worker was heard of lately: forerank worker"})
    except Exception:
        # Whatever a driver raises means the same here; the reason may name hosts and users, so it is only logged.
        log.exception("the database does not answer")
        failed.append({"pointer": "/database", "detail": "it does not answer; the log has the reason"})
    else:
        # The engine is in the same database: without it there is nothing to wait for a second time.
        try:
            jobs.check()
        except Exception:
            log.exception("the job engine does not answer")
            failed.append({"pointer": "/engine", "detail": "it does not answer; the log has the reason"})
    if failed:
        names = ", ".join(entry["pointer"].removeprefix("/") for entry in failed)
        raise Unavailable(f"not ready: {names}", errors=failed, headers={"Retry-After": "5"})
    return Readiness(status="ready", workers=workers)
