"""The application: settings in, FastAPI out. Nothing happens at import."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI

from app import tracing
from app.api import (
    datasets,
    document,
    documentation,
    evaluations,
    events,
    finetunes,
    leaderboards,
    metrics,
    models,
    probes,
    problems,
    rankings,
    retention,
    schedules,
    scores,
    uploads,
    usage,
    webhooks,
    workers,
    zoos,
)
from app.api.frame import Frame
from app.api.telemetry import Telemetry
from app.api.tracing import TracedRequests
from app.db.session import Database
from app.jobs import Jobs
from app.services.feed import Feed
from app.services.keys import check_bind
from app.services.quotas import Quotas
from app.services.retries import Retries
from app.services.scoring import Scorers
from app.services.sessions import Sessions
from app.services.uploads import spooled_at_home, sweep
from app.services.usage import count_older_uploads
from app.settings import Settings
from app.web import install as install_pages

ROUTERS: tuple[APIRouter, ...] = (
    uploads.router,
    datasets.router,
    models.router,
    zoos.router,
    rankings.router,
    evaluations.router,
    events.router,
    finetunes.router,
    metrics.router,
    scores.router,
    schedules.router,
    leaderboards.router,
    webhooks.router,
    retention.router,
    usage.router,
    workers.router,
    probes.router,
    probes.measurements,
)


def create_app(settings: Settings) -> FastAPI:
    """An application that serves this deployment. Its database has to be migrated before it starts."""
    telemetry = Telemetry()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        tracing.start("forerank-api")
        database = Database(settings.url, limit_seconds=settings.database_limit_seconds)
        try:
            check_bind(settings, database)
            sweep(settings, database)
            count_older_uploads(settings, database)
            jobs = Jobs(settings, database)
            app.state.database = database
            app.state.jobs = jobs
            app.state.sessions = Sessions(settings, database)
            app.state.retries = Retries(settings, database)
            app.state.scorers = Scorers(settings)
            app.state.feed = Feed(settings, database)
            try:
                with spooled_at_home(settings):
                    yield
            finally:
                await app.state.feed.close()
                app.state.scorers.close()
                jobs.close()
        finally:
            database.close()
            tracing.stop()

    app = FastAPI(
        title=document.TITLE,
        version=document.version(),
        description=document.DESCRIPTION,
        openapi_tags=document.TAGS,
        generate_unique_id_function=document.operation_id,
        lifespan=lifespan,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        docs_url=None,
        redoc_url=None,
    )
    app.state.settings = settings
    app.state.telemetry = telemetry
    app.state.quotas = Quotas(settings)
    app.add_middleware(Frame, settings=settings, telemetry=telemetry)
    if tracing.is_wanted():
        app.add_middleware(TracedRequests)
    problems.install(app)
    for router in ROUTERS:
        app.include_router(router)
    install_pages(app)
    document.install(app)
    documentation.install(app)
    return app
