"""A disk without room: the answer says so, nothing is left half done, and all goes on when there is room again."""

import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from app.db.migrate import upgrade
from app.db.session import Database
from app.jobs import upgrade as upgrade_engine
from app.settings import Settings
from tests.app.test_frame import problem
from tests.app.test_scores import npz, send
from tests.conftest import NewDatabase, local_client

CHUNK = 4096


def fill(folder: Path) -> Path:
    """A file that takes the room that is left."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(CHUNK))
    assert shutil.disk_usage(folder).free == 0
    return filler


@pytest.fixture
def on_small_disk(tmp_path: Path, small_disk: Path) -> Settings:
    """Of a deployment whose database is on a small disk."""
    settings = Settings(home=tmp_path / "home", database_url=f"sqlite:///{small_disk}/forerank.sqlite")
    database = Database(settings.url)
    upgrade(database)
    database.close()
    upgrade_engine(settings)
    return settings


@pytest.mark.parametrize("used_before", [True, False], ids=["open", "opened then"])
def test_a_write_of_sqlite_without_room_is_507(on_small_disk: Settings, small_disk: Path, used_before: bool) -> None:
    body = {"location": "builtin:digits"}
    with local_client(on_small_disk) as client:
        if used_before:
            assert client.get("/v1/datasets").status_code == 200
        filler = fill(small_disk)
        document = problem(client.post("/v1/datasets", json=body), 507)
        assert "disk is full" in document["detail"]
        if used_before:
            assert client.get("/v1/datasets").json()["items"] == []
        filler.unlink()
        assert client.post("/v1/datasets", json=body).status_code == 202


def test_arrays_without_room_are_507(new_sqlite: NewDatabase, small_disk: Path) -> None:
    settings = Settings(home=small_disk, database_url=new_sqlite())
    labels = np.arange(20) % 2
    with local_client(settings) as client:
        document = problem(send(client, npz(features=np.zeros((20, 40_000)), labels=labels), ["tmi"]), 507)
        assert "disk is full" in document["detail"]
        answer = send(client, npz(features=np.random.default_rng(0).normal(size=(20, 4)), labels=labels), ["tmi"])
        assert answer.status_code == 200
