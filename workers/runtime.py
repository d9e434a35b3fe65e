"""What a worker process holds; workflows find it here, since the engine calls them with ids only."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from sqlalchemy.orm import Session

from app.db.outages import outlast_outages
from app.db.session import Database
from app.jobs import Jobs
from app.processes.pool import ProcessPool
from app.settings import Settings
from workers import engine
from workers.device.extractor import Extractor
from workers.device.trainer import Trainer
from workers.images.reading import ImageReaders
from workers.store.features import FeatureStore

Result = TypeVar("Result")


@dataclass(frozen=True)
class Runtime:
    """Everything that workflows need besides their ids.

    Attributes:
        stopping: set when this worker ends and its jobs go to others; nothing is written for them any more.
    """

    settings: Settings
    database: Database
    features: FeatureStore
    extractor: Extractor
    trainer: Trainer
    scorers: ProcessPool
    readers: ImageReaders
    jobs: Jobs
    stopping: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A transaction that writes for the job of this thread, as long as the job is this thread's to write for.

        Raises:
            Abandoned: another execution holds the job, or this worker stops.
        """
        lease = engine.current_lease()
        with self.database.transaction() as session:
            if lease is not None:
                engine.hold(session, lease)
            if self.stopping.is_set():
                raise engine.Abandoned("the worker stops")
            yield session

    def write(self, work: Callable[[Session], Result]) -> Result:
        """Such a transaction, again and again until no outage of the database interrupts it."""

        def write() -> Result:
            with self.transaction() as session:
                return work(session)

        return outlast_outages(write, longest_pause=self.settings.database_retry_seconds)()

    def close(self) -> None:
        """End the processes and give the connections back."""
        self.extractor.close()
        self.trainer.close()
        self.scorers.close()
        self.readers.close()
        self.jobs.close()
        self.database.close()


_current: Runtime | None = None


def start(runtime: Runtime) -> None:
    """Make this the runtime of the process."""
    global _current
    _current = runtime


def current() -> Runtime:
    """The runtime of the process."""
    if _current is None:
        raise RuntimeError("the worker has not been started")
    return _current
