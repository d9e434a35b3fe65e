"""Start a worker: settings, engine, liveness; and end it in good order."""

import os
import signal
import sys
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

import structlog
from dbos import DBOS, DBOSConfig

from app import jobs, logging, tracing
from app.db.migrate import is_current
from app.db.outages import outlast_outages
from app.db.repositories.models import Catalog
from app.db.session import Database, connection_arguments
from app.processes.lifeline import when_parent_ends
from app.settings import Settings
from workers import copies, engine, runtime, telemetry
from workers.device.extractor import Extractor
from workers.device.trainer import Trainer
from workers.errors import Problem, Stopping
from workers.finetunes import workflow as finetunes
from workers.images.reading import ImageReaders
from workers.inspection import workflow as inspections
from workers.inspection.description import describe_old_models
from workers.liveness import Liveness, executor_name
from workers.periodic import Periodic
from workers.ranking import workflow as rankings
from workers.retention import workflow as retention
from workers.schedules import workflow as schedules
from workers.schedules.keeper import ScheduleKeeper
from workers.scoring.pool import scorer_count, scorer_pool
from workers.store.features import FeatureStore
from workers.waiting import WaitingWork
from workers.webhooks import workflow as deliveries

log = structlog.stdlib.get_logger(__name__)
WORKFLOWS = (inspections, rankings, finetunes, schedules, deliveries, retention)
# A parent only waits, so many may; what computes is bounded by the device and the cores.
RANKINGS_AT_ONCE = 32
# All of them share the readers of images.
INSPECTIONS_AT_ONCE = 16
DELIVERIES_AT_ONCE = 8
# A run only waits for its rankings.
RUNS_AT_ONCE = 16
EXECUTOR_THREADS = 128


def configuration(settings: Settings, executor: str) -> DBOSConfig:
    """The engine's settings."""
    is_postgresql = settings.url.get_backend_name() == "postgresql"
    return {
        "name": jobs.APPLICATION,
        "system_database_url": jobs.engine_url(settings),
        "db_engine_kwargs": {"connect_args": connection_arguments(settings.url)} if is_postgresql else None,
        "application_version": jobs.APPLICATION_VERSION,
        "executor_id": executor,
        "serializer": jobs.JSON,
        "run_migrations": False,
        "enable_otlp": False,
        "log_level": "WARNING",
        "max_executor_threads": EXECUTOR_THREADS,
        "scheduler_polling_interval_sec": settings.schedule_polling_seconds,
        # Nothing here waits for the engine's messages.
        "notification_listener_polling_interval_sec": 1.0,
        "notification_coalesce_sec": 1.0,
    }


def register_queues(settings: Settings) -> None:
    """Tell the engine how many of each kind of work one worker does at once."""
    at_once = {
        jobs.Queue.RANKINGS: RANKINGS_AT_ONCE,
        jobs.Queue.INSPECTIONS: INSPECTIONS_AT_ONCE,
        jobs.Queue.DEVICE: 1,
        jobs.Queue.SCORING: scorer_count(settings),
        jobs.Queue.TRIALS: 1,
        jobs.Queue.DELIVERIES: DELIVERIES_AT_ONCE,
        jobs.Queue.SCHEDULES: RUNS_AT_ONCE,
        jobs.Queue.RETENTION: 1,
    }
    of_one_owner = {jobs.Queue.INSPECTIONS: settings.inspections_per_owner}
    for queue, number in at_once.items():
        DBOS.register_queue(
            queue.value,
            worker_concurrency=number,
            # Two that remove the same would count it twice.
            global_concurrency=1 if queue is jobs.Queue.RETENTION else None,
            partition_worker_concurrency=of_one_owner.get(queue),
            polling_interval_sec=settings.polling_seconds,
            on_conflict="always_update",
        )


