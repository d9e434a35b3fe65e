import multiprocessing
import os
import signal
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from workers.errors import Stopped
from workers.store.content import ContentStore

FIRST, SECOND, THIRD = ("a" * 64, "b" * 64, "c" * 64)


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return ContentStore(tmp_path / "store", 1_000_000)


def put(store: ContentStore, key: str, size: int = 1000) -> None:
    with store.write(key, {"size": size}) as folder:
        (folder / "data").write_bytes(bytes(size))


def make_older(store: ContentStore, key: str, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(store.folder(key) / "manifest.json", (then, then))


def test_written_then_read(store: ContentStore) -> None:
    put(store, FIRST)
    with store.open(FIRST) as entry:
        assert entry.manifest == {"size": 1000}
        assert (entry.folder / "data").stat().st_size == 1000


def test_nothing_is_seen_before_the_end(store: ContentStore) -> None:
    with store.write(FIRST, {}) as folder:
        (folder / "data").write_bytes(b"half")
        assert not store.has(FIRST)


def test_a_failed_write_leaves_nothing(store: ContentStore) -> None:
    def fail() -> None:
        with store.write(FIRST, {}) as folder:
            (folder / "data").write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not store.has(FIRST)
    assert list((store.root / ".temporary").iterdir()) == []


def test_the_first_of_two_writers_stays(store: ContentStore) -> None:
    with store.write(FIRST, {"writer": 1}):
        put(store, FIRST, 5)
    with store.open(FIRST) as entry:
        assert entry.manifest == {"size": 5}


@pytest.mark.parametrize("key", ["../../etc", "A" * 64, "a" * 63, ""])
def test_a_key_is_a_digest(key: str, store: ContentStore) -> None:
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        store.has(key)


def test_a_missing_entry(store: ContentStore) -> None:
    with pytest.raises(KeyError):
        store.open(FIRST)
    assert not store.delete(FIRST)


def test_the_least_recently_used_go_first(store: ContentStore) -> None:
    for age, key in ((30, FIRST), (20, SECOND), (10, THIRD)):
        put(store, key)
        make_older(store, key, age)
    store.open(FIRST).close()
    store.quota_bytes = 2500
    store.make_room()
    assert [store.has(key) for key in (FIRST, SECOND, THIRD)] == [True, False, True]


def test_a_write_evicts_beyond_the_quota(store: ContentStore) -> None:
    store.quota_bytes = 1500
    put(store, FIRST)
    make_older(store, FIRST, 10)
    put(store, SECOND)
    assert (store.has(FIRST), store.has(SECOND)) == (False, True)
    assert store.used_bytes() <= 1500


def test_what_is_in_use_stays(store: ContentStore) -> None:
    put(store, FIRST)
    with store.open(FIRST):
        assert not store.delete(FIRST)
        store.make_room(needed_bytes=10**9)
        assert store.has(FIRST)
    assert store.delete(FIRST)


def _hold(root: Path, connection: Connection, how: str) -> None:
    store = ContentStore(root, 10**6)
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

    def test_is_respected_then_forgotten(self, how: str, store: ContentStore) -> None:
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
    def is_free(how: str, store: ContentStore) -> bool:
        if how == "open":
            return store.delete(FIRST)
        if how == "write":
            store.make_room()
            return list((store.root / ".temporary").iterdir()) == []
        try:
            with store.lock(SECOND, should_stop=lambda: True):
                return True
        except Stopped:
            return False


def test_one_holder_at_a_time(store: ContentStore) -> None:
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


def test_locks_of_other_keys_do_not_wait(store: ContentStore) -> None:
    with store.lock(FIRST), store.lock(SECOND, should_stop=lambda: True):
        pass
    assert list((store.root / ".locks").iterdir()) == []
