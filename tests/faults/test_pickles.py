"""A stored row that claims to be a pickle runs no code, whichever process reads it."""

import base64
import pickle
from pathlib import Path

import pytest
from sqlalchemy import text

from app import jobs
from app.db.session import Database
from app.settings import Settings
from tests.service import FAST, running, wait_for


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (open, (str(self.path), "w"))  # type: ignore[return-value]


@pytest.fixture
def fuse(tmp_path: Path) -> Path:
    return tmp_path / "exploded"


def plant(settings: Settings, fuse: Path) -> None:
    """Turn the arguments of a queued ranking into a pickle."""
    database = Database(settings.url)
    payload = base64.b64encode(pickle.dumps({"args": (Bomb(fuse),), "kwargs": {}})).decode()
    schema = "" if database.is_sqlite else "dbos."
    with database.transaction() as session:
        session.execute(text(f"UPDATE {schema}workflow_input SET inputs = :payload"), {"payload": payload})
        changed = session.execute(text(f"UPDATE {schema}workflow_status SET serialization = 'py_pickle'"))
        assert changed.rowcount == 1
    database.close()


def enqueue(settings: Settings) -> None:
    database = Database(settings.url)
    queue = jobs.Jobs(settings, database)
    with database.transaction() as session:
        queue.rank(session, "rnk_bomb", priority=100)
    queue.close()
    database.close()


def test_a_worker_refuses_it(settings: Settings, fuse: Path) -> None:
    settings = settings.model_copy(update=FAST)
    settings = Settings(**settings.model_dump(exclude_unset=True))
    enqueue(settings)
    plant(settings, fuse)
    with running(settings):
        database = Database(settings.url)
        schema = "" if database.is_sqlite else "dbos."

        def status() -> str:
            with database.reading() as session:
                query = f"SELECT status FROM {schema}workflow_status WHERE workflow_uuid = 'rnk_bomb'"
                return str(session.scalar(text(query)))

        wait_for(lambda: status() not in ("ENQUEUED", "PENDING"), seconds=30, what="the bomb to be refused")
        assert status() == "ERROR"
        database.close()
    assert not fuse.exists()


def test_the_decoder_is_closed_where_jobs_are_used(settings: Settings, fuse: Path) -> None:
    database = Database(settings.url)
    queue = jobs.Jobs(settings, database)
    payload = base64.b64encode(pickle.dumps(Bomb(fuse))).decode()
    with pytest.raises(ValueError, match="never unpickles"):
        jobs.DBOSDefaultSerializer.deserialize(payload)
    queue.close()
    database.close()
    assert not fuse.exists()
