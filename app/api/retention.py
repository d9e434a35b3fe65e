"""Retention: what would go, what went."""

from fastapi import APIRouter, Response, status

from app.api.dependencies import AdminDep, JobsDep, ReadSessionDep, SessionDep
from app.api.pagination import PlaceDep
from app.api.paths import RetentionPath
from app.api.problems import problem_responses
from app.api.route import Route
from app.schemas.page import Page
from app.schemas.retention import RetentionAnswer, RetentionCreate
from app.services import retention

router = APIRouter(prefix="/v1/retention/runs", tags=["retention"], route_class=Route)


@router.post("", status_code=status.HTTP_202_ACCEPTED)
def run_retention(
    body: RetentionCreate, response: Response, session: SessionDep, jobs: JobsDep, caller: AdminDep
) -> RetentionAnswer:
    """Look for what is past its time by the workers' settings. Poll `Location` until `state` is `succeeded`.

    Workers do this by themselves every `FORERANK_RETENTION_HOURS`. A dry run, the default here, removes nothing and
    says what would go: how many, how many bytes, and the first ids.
    """
    run = retention.run_now(session, jobs, dry_run=body.dry_run)
    response.headers.update({"Location": f"/v1/retention/runs/{run.id}", "Retry-After": "1"})
    return run


@router.get("")
def list_retention_runs(session: ReadSessionDep, caller: AdminDep, place: PlaceDep) -> Page[RetentionAnswer]:
    """What went, newest first."""
    return retention.page(session, place)


@router.get("/{run}", responses=problem_responses(404))
def get_retention_run(run: RetentionPath, session: ReadSessionDep, caller: AdminDep) -> RetentionAnswer:
    """One look, and what it found."""
    return retention.show(session, run)
