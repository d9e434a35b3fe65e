"""The engine's tables do not grow forever, and what a job found outlives the job."""

from sqlalchemy import text

from app.db.session import Database
from app.settings import Settings
from tests.service import running, wait_for


def jobs_of_the_engine(settings: Settings) -> int:
    database = Database(settings.url)
    schema = "" if database.is_sqlite else "dbos."
    with database.reading() as session:
        # The job that forgets is one, too.
        count = session.execute(
            text(f"SELECT count(*) FROM {schema}workflow_status WHERE name <> 'retain'")
        ).scalar_one()
    database.close()
    return int(count)


def test_ended_jobs_are_forgotten_and_their_results_kept(settings: Settings) -> None:
    with running(settings) as service:
        service.call("POST", "/v1/datasets", {"location": str(settings.data_roots[0] / "shapes")})
        found = service.until_ready("/v1/datasets/shapes")
        wait_for(lambda: jobs_of_the_engine(settings) == 1, what="the engine to remember its job")
    forgetful = settings.model_copy(update={"job_history_days": 1e-6, "retention_hours": 1 / 3600})
    with running(forgetful) as service:
        wait_for(lambda: jobs_of_the_engine(settings) == 0, what="the engine to forget")
        assert service.call("GET", "/v1/datasets/shapes") == found
