"""The only door to the job engine: enqueue in the caller's transaction, cancel, look after it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, NoReturn

import structlog
from dbos import DBOS, DBOSClient, EnqueueOptions
from dbos._serialization import DBOSDefaultSerializer, DBOSPortableJSON, DefaultSerializer
from sqlalchemy import event
from sqlalchemy.orm import Session

from app.db.repositories.unfinished import inspection_job
from app.db.schedule_tables import Schedule
from app.db.session import Database
from app.settings import Queue as Queue
from app.settings import Settings

log = structlog.stdlib.get_logger(__name__)

APPLICATION = "forerank"
# Raise it only when a workflow changes shape: work of an old version waits for a worker of that version.
APPLICATION_VERSION = "1"
CONNECTIONS = 5
JSON = DBOSPortableJSON
# The engine's states of a job that has ended.
GIVEN_UP = ("ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED", "CANCELLED")
ENDED = ("SUCCESS", *GIVEN_UP)


# A cron expression is due at whole seconds.
FIRING_WINDOW = timedelta(milliseconds=500)


@dataclass(frozen=True, slots=True)
class HeldSchedule:
    """A schedule as the engine's scheduler holds it; `fired` is when it last did."""

    cron: str
    time_zone: str
    fired: datetime | None = field(default=None, compare=False)


class Workflow(StrEnum):
    """The workflows, by the names under which their history is stored."""

    RANK = "rank"
    INSPECT_DATASET = "inspect_dataset"
    INSPECT_MODEL = "inspect_model"
    EXTRACT = "extract"
    SCORE = "score"
    TRY = "try"
    FINE_TUNE = "fine_tune"
    FINE_TUNE_ONCE = "fine_tune_once"
    DELIVER = "deliver"
    FIRE_SCHEDULE = "fire_schedule"
    RUN_SCHEDULE = "run_schedule"
    RETAIN = "retain"


# The engine's priorities are integers of 32 bits; lower is sooner, and work without one would run before all other.
SOONEST = 1
CLASSES = {"high": 1, "normal": 2, "low": 3}
SUBMISSION_BITS = 29


def ranking_priority(priority: str, submission: int) -> int:
    """Of all jobs of a ranking: by its class, and within a class the oldest submission first.

    Submissions are counted, since several may share a time stamp. The count begins anew after 2^29.
    """
    return (CLASSES[priority] << SUBMISSION_BITS) + submission % (1 << SUBMISSION_BITS)


def delivery_job(delivery_id: str, number: int) -> str:
    """The id of the job that tries a delivery for the n-th time."""
    return f"{delivery_id}-{number}"


def refuse_pickles() -> None:
    """Close the engine's pickle decoder in this process.

    Decoding follows a column of each stored row, so a row that says ``py_pickle`` would run code even in a process
    that writes JSON.
    """

    def refuse(self: object, serialized_data: str) -> NoReturn:
        raise ValueError("a stored value claims to be a pickle; Forerank stores JSON only and never unpickles")

    DefaultSerializer.deserialize = refuse  # type: ignore[method-assign, assignment]
    if type(DBOSDefaultSerializer) is not DefaultSerializer:
        raise RuntimeError("the job engine's pickle decoder has moved; it must be closed before anything is read")


def engine_url(settings: Settings) -> str:
    """The engine shares our database; it names its own driver."""
    url = settings.url
    if url.get_backend_name() == "postgresql":
        url = url.set(drivername="postgresql")
    return url.render_as_string(hide_password=False)


def upgrade(settings: Settings) -> None:
    """Bring the engine's tables to its present version."""
    refuse_pickles()
    DBOS.migrate(engine_url(settings))


def _bounded(settings: Settings) -> Database:
    return Database(settings.url, pool_size=CONNECTIONS, limit_seconds=settings.database_limit_seconds)


