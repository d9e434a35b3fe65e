import multiprocessing
import os
import signal
import subprocess
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from workers.errors import Stopped, StorageFull
from workers.store.entries import StoredEntry
from workers.store.folder import QUARANTINED_ENTRIES, FolderStore
from workers.store.total import RunningTotal

FIRST, SECOND, THIRD = ("a" * 64, "b" * 64, "c" * 64)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store", 1_000_000)


def put(store: FolderStore, key: str, size: int = 1000) -> None:
    with store.write(key, {"size": size}) as folder:
        (folder / "data").write_bytes(bytes(size))


def make_older(store: FolderStore, key: str, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(store.folder(key) / "in_use.lock", (then, then))


def test_written_then_read(store: FolderStore) -> None:
    put(store, FIRST)
    with store.open(FIRST) as entry:
        assert entry.manifest == {"size": 1000}
        assert (entry.folder / "data").stat().st_size == 1000


def test_nothing_is_seen_before_the_end(store: FolderStore) -> None:
    with store.write(FIRST, {}) as folder:
        (folder / "data").write_bytes(b"half")
        assert not store.has(FIRST)


def test_a_failed_write_leaves_nothing(store: FolderStore) -> None:
    def fail() -> None:
        with store.write(FIRST, {}) as folder:
            (folder / "data").write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not store.has(FIRST)
    assert list((store.root / ".temporary").iterdir()) == []


def test_the_first_of_two_writers_stays(store: FolderStore) -> None:
    with store.write(FIRST, {"writer": 1}):
        put(store, FIRST, 5)
    with store.open(FIRST) as entry:
        assert entry.manifest == {"size": 5}


@pytest.mark.parametrize("key", ["../../etc", "A" * 64, "a" * 63, ""])
def test_a_key_is_a_digest(key: str, store: FolderStore) -> None:
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        store.has(key)


def test_a_missing_entry(store: FolderStore) -> None:
    with pytest.raises(KeyError):
        store.open(FIRST)
    assert not store.delete(FIRST)


def test_the_least_recently_used_go_first(store: FolderStore) -> None:
    for age, key in ((30, FIRST), (20, SECOND), (10, THIRD)):
        put(store, key)
        make_older(store, key, age)
    store.open(FIRST).close()
    store.quota_bytes = 2 * (store.used_bytes() // 3)
    store.make_room(0)
    assert [store.has(key) for key in (FIRST, SECOND, THIRD)] == [True, False, True]


def test_a_write_evicts_beyond_the_quota(store: FolderStore) -> None:
    put(store, FIRST)
    store.quota_bytes = store.used_bytes() + 100
    make_older(store, FIRST, 10)
    put(store, SECOND)
    assert (store.has(FIRST), store.has(SECOND)) == (False, True)
    assert store.used_bytes() <= store.quota_bytes


def test_what_is_in_use_stays(store: FolderStore) -> None:
    put(store, FIRST)
    with store.open(FIRST):
        assert not store.delete(FIRST)
        store.make_room(needed_bytes=10**9)
        assert store.has(FIRST)
    assert store.delete(FIRST)


def _hold(root: Path, connection: Connection, how: str) -> None:
    store = FolderStore(root, 10**6)
    if how == "open":
        store.open(FIRST)
        connection.send("held")
        time.sleep(60)
    elif how == "lock":
        with store.lock(FIRST, SECOND):
            connection.send("held")
            time.sleep(60)
    else:
        with store.write(SECOND, {}) as folder:
            (folder / "data").write_bytes(b"half")
            connection.send("held")
            time.sleep(60)


class TestHolderThatIsKilled:
    """Another process holds something and dies by SIGKILL: the kernel gives it back."""

    @pytest.fixture(params=["open", "lock", "write"])
    def how(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    def test_is_respected_then_forgotten(self, how: str, store: FolderStore) -> None:
        put(store, FIRST)
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(target=_hold, args=(store.root, theirs, how))
        process.start()
        try:
            assert ours.recv() == "held"
            assert not self.is_free(how, store)
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            assert self.is_free(how, store)
        finally:
            process.kill()
            process.join()

    @staticmethod
    def is_free(how: str, store: FolderStore) -> bool:
        if how == "open":
            return store.delete(FIRST)
        if how == "write":
            store.make_room(0)
            return list((store.root / ".temporary").iterdir()) == []
        try:
            with store.lock(SECOND, should_stop=lambda: True):
                return True
        except Stopped:
            return False


def test_one_holder_at_a_time(store: FolderStore) -> None:
    holders: list[int] = []

    def run() -> None:
        for _ in range(5):
            with store.lock(FIRST):
                holders.append(1)
                time.sleep(0.002)
                seen.append(sum(holders))
                holders.pop()

    seen: list[int] = []
    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [1] * 20


def test_locks_of_other_keys_do_not_wait(store: FolderStore) -> None:
    with store.lock(FIRST), store.lock(SECOND, should_stop=lambda: True):
        pass
    assert list((store.root / ".locks").iterdir()) == []


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


DAMAGES = {
    "a flipped bit of data": lambda folder: flip(folder / "data"),
    "a flipped bit of the manifest": lambda folder: flip(folder / "manifest.json"),
    "a flipped bit of the checksums": lambda folder: flip(folder / "SHA256SUMS"),
    "checksums that are no text": lambda folder: (folder / "SHA256SUMS").write_bytes(b"\xff\n"),
    "a truncated file": lambda folder: os.truncate(folder / "data", 500),
    "a lost file": lambda folder: (folder / "data").unlink(),
    "a file too many": lambda folder: (folder / "more").write_bytes(b""),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_put_aside_and_written_again(damage: str, store: FolderStore) -> None:
    put(store, FIRST)
    DAMAGES[damage](store.folder(FIRST))
    with pytest.raises(KeyError):
        store.open(FIRST)
    assert not store.has(FIRST)
    assert [path.name[:64] for path in (store.root / ".quarantine").iterdir()] == [FIRST]
    put(store, FIRST)
    store.open(FIRST).close()


def test_damage_after_the_first_look_is_seen(store: FolderStore) -> None:
    put(store, FIRST)
    store.open(FIRST).close()
    flip(store.folder(FIRST) / "data")
    with pytest.raises(KeyError):
        store.open(FIRST)


def test_files_are_hashed_once_in_a_process(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, FIRST)
    store.open(FIRST).close()
    monkeypatch.setattr("workers.store.folder.digest_of", lambda path: pytest.fail(f"{path.name} was hashed again"))
    FolderStore(store.root, store.quota_bytes).open(FIRST).close()


def test_the_checksums_are_those_of_the_tool_sha256sum(store: FolderStore) -> None:
    put(store, FIRST)
    check = subprocess.run(["sha256sum", "--check", "SHA256SUMS"], cwd=store.folder(FIRST), capture_output=True)
    assert check.stdout.split() == [b"data:", b"OK", b"manifest.json:", b"OK"]


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many entries each look at all of them found."""
    found: list[int] = []
    look = FolderStore.entries

    def entries(self: FolderStore) -> list[StoredEntry]:
        listed = list(look(self))
        found.append(len(listed))
        return listed

    monkeypatch.setattr(FolderStore, "entries", entries)
    return found


def keys(number: int) -> list[str]:
    return [f"{position:064x}" for position in range(number)]


def test_a_write_looks_at_no_other_entry(store: FolderStore, looks: list[int]) -> None:
    for key in keys(20):
        put(FolderStore(store.root, store.quota_bytes), key)
    assert looks == [0]


def test_a_full_store_is_looked_at_once_in_as_many_writes_as_it_holds_entries(
    store: FolderStore, looks: list[int]
) -> None:
    put(store, FIRST)
    store.quota_bytes = 20 * store.used_bytes()
    looks.clear()
    for key in keys(100):
        put(store, key)
    assert len(looks) <= 100 / 20
    # The newest twenty are there, and nothing else.
    assert {entry.key for entry in store.entries()} == set(keys(100)[-20:])


def test_what_was_used_since_the_last_look_is_not_the_oldest(store: FolderStore) -> None:
    for age, key in ((30, FIRST), (20, SECOND), (10, THIRD)):
        put(store, key)
        make_older(store, key, age)
    size = store.used_bytes() // 3
    store.quota_bytes = 3 * size
    store.make_room(size)
    store.open(SECOND).close()
    store.make_room(2 * size)
    assert store.has_many([FIRST, SECOND, THIRD]) == {SECOND}


def test_stores_of_several_processes_count_together(store: FolderStore) -> None:
    other = FolderStore(store.root, store.quota_bytes)
    for store_of_one, key in ((store, FIRST), (other, SECOND), (store, THIRD)):
        put(store_of_one, key)
    other.delete(FIRST)
    with RunningTotal(store.root / ".total", lambda: pytest.fail("it was counted again")).hold() as total:
        assert total.bytes == store.used_bytes()


@pytest.mark.parametrize(
    "content",
    ["", "nonsense", "1 5", f"{int(time.time()) + 10**6} 5", f"{int(time.time())} -1"],
    ids=["empty", "no numbers", "counted long ago", "counted in the future", "negative"],
)
def test_total_that_cannot_be_right_is_counted_anew(store: FolderStore, content: str) -> None:
    put(store, FIRST)
    (store.root / ".total").write_text(content)
    put(store, SECOND)
    with RunningTotal(store.root / ".total", lambda: pytest.fail("it was counted again")).hold() as total:
        assert total.bytes == store.used_bytes()


def test_total_that_another_holds_for_long_is_not_waited_for(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.store.total.PATIENCE_SECONDS", 0.05)
    put(store, FIRST)
    with RunningTotal(store.root / ".total", store.used_bytes).hold():
        put(store, SECOND)
    assert store.has(SECOND)


def test_few_damaged_entries_are_kept(store: FolderStore) -> None:
    for number in range(QUARANTINED_ENTRIES + 2):
        key = f"{number:064x}"
        put(store, key)
        flip(store.folder(key) / "data")
        with pytest.raises(KeyError):
            store.open(key)
    assert len(list((store.root / ".quarantine").iterdir())) == QUARANTINED_ENTRIES


def test_an_entry_without_checksums_is_written_again(store: FolderStore) -> None:
    put(store, FIRST)
    (store.folder(FIRST) / "SHA256SUMS").unlink()
    assert not store.has(FIRST)
    put(store, FIRST, 5)
    with store.open(FIRST) as entry:
        assert entry.manifest == {"size": 5}


class TestFullDisk:
    """A file system of four megabytes."""

    @pytest.fixture
    def store(self, small_disk: Path) -> FolderStore:
        return FolderStore(small_disk / "store", 10**12)

    def test_the_oldest_entries_go(self, store: FolderStore) -> None:
        for age, key in ((30, FIRST), (20, SECOND), (10, THIRD)):
            put(store, key, 1_200_000)
            make_older(store, key, age)
        assert store.make_room(1_200_000)
        assert store.has_many([FIRST, SECOND, THIRD]) == {SECOND, THIRD}

    def test_the_reserve_is_left_to_others(self, store: FolderStore) -> None:
        put(store, FIRST, 1_200_000)
        store.reserve_bytes = 3_000_000
        assert store.make_room(1_000)
        assert not store.has(FIRST)

    def test_what_is_in_use_stays(self, store: FolderStore) -> None:
        put(store, FIRST, 2_500_000)
        with store.open(FIRST):
            assert not store.make_room(2_500_000)
            assert store.has(FIRST)

    def test_a_write_that_does_not_fit_leaves_nothing(self, store: FolderStore) -> None:
        put(store, FIRST, 1_000_000)
        with pytest.raises(StorageFull, match="is full"):
            put(store, SECOND, 5_000_000)
        assert store.has_many([FIRST, SECOND]) == {FIRST}
        assert list((store.root / ".temporary").iterdir()) == []
        store.open(FIRST).close()
