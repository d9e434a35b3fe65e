"""Who is there to compute."""

from sqlalchemy.orm import Session

from app.db.repositories.queues import running_jobs
from app.db.repositories.workers import Workers
from app.jobs import Workflow
from app.schemas.workers import WorkerAnswer, WorkerJob
from app.settings import Settings

# What a worker does, in words. Workflows that only wait for others are not among them.
ACTIVITIES = {
    Workflow.INSPECT_DATASET: "inspecting a data set",
    Workflow.INSPECT_MODEL: "inspecting a model",
    Workflow.EXTRACT: "extracting features",
    Workflow.SCORE: "scoring",
    Workflow.TRY: "running a trial",
    Workflow.FINE_TUNE_ONCE: "fine-tuning",
    Workflow.RUN_SCHEDULE: "carrying out a schedule",
    Workflow.DELIVER: "delivering a webhook",
    Workflow.RETAIN: "removing what is past its time",
}


def answers(session: Session, settings: Settings) -> list[WorkerAnswer]:
    """Every worker that is known, the newest first, with what it does at this moment."""
    jobs = running_jobs(session, list(ACTIVITIES))
    return [
        WorkerAnswer(
            id=row.id,
            host=row.host.partition("/")[0],
            device=row.device,
            state="silent" if silent > settings.heartbeat_limit_seconds else "alive",
            seconds_since_heartbeat=round(max(0.0, silent), 1),
            started_at=row.started_at,
            jobs=[
                WorkerJob(activity=ACTIVITIES[Workflow(job.workflow)], seconds=round(job.seconds, 1))
                for job in jobs
                if job.worker == row.id
            ],
        )
        for row, silent in Workers(session).all()
    ]
