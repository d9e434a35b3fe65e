"""What only entries in an S3-compatible service can suffer."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import s3fs
from sqlalchemy.exc import OperationalError

from app.db.session import Database
from app.storage import Objects, StorageUnavailable
from tests.conftest import NewDatabase
from tests.service import free_port
from workers.store.folder import FolderStore
from workers.store.objects import ObjectStore

FIRST, SECOND = ("a" * 64, "b" * 64)
NewHost = Callable[[], ObjectStore]


@pytest.fixture
def objects(store_url: str) -> Objects:
    return Objects(store_url)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture
def new_host(objects: Objects, database: Database, tmp_path: Path) -> NewHost:
    """Makes the store of another host."""
    numbers = iter(range(100))
    return lambda: ObjectStore(objects, "features", database, FolderStore(tmp_path / str(next(numbers)), 10**6))


@pytest.fixture
def on_sqlite(new_sqlite: NewDatabase, objects: Objects, tmp_path: Path) -> Iterator[NewHost]:
    """As `new_host`, where the kind of database does not matter."""
    database = Database(new_sqlite())
    numbers = iter(range(100))
    yield lambda: ObjectStore(objects, "features", database, FolderStore(tmp_path / str(next(numbers)), 10**6))
    database.close()


def put(store: ObjectStore, key: str, content: bytes = b"content") -> None:
    with store.write(key, {"length": len(content)}) as folder:
        (folder / "data").write_bytes(content)


def names(objects: Objects) -> list[str]:
    return sorted(file.name for file in objects.list("features"))


def test_a_torn_upload_is_not_read_and_then_removed(
    on_sqlite: NewHost, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off(self: Objects, name: str, content: bytes) -> None:
        raise StorageUnavailable("the connection was lost before the manifest")

    with monkeypatch.context() as torn:
        torn.setattr(Objects, "write", break_off)
        with pytest.raises(StorageUnavailable):
            put(on_sqlite(), FIRST)
    assert len(names(objects)) == 1
    with pytest.raises(KeyError):
        on_sqlite().open(FIRST)
    assert on_sqlite().has_many([FIRST]) == set()
    assert on_sqlite().collect() == 0, "it may still be written"
    monkeypatch.setattr("workers.store.objects.UPLOAD_SECONDS", -60)
    assert on_sqlite().collect() == 1
    assert names(objects) == []


def test_an_upload_after_a_torn_one_is_read(
    on_sqlite: NewHost, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects.write(f"features/{FIRST}/torn/data", b"half")
    put(on_sqlite(), FIRST)
    monkeypatch.setattr("workers.store.objects.UPLOAD_SECONDS", -60)
    assert on_sqlite().collect() == 1
    with on_sqlite().open(FIRST) as entry:
        assert (entry.folder / "data").read_bytes() == b"content"


def test_two_writers_at_once_agree(on_sqlite: NewHost, objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    both_look = threading.Barrier(2)
    has_many = ObjectStore.has_many

    def look_together(self: ObjectStore, keys: list[str]) -> set[str]:
        found = has_many(self, keys)
        both_look.wait(timeout=30)
        return found

    with monkeypatch.context() as together:
        together.setattr(ObjectStore, "has_many", look_together)
        writers = [threading.Thread(target=put, args=(on_sqlite(), FIRST)) for _ in range(2)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
    assert len(names(objects)) == 3, "two uploads and one manifest"
    monkeypatch.setattr("workers.store.objects.UPLOAD_SECONDS", -60)
    assert on_sqlite().collect() == 1, "the files of the one that no manifest names"
    with on_sqlite().open(FIRST) as entry:
        assert (entry.folder / "data").read_bytes() == b"content"


def data_of(objects: Objects) -> str:
    return next(name for name in names(objects) if name.endswith("/data"))


DAMAGES: dict[str, Callable[[Objects], None]] = {
    "a flipped bit": lambda objects: objects.write(data_of(objects), b"cOntent"),
    "a truncated file": lambda objects: objects.write(data_of(objects), b"cont"),
    "a lost file": lambda objects: objects.delete([data_of(objects)]),
    "a manifest that is no JSON": lambda objects: objects.write(f"features/{FIRST}/manifest", b"\xff"),
    "a manifest of another kind": lambda objects: objects.write(f"features/{FIRST}/manifest", b'{"a": 1}'),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_put_aside_and_written_again(damage: str, on_sqlite: NewHost, objects: Objects) -> None:
    put(on_sqlite(), FIRST)
    DAMAGES[damage](objects)
    with pytest.raises(KeyError):
        on_sqlite().open(FIRST)
    assert names(objects) == []
    assert {file.name.split("/")[1][:64] for file in objects.list("features-quarantine")} == {FIRST}
    put(on_sqlite(), FIRST)
    on_sqlite().open(FIRST).close()


def test_verification_finds_the_damaged_one(on_sqlite: NewHost, objects: Objects) -> None:
    put(on_sqlite(), FIRST)
    objects.write(data_of(objects), b"cOntent")
    put(on_sqlite(), SECOND)
    store = on_sqlite()
    assert (store.verify(FIRST), store.verify(SECOND)) == ("data is not what was written", "")
    assert store.has_many([FIRST, SECOND]) == {SECOND}


def test_few_damaged_entries_are_kept(on_sqlite: NewHost, objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.store.objects.QUARANTINED_ENTRIES", 1)
    for key in (FIRST, SECOND):
        put(on_sqlite(), key)
        objects.write(data_of(objects), b"cOntent")
        on_sqlite().verify(key)
    assert len({file.name.split("/")[1] for file in objects.list("features-quarantine")}) == 1


def test_the_lease_of_a_reader_that_died_expires(new_host: NewHost, monkeypatch: pytest.MonkeyPatch) -> None:
    put(new_host(), FIRST)
    monkeypatch.setattr("workers.store.objects.LEASE_SECONDS", -1.0)
    left_open = new_host().open(FIRST)
    assert new_host().delete(FIRST)
    left_open.close()


def test_a_lease_protects_and_its_end_frees(new_host: NewHost) -> None:
    put(new_host(), FIRST)
    reader = new_host().open(FIRST)
    assert new_host().in_use() == {FIRST}
    assert not new_host().delete(FIRST)
    reader.close()
    assert new_host().in_use() == set()
    assert new_host().delete(FIRST)


def test_an_entry_that_is_open_stays_readable_here_when_it_goes_there(on_sqlite: NewHost, objects: Objects) -> None:
    put(on_sqlite(), FIRST)
    with on_sqlite().open(FIRST) as entry:
        objects.delete_folder(f"features/{FIRST}")
        assert (entry.folder / "data").read_bytes() == b"content"


def test_a_second_read_asks_the_service_for_nothing(on_sqlite: NewHost, monkeypatch: pytest.MonkeyPatch) -> None:
    put(on_sqlite(), FIRST)
    store = on_sqlite()
    store.open(FIRST).close()
    monkeypatch.setattr(Objects, "read", lambda *_: pytest.fail("the manifest was read again"))
    monkeypatch.setattr(Objects, "get", lambda *_: pytest.fail("a file was fetched again"))
    store.open(FIRST).close()


def test_the_database_learns_anew_what_there_is(new_host: NewHost, database: Database, objects: Objects) -> None:
    put(new_host(), FIRST)
    put(new_host(), SECOND)
    objects.delete_folder(f"features/{SECOND}")
    with database.transaction() as session:
        session.connection().exec_driver_sql(f"DELETE FROM stored_entries WHERE key = '{FIRST}'")
    new_host().collect()
    with database.reading() as session:
        assert session.connection().exec_driver_sql("SELECT key FROM stored_entries").scalars().all() == [FIRST]


def test_an_outage_of_the_database_stops_no_reader_and_no_writer(
    on_sqlite: NewHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(self: Database) -> None:
        raise OperationalError("BEGIN", {}, Exception(), connection_invalidated=True)

    put(on_sqlite(), FIRST)
    monkeypatch.setattr(Database, "transaction", away)
    on_sqlite().open(FIRST).close()
    put(on_sqlite(), SECOND)
    assert on_sqlite().has_many([SECOND]) == {SECOND}


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[Objects]:
    """A service at an address where nobody listens."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    yield Objects("s3://bucket")
    s3fs.S3FileSystem.clear_instance_cache()


def test_a_service_that_is_away_is_not_an_empty_one(
    nowhere: Objects, new_sqlite: NewDatabase, object_service: None, tmp_path: Path
) -> None:
    database = Database(new_sqlite())
    store = ObjectStore(nowhere, "features", database, FolderStore(tmp_path, 10**6))
    with pytest.raises(StorageUnavailable, match="cannot be used"):
        store.has_many([FIRST])
    with pytest.raises(StorageUnavailable, match="cannot be used"):
        store.open(FIRST)
    with pytest.raises(StorageUnavailable, match="cannot be used"):
        put(store, FIRST)
    database.close()


def test_a_bucket_that_does_not_exist_takes_nothing(
    object_service: None, new_sqlite: NewDatabase, tmp_path: Path
) -> None:
    database = Database(new_sqlite())
    with pytest.raises(StorageUnavailable, match="bucket does not exist"):
        put(ObjectStore(Objects("s3://no-such-bucket"), "features", database, FolderStore(tmp_path, 10**6)), FIRST)
    database.close()