class Jobs:
    """The engine as the API sees it: it knows the names of workflows and none of their code."""

    def __init__(self, settings: Settings, database: Database) -> None:
        refuse_pickles()
        # Connections of its own: a cancellation asks the engine while its transaction still holds one of the others.
        self._connections = None if database.is_sqlite else _bounded(settings)
        self._client = DBOSClient(
            system_database_url=engine_url(settings),
            system_database_engine=None if self._connections is None else self._connections.engine,
            serializer=JSON,
            application_name=APPLICATION,
            lazy=True,
            retry_connection_errors=False,
        )

    def inspect_dataset(self, session: Session, dataset_id: str, *, owner: str) -> None:
        """Have a worker count and fingerprint a data set, once this transaction commits; owners share the workers."""
        self._enqueue(
            session, Workflow.INSPECT_DATASET, Queue.INSPECTIONS, inspection_job(dataset_id), dataset_id, share_of=owner
        )

    def inspect_model(self, session: Session, model_id: str) -> None:
        """Have a worker load and digest a model, once this transaction commits."""
        self._enqueue(session, Workflow.INSPECT_MODEL, Queue.DEVICE, inspection_job(model_id), model_id)

    def rank(self, session: Session, ranking_id: str, *, priority: int) -> None:
        """Have the workers do a ranking, once this transaction commits."""
        self._enqueue(session, Workflow.RANK, Queue.RANKINGS, ranking_id, ranking_id, priority=priority)

    def fine_tune(self, session: Session, fine_tuning_id: str, *, priority: int) -> None:
        """Have the workers do a full fine-tuning, once this transaction commits."""
        self._enqueue(session, Workflow.FINE_TUNE, Queue.RANKINGS, fine_tuning_id, fine_tuning_id, priority=priority)

    def deliver(self, session: Session, delivery_id: str, *, number: int) -> None:
        """Have a worker send a message for the n-th time, once this transaction commits."""
        self._enqueue(
            session,
            Workflow.DELIVER,
            Queue.DELIVERIES,
            delivery_job(delivery_id, number),
            delivery_id,
            number,
        )

    def run_schedule(self, session: Session, run_id: str) -> None:
        """Have a worker carry out a run that was asked for by hand, once this transaction commits."""
        self._enqueue(session, Workflow.RUN_SCHEDULE, Queue.SCHEDULES, run_id, run_id)

    def retain(self, session: Session, run_id: str) -> None:
        """Have a worker look for what is past its time, once this transaction commits; one at a time does."""
        self._enqueue(session, Workflow.RETAIN, Queue.RETENTION, run_id, run_id)

    def hold_schedule(self, session: Session, schedule: Schedule) -> None:
        """Once this transaction commits, have the engine's scheduler hold a schedule as it is defined now."""
        held = HeldSchedule(schedule.cron, schedule.time_zone)
        self._after_commit(session, schedule.id, lambda: self.hold(schedule.id, held))

    def release_schedule(self, session: Session, schedule_id: str) -> None:
        """Once this transaction commits, have the engine's scheduler forget a schedule."""
        self._after_commit(session, schedule_id, lambda: self.release(schedule_id))

    def _after_commit(self, session: Session, schedule_id: str, act: Callable[[], None]) -> None:
        # The engine takes no caller's transaction for this; workers compare both sides and repair what a crash leaves.
        def run(_: Session) -> None:
            try:
                act()
            except Exception:
                log.exception("the engine's scheduler could not be told; a worker repairs it", schedule=schedule_id)

        event.listen(session, "after_commit", run, once=True)

    def held(self) -> dict[str, HeldSchedule]:
        """What the engine's scheduler holds of ours, by the schedule's id."""
        return {
            entry["schedule_name"]: HeldSchedule(
                entry["schedule"],
                entry["cron_timezone"] or "UTC",
                datetime.fromisoformat(entry["last_fired_at"]) if entry["last_fired_at"] else None,
            )
            for entry in self._client.list_schedules(workflow_name=Workflow.FIRE_SCHEDULE.value)
        }

    def hold(self, schedule_id: str, wanted: HeldSchedule) -> None:
        """Put a schedule into the engine's scheduler, replacing what it holds under this id."""
        self._client.delete_schedule(schedule_id)
        self._client.create_schedule(
            schedule_name=schedule_id,
            workflow_name=Workflow.FIRE_SCHEDULE.value,
            schedule=wanted.cron,
            cron_timezone=wanted.time_zone,
            context={"schedule": schedule_id},
            queue_name=Queue.SCHEDULES.value,
        )

    def release(self, schedule_id: str) -> None:
        """Take a schedule out of the engine's scheduler; nothing happens if it is not there."""
        self._client.delete_schedule(schedule_id)

    def fire(self, schedule_id: str, due: datetime) -> None:
        """Fire a held schedule for a moment that nobody fired; the engine fires each moment once, whoever asks."""
        self._client.backfill_schedule(schedule_id, due - FIRING_WINDOW, due + FIRING_WINDOW)

    def ended(self, *, before: datetime | None, newest: int | None) -> list[str]:
        """Jobs that nobody started for another and that ended before a moment, or are not among the newest."""

        def find(**which: Any) -> list[str]:
            rows = self._client.list_workflows(
                status=list(ENDED), has_parent=False, load_input=False, load_output=False, **which
            )
            return [row.workflow_id for row in rows]

        old = [] if before is None else find(completed_before=before.astimezone(UTC).isoformat())
        # From the newest that is one too many to the oldest.
        surplus = [] if newest is None else find(sort_desc=True, offset=newest)
        return list(dict.fromkeys([*old, *reversed(surplus)]))

    def forget(self, jobs: Sequence[str]) -> None:
        """Have the engine forget jobs that ended, and all that they started. Not inside a transaction."""
        self._client.delete_workflows(list(jobs), delete_children=True)

    def _enqueue(
        self,
        session: Session,
        workflow: Workflow,
        queue: Queue,
        workflow_id: str,
        *arguments: str | int,
        priority: int = SOONEST,
        share_of: str | None = None,
    ) -> None:
        options: EnqueueOptions = {
            "workflow_name": workflow.value,
            "queue_name": queue.value,
            "workflow_id": workflow_id,
            "app_version": APPLICATION_VERSION,
            "priority": priority,
        }
        if share_of is not None:
            options["queue_partition_key"] = share_of
        handle: Any = self._client.enqueue_in_transaction(session, options, *arguments)
        if handle.get_workflow_id() != workflow_id:
            raise RuntimeError(f"the job engine gave {workflow_id} another id")

    def cancel(self, session: Session, workflow_id: str) -> None:
        """Once this transaction commits, ask a workflow and all that it started to end at their next step.

        Workers look at the row too, so a ranking ends even if the engine is not reached.
        """

        def cancel(_: Session) -> None:
            try:
                self._client.cancel_workflow(workflow_id, cancel_children=True)
            except Exception:
                log.exception("the engine could not be told of a cancellation", workflow=workflow_id)

        event.listen(session, "after_commit", cancel, once=True)

    def check(self) -> None:
        """Raise if the engine's tables cannot be read."""
        self._client.list_workflows(limit=1, load_input=False, load_output=False)

    def close(self) -> None:
        """Give the connections back."""
        self._client.destroy()
        if self._connections is not None:
            self._connections.close()
