"""Rules of retention: how it is asked for, and what its log says."""

from sqlalchemy.orm import Session

from app.contracts.listing import Listing
from app.db.repositories.retention import RetentionRuns
from app.db.retention_tables import RetentionRun
from app.errors import NotFound
from app.jobs import Jobs
from app.schemas.page import Page, page_of
from app.schemas.retention import RetentionAnswer


def run_now(session: Session, jobs: Jobs, *, dry_run: bool) -> RetentionAnswer:
    """Have a worker look for what is past its time by its own settings."""
    run = RetentionRuns(session).add(RetentionRun(dry_run=dry_run, by_hand=True))
    jobs.retain(session, run.id)
    return RetentionAnswer.model_validate(run)


def page(session: Session, listing: Listing) -> Page[RetentionAnswer]:
    """The log."""
    return page_of(RetentionRuns(session).page(listing), listing.limit, RetentionAnswer.model_validate)


def show(session: Session, run_id: str) -> RetentionAnswer:
    """One entry of the log; `latest` is the newest."""
    runs = RetentionRuns(session)
    run = next(iter(runs.page(Listing(limit=1))), None) if run_id == "latest" else runs.get(run_id)
    if run is None:
        raise NotFound(f"there is no run of retention {run_id!r}; GET /v1/retention/runs lists the last ones")
    return RetentionAnswer.model_validate(run)
