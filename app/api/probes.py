"""Is it alive, is it ready, how is it doing: for orchestrators, load balancers and Prometheus."""

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError

from app.api.dependencies import DatabaseDep, JobsDep, ReaderDep, SettingsDep
from app.api.problems import problem_responses
from app.api.route import Route
from app.db.outages import is_outage
from app.services import health
from app.services import measurements as measurements_of

# The first two reveal nothing about anyone's data, and those who ask them have no key.
router = APIRouter(tags=["probes"])
measurements = APIRouter(tags=["probes"], route_class=Route)


class Alive(BaseModel):
    """The process answers."""

    status: str = Field(examples=["alive"])


@router.get("/livez")
async def livez() -> Alive:
    """Whether the process answers; restart it if not. Looks at nothing else."""
    # A coroutine: threads may all be taken by requests that wait.
    return Alive(status="alive")


@router.get("/readyz", responses=problem_responses(503))
def readyz(settings: SettingsDep, database: DatabaseDep, jobs: JobsDep) -> health.Readiness:
    """Whether work can be done now: the database and the job engine answer, and a worker was heard of lately."""
    return health.check(settings, database, jobs)


@measurements.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def metrics(request: Request, caller: ReaderDep, settings: SettingsDep, database: DatabaseDep) -> Response:
    """Measurements in Prometheus' text format: requests of this server by route template, and the deployment's queues.

    Workers tell theirs (stages, images, device memory, what was reused) on `FORERANK_WORKER_METRICS_PORT`.
    """
    content: bytes = request.app.state.telemetry.exposition()
    try:
        content += measurements_of.exposition(settings, database)
    except SQLAlchemyError as error:
        # What the requests say is never more wanted than while the database is away.
        if not is_outage(error):
            raise
    return Response(content, media_type=CONTENT_TYPE_LATEST)
