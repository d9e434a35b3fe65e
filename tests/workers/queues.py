"""The engine's own queues, for tests that look at what workers take of them and when."""

from dataclasses import dataclass, field

from dbos import DBOSClient
from sqlalchemy import text

from app.db.session import Database
from app.jobs import APPLICATION_VERSION, SOONEST, Queue
from workers.engine import Lease


@dataclass
class Queues:
    """The engine's own queues, and what they say of a job."""

    database: Database
    client: DBOSClient
    owners: dict[str, str] = field(default_factory=dict)

    def put(self, job: str, queue: Queue, *, version: str = APPLICATION_VERSION, priority: int = SOONEST) -> None:
        self.owners[job] = ""
        self.client.enqueue(
            {
                "workflow_name": "any",
                "queue_name": queue.value,
                "workflow_id": job,
                "app_version": version,
                "priority": priority,
            }
        )

    def take(self, queue: Queue, executor: str, *, owner: str, version: str = APPLICATION_VERSION) -> list[str]:
        """What a worker takes of a queue."""
        taken, _ = self.client._sys_db.start_queued_workflows(
            self.client.register_queue(queue.value, worker_concurrency=1), executor, version, None, 0, owner_xid=owner
        )
        return taken

    def run(self, job: str, queue: Queue, executor: str) -> Lease:
        """Have a worker take the job."""
        if job not in self.owners:
            self.put(job, queue)
        owner = f"{self.owners[job]}-{executor}"
        assert self.take(queue, executor, owner=owner) == [job]
        self.owners[job] = owner
        return Lease(job, owner)

    def end(self, job: str) -> None:
        """As the engine says of a job that has ended."""
        schema = "" if self.database.is_sqlite else "dbos."
        with self.database.transaction() as session:
            ended = f"UPDATE {schema}workflow_status SET status = 'SUCCESS' WHERE workflow_uuid = :job"
            session.execute(text(ended), {"job": job})

    def state(self, job: str) -> tuple[str, int]:
        """Status, and the attempts that count against the job."""
        schema = "" if self.database.is_sqlite else "dbos."
        query = f"SELECT status, recovery_attempts FROM {schema}workflow_status WHERE workflow_uuid = :job"
        with self.database.reading() as session:
            status, attempts = session.execute(text(query), {"job": job}).one()
        return status, attempts
