"""What a worker takes of its queues: whose work, how often it looks, and what it gives up."""

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dbos import DBOS
from dbos._dbos import _get_dbos_instance
from dbos._queue import Queue as EngineQueue
from psycopg.errors import SerializationFailure
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from app.contracts.datasets import FolderSpec, ManifestSpec
from app.contracts.states import ResourceState
from app.db.session import Database
from app.db.tables import Dataset
from app.jobs import Jobs, Queue
from app.settings import Settings
from tests.conftest import NewDatabase
from tests.service import wait_for
from tests.workers.conftest import ReadersHere, picture
from workers import engine, runtime
from workers.durable import DEATHS
from workers.images.reading import ImageFile
from workers.liveness import close_abandoned
from workers.main import configuration, register_queues
from workers.waiting import WaitingWork


class HeldReaders(ReadersHere):
    """Readers that have begun with a data set, and go on when they are let."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.begun: set[str] = set()
        self.released = threading.Event()

    def read(self, spec: FolderSpec | ManifestSpec, path: str) -> ImageFile:
        self.begun.add(Path(spec.path).name)
        assert self.released.wait(60)
        return super().read(spec, path)

    def thumbnail(self, spec: FolderSpec | ManifestSpec, path: str) -> bytes:
        return b""


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    make: NewDatabase = request.getfixturevalue(f"new_{request.param}")
    given = settings.model_dump(exclude_unset=True)
    return Settings(**given | {"database_url": make(), "polling_seconds": 0.05, "inspections_per_owner": 2})


@pytest.fixture
def worker(settings: Settings) -> Iterator[runtime.Runtime]:
    """What a worker does with its queues, in this process."""
    database = Database(settings.url)
    parts: Any = {"features": None, "extractor": None, "trainer": None, "scorers": None}
    held = runtime.Runtime(
        settings=settings,
        database=database,
        readers=HeldReaders(settings),  # type: ignore[arg-type]
        jobs=Jobs(settings, database),
        **parts,
    )
    runtime.start(held)
    DBOS(config=configuration(settings, "here"))
    DBOS.listen_queues([queue.value for queue in Queue])
    DBOS.launch()
    register_queues(settings)
    waiting = WaitingWork(database, settings.polling_seconds)
    engine.poll_cheaply(waiting.on, waiting.interval)
    yield held
    DBOS.destroy(workflow_completion_timeout_sec=0)
    held.jobs.close()
    database.close()


def register(worker: runtime.Runtime, name: str, owner: str, *, deaths: int = 0) -> None:
    """Register a data set whose inspection has cost so many workers their lives."""
    folder = worker.settings.data_roots[0] / name
    (folder / "one").mkdir(parents=True)
    picture(0).save(folder / "one" / "0.png")
    with worker.database.transaction() as session:
        row = Dataset(name=name, owner=owner, spec=FolderSpec(path=str(folder)), state=ResourceState.PENDING)
        session.add(row)
        session.flush()
        worker.jobs.inspect_dataset(session, row.id, owner=owner)
        schema = "" if worker.database.is_sqlite else "dbos."
        session.execute(
            text(f"UPDATE {schema}workflow_status SET recovery_attempts = {deaths} WHERE status = 'ENQUEUED'")
        )


def states(worker: runtime.Runtime) -> Counter[ResourceState]:
    with worker.database.reading() as session:
        return Counter(row.state for row in session.query(Dataset))


def test_an_owner_with_many_data_sets_holds_up_nobody_else(worker: runtime.Runtime) -> None:
    readers: Any = worker.readers
    for number in range(5):
        register(worker, f"many-{number}", "key_many")
    wait_for(lambda: len(readers.begun) == 2, what="as many inspections as one owner may have at once")
    register(worker, "single", "key_other")
    wait_for(lambda: "single" in readers.begun, what="the inspection of the other owner")
    assert len(readers.begun) == 3
    readers.released.set()
    wait_for(lambda: states(worker) == {ResourceState.READY: 6}, what="the end of all inspections")


@pytest.mark.parametrize(("deaths", "is_given_up"), [(DEATHS - 1, False), (DEATHS, True)])
def test_an_inspection_that_kills_its_workers_is_given_up_and_says_so(
    worker: runtime.Runtime, deaths: int, is_given_up: bool
) -> None:
    readers: Any = worker.readers
    readers.released.set()
    register(worker, "poison", "key", deaths=deaths)

    def ended() -> Dataset | None:
        close_abandoned(worker.database)
        with worker.database.reading() as session:
            row = session.query(Dataset).one()
            return row if row.state is not ResourceState.PENDING else None

    row = wait_for(ended, what="the end of the inspection")
    assert (row.state, "poison" in readers.begun) == (
        (ResourceState.FAILED, False) if is_given_up else (ResourceState.READY, True)
    )
    assert row.problem is None or "crashed repeatedly" in row.problem.detail


def test_races_that_are_lost_do_not_make_looks_rarer(worker: runtime.Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would double the engine's own pause: the fifteenth look would come after minutes."""
    system = _get_dbos_instance()._sys_db
    looks: Counter[str] = Counter()

    def lose(queue: EngineQueue, *_: Any, **__: Any) -> Any:
        looks[queue.name] += 1
        raise OperationalError("SELECT", None, SerializationFailure())

    monkeypatch.setattr(system, "start_queued_workflows", lose)
    monkeypatch.setattr(system, "dequeue_scopes", lambda name: [None])
    wait_for(lambda: looks[Queue.DEVICE.value] >= 15, seconds=20, what="looks at a queue")