def publish_catalog(settings: Settings, extractor: Extractor, database: Database) -> None:
    """Tell the API which models this worker's timm can build; also warms the extractor up."""
    try:
        models = extractor.publish_catalog()
    except Stopping:
        return
    except Problem as problem:
        log.warning("the catalog was not published", code=problem.code, detail=problem.detail)
        return

    def publish() -> None:
        with database.transaction() as session:
            Catalog(session).replace(models)
            describe_old_models(session)

    outlast_outages(publish, longest_pause=settings.database_retry_seconds)()
    log.info("catalog published", models=len(models))


def warn_of_stranded_jobs(database: Database) -> None:
    """Say which work waits for a worker of another version, since none of this version takes it."""
    with database.reading() as session:
        stranded = engine.stranded_jobs(session, jobs.APPLICATION_VERSION)
    for version, number in stranded.items():
        log.warning("jobs wait for a worker of another version", version=version, jobs=number)


def run(settings: Settings) -> None:
    """Work until a signal asks to stop."""
    logging.configure(settings)
    tracing.start("forerank-worker")
    jobs.refuse_pickles()
    database = Database(settings.url)
    if not is_current(database):
        raise SystemExit("the database is not at the present revision: run `forerank db upgrade` first")
    executor = executor_name(settings.device)
    parts = runtime.Runtime(
        settings=settings,
        database=database,
        features=FeatureStore.of(settings),
        extractor=Extractor(settings),
        trainer=Trainer(settings),
        scorers=scorer_pool(settings),
        readers=ImageReaders(settings),
        jobs=jobs.Jobs(settings, database),
    )
    runtime.start(parts)
    warn_of_stranded_jobs(database)
    liveness = Liveness(settings, database, executor, settings.device)
    # Before the first job is taken: what an unknown worker holds is given to others.
    liveness.register()
    engine.widen_retries()
    engine.look_at_delays_every(max(settings.polling_seconds, settings.webhook_first_pause_seconds))
    DBOS(config=configuration(settings, executor))
    DBOS.listen_queues([queue.value for queue in settings.served_queues])
    DBOS.launch()
    register_queues(settings)
    waiting = WaitingWork(database, settings.polling_seconds, engine.runs_jobs)
    engine.poll_cheaply(waiting.on, waiting.interval)
    liveness.start()
    telemetry.serve(settings)
    keeper = ScheduleKeeper(settings, database, parts.jobs)
    ask_for_retention = partial(retention.ask_when_due, settings, database, parts.jobs)
    repeated = [
        Periodic("schedules", settings.schedule_polling_seconds, keeper.look),
        Periodic("retention", retention.looking_seconds(settings), ask_for_retention),
    ]
    if settings.store_url:
        repeated.append(Periodic("copies", copies.SECONDS, partial(copies.sweep, settings, database)))
    for thread in repeated:
        thread.start()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    when_parent_ends(stop.set)
    if jobs.Queue.DEVICE in settings.served_queues:
        catalog = (settings, parts.extractor, database)
        threading.Thread(target=publish_catalog, args=catalog, name="catalog", daemon=True).start()
    log.info(
        "worker started",
        executor=executor,
        device=settings.device,
        queues=[queue.value for queue in settings.served_queues],
        database=database.engine.dialect.name,
    )
    stop.wait()
    log.info("worker stops", executor=executor)
    _close(parts, liveness, repeated)


def _close(parts: runtime.Runtime, liveness: Liveness, repeated: Sequence[Periodic]) -> None:
    # What runs goes back to its queues before anything is killed, so that no end of a process is taken for a failure.
    parts.stopping.set()
    for thread in repeated:
        thread.stop()
    DBOS.destroy(workflow_completion_timeout_sec=0)
    liveness.stop()
    parts.extractor.close()
    parts.trainer.close()
    parts.scorers.close()
    parts.readers.close()
    parts.jobs.close()
    parts.database.close()
    tracing.stop()
    log.info("worker stopped")
    sys.stdout.flush()
    os._exit(0)


def main(*_: Any) -> None:
    """`python -m workers`."""
    run(Settings())
