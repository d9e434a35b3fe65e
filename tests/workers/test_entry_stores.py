"""What every kind of entry store does."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.db.session import Database
from app.storage import Objects
from tests.conftest import NewDatabase
from workers.store.entries import EntryStore
from workers.store.folder import FolderStore
from workers.store.objects import ObjectStore

FIRST, SECOND, THIRD = ("a" * 64, "b" * 64, "c" * 64)
NewStore = Callable[..., EntryStore]


@pytest.fixture(params=["folder", "objects"])
def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NewStore]:
    """Makes stores of the same entries, as two processes have them."""
    if request.param == "folder":
        yield lambda quota=10**6: FolderStore(tmp_path / "store", quota)
        return
    objects = Objects(request.getfixturevalue("store_url"))
    make_database: NewDatabase = request.getfixturevalue("new_sqlite")
    database = Database(make_database())
    hosts = iter(range(100))
    yield lambda quota=10**6: ObjectStore(
        objects, "features", database, FolderStore(tmp_path / f"host-{next(hosts)}", quota)
    )
    database.close()


def put(store: EntryStore, key: str, size: int = 1000) -> None:
    with store.write(key, {"size": size}) as folder:
        (folder / "data").write_bytes(bytes(size))


def test_what_one_writes_another_reads(new_store: NewStore) -> None:
    put(new_store(), FIRST)
    with new_store().open(FIRST) as entry:
        assert entry.manifest == {"size": 1000}
        assert (entry.folder / "data").read_bytes() == bytes(1000)


def test_those_that_are_there(new_store: NewStore) -> None:
    put(new_store(), FIRST)
    assert new_store().has_many([FIRST, SECOND]) == {FIRST}
    assert new_store().has_many([SECOND]) == set()
    assert new_store().has_many([]) == set()


def test_nothing_is_seen_before_the_end(new_store: NewStore) -> None:
    with new_store().write(FIRST, {}) as folder:
        (folder / "data").write_bytes(b"half")
        assert new_store().has_many([FIRST]) == set()


def test_a_failed_write_leaves_nothing(new_store: NewStore) -> None:
    def fail() -> None:
        with new_store().write(FIRST, {}) as folder:
            (folder / "data").write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(new_store().entries()) == []


def test_the_first_of_two_writers_stays(new_store: NewStore) -> None:
    with new_store().write(FIRST, {"writer": 1}):
        put(new_store(), FIRST, 5)
    with new_store().open(FIRST) as entry:
        assert entry.manifest == {"size": 5}


@pytest.mark.parametrize("key", ["../../etc", "A" * 64, "a" * 63, ""])
def test_a_key_is_a_digest(key: str, new_store: NewStore) -> None:
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        new_store().has_many([key])


def test_a_missing_entry(new_store: NewStore) -> None:
    with pytest.raises(KeyError):
        new_store().open(FIRST)
    assert not new_store().delete(FIRST)


def test_an_entry_that_was_deleted(new_store: NewStore) -> None:
    store = new_store()
    put(store, FIRST)
    assert store.delete(FIRST)
    with pytest.raises(KeyError):
        store.open(FIRST)


def test_the_list_of_entries(new_store: NewStore) -> None:
    put(new_store(), FIRST, 1000)
    put(new_store(), SECOND, 3000)
    found = {entry.key: entry for entry in new_store().entries()}
    assert found.keys() == {FIRST, SECOND}
    assert 1000 < found[FIRST].bytes < 2000 < 3000 < found[SECOND].bytes
    assert found[FIRST].used_at < found[SECOND].used_at


def test_the_least_recently_used_go_first(new_store: NewStore) -> None:
    for key in (FIRST, SECOND, THIRD):
        put(new_store(), key)
    new_store().open(FIRST).close()
    size = max(entry.bytes for entry in new_store().entries())
    new_store(2 * size + 10).make_room(0)
    assert new_store().has_many([FIRST, SECOND, THIRD]) == {FIRST, THIRD}


def test_what_is_in_use_stays(new_store: NewStore) -> None:
    put(new_store(), FIRST)
    put(new_store(), SECOND)
    with new_store().open(FIRST):
        assert not new_store().delete(FIRST)
        new_store(10).make_room(0)
    assert new_store().has_many([FIRST, SECOND]) == {FIRST}
    assert new_store().delete(FIRST)


def test_a_child_finds_what_is_lent_and_its_work_is_kept(new_store: NewStore) -> None:
    put(new_store(), FIRST)
    store = new_store()
    local = store if isinstance(store, FolderStore) else store.local  # type: ignore[attr-defined]
    with store.lend([FIRST, THIRD], [SECOND]):
        local.open(FIRST).close()
        put(local, SECOND)
    assert new_store().has_many([FIRST, SECOND, THIRD]) == {FIRST, SECOND}
