"""Who is there to compute."""

from sqlalchemy.orm import Session

from app.db.repositories.workers import Workers
from app.schemas.workers import WorkerAnswer
from app.settings import Settings


def answers(session: Session, settings: Settings) -> list[WorkerAnswer]:
    """Every worker that is known, the newest first."""
    return [
        WorkerAnswer(
            id=row.id,
            host=row.host.partition("/")[0],
            device=row.device,
            state="silent" if silent > settings.heartbeat_limit_seconds else "alive",
            seconds_since_heartbeat=round(max(0.0, silent), 1),
            started_at=row.started_at,
        )
        for row, silent in Workers(session).all()
    ]
