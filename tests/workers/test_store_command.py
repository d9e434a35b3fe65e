"""`forerank store`, over both kinds of storage."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.settings import Settings
from tests.conftest import NewDatabase
from workers.store.entries import EntryStore
from workers.store.features import entries_of
from workers.store.folder import FolderStore

FIRST, SECOND = ("a" * 64, "b" * 64)


@pytest.fixture(params=["folder", "objects"])
def configured(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    settings = Settings(home=tmp_path / "home", feature_quota_gigabytes=1e-5)
    if request.param == "folder":
        return settings
    make: NewDatabase = request.getfixturevalue("new_postgresql")
    url: str = request.getfixturevalue("store_url")
    return Settings(home=settings.home, feature_quota_gigabytes=1e-5, database_url=make(), store_url=url)


def put(store: EntryStore, key: str) -> None:
    with store.write(key, {}) as folder:
        (folder / "data").write_bytes(bytes(4000))


def run(settings: Settings, *arguments: str) -> tuple[int, str]:
    process = subprocess.run(
        [sys.executable, "-m", "app.cli", "store", *arguments],
        env=os.environ | settings.environment(),
        capture_output=True,
        text=True,
    )
    return process.returncode, process.stdout + process.stderr


def test_what_there_is(configured: Settings) -> None:
    store = entries_of(configured)
    put(store, FIRST)
    put(store, SECOND)
    with store.open(FIRST):
        code, text = run(configured, "show")
    assert code == 0
    assert "features: 2 entries, 0.0 MB of 0.0 MB, in use 1, oldest 20" in text
    assert "images: 0 entries, 0.0 MB of 20000.0 MB, in use 0, oldest none" in text


def test_damage_is_found_and_told_by_the_exit_code(configured: Settings) -> None:
    store = entries_of(configured)
    put(store, FIRST)
    assert run(configured, "verify")[0] == 0
    if isinstance(store, FolderStore):
        (store.folder(FIRST) / "data").write_bytes(bytes(3999) + b"x")
    else:
        objects = store._objects  # type: ignore[attr-defined]
        name = next(file.name for file in objects.list("features") if file.name.endswith("data"))
        objects.write(name, bytes(3999) + b"x")
    code, text = run(configured, "verify")
    assert code == 1
    assert f"features: {FIRST}: data is not what was written" in text
    assert store.has_many([FIRST]) == set()


def test_pruning_by_age(configured: Settings) -> None:
    store = entries_of(configured)
    put(store, FIRST)
    put(store, SECOND)
    with store.open(SECOND):
        assert (
            "features: 1 entries, 0.0 MB, would be removed" in run(configured, "prune", "--days", "0", "--dry-run")[1]
        )
        assert store.has_many([FIRST, SECOND]) == {FIRST, SECOND}
        code, text = run(configured, "prune", "--days", "0")
    assert (code, "features: 1 entries, 0.0 MB, were removed" in text) == (0, True)
    assert store.has_many([FIRST, SECOND]) == {SECOND}
