"""Rankings of a class take turns at the device, and owners share it alike."""

from collections import deque
from typing import Any

import pytest

from app.db.tables import Dataset, Ranking, RankingState, ResourceState
from app.jobs import Queue, ranking_priority
from app.settings import Settings
from tests.workers.queues import Queues
from tests.workers.test_planning import question
from workers import runtime
from workers.ranking import turns
from workers.ranking.turns import Turns

IN_FLIGHT = 4


class Device:
    """A worker that runs one model after the other, all equally long, and rankings that keep four in its queue."""

    def __init__(self, queues: Queues, settings: Settings) -> None:
        parts: Any = dict.fromkeys(("features", "extractor", "trainer", "scorers", "readers", "jobs"))
        runtime.start(runtime.Runtime(settings=settings, database=queues.database, **parts))
        self.queues = queues
        self.waiting: dict[str, deque[str]] = {}
        self.turns: dict[str, Turns] = {}
        self.running: str | None = None
        with queues.database.transaction() as session:
            target = Dataset(name="t", spec={"kind": "builtin", "name": "digits"}, state=ResourceState.READY)
            session.add(target)
            session.flush()
            self.target = target.id

    def submit(self, name: str, models: int, *, owner: str = "local", priority: str = "normal") -> None:
        with self.queues.database.transaction() as session:
            placed = ranking_priority(priority, len(self.turns))
            row = Ranking(
                target_id=self.target, owner=owner, request=question(), priority=placed, state=RankingState.RUNNING
            )
            session.add(row)
            session.flush()
            self.turns[name] = Turns(Queue.DEVICE, row.id, placed)
        self.waiting[name] = deque(f"{name}-{number}" for number in range(models))
        for _ in range(IN_FLIGHT):
            self.put_next(name)

    def put_next(self, name: str) -> None:
        if self.waiting[name]:
            job = self.waiting[name].popleft()
            self.queues.put(job, Queue.DEVICE, priority=self.turns[name].next())

    def run(self, models: int) -> list[str]:
        """The rankings whose models come next."""
        taken = []
        for _ in range(models):
            if self.running is not None:
                self.queues.end(self.running)
                self.put_next(self.running.partition("-")[0])
            (self.running,) = self.queues.take(Queue.DEVICE, "worker", owner=f"x{len(taken)}")
            taken.append(self.running.partition("-")[0])
        return taken


@pytest.fixture
def device(queues: Queues, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Device:
    monkeypatch.setattr(turns, "LOOK_SECONDS", -1)
    return Device(queues, settings)


def test_a_ranking_of_three_models_ends_within_twice_its_time_and_one_model_beside_one_of_five_hundred(
    device: Device,
) -> None:
    device.submit("large", 500)
    assert device.run(10) == ["large"] * 10
    device.submit("small", 3)
    assert device.run(2 * 3 + 1).count("small") == 3
    assert device.run(5) == ["large"] * 5


def test_an_owner_with_many_rankings_holds_another_up_no_more_than_one_with_one(device: Device) -> None:
    for number in range(5):
        device.submit(f"many{number}", 100, owner="key_many")
    device.run(20)
    device.submit("other", 6, owner="key_other")
    assert device.run(2 * 6 + 1).count("other") == 6


def test_rankings_of_one_owner_share_alike(device: Device) -> None:
    for name in ("first", "second", "third"):
        device.submit(name, 100)
    device.run(12)
    taken = device.run(30)
    assert all(abs(taken.count(name) - 10) <= 1 for name in ("first", "second", "third"))


def test_classes_do_not_share(device: Device) -> None:
    device.submit("normal", 100)
    device.run(5)
    device.submit("high", 6, priority="high")
    assert device.run(6) == ["high"] * 6


def test_a_ranking_that_comes_to_an_idle_device_owes_nothing_for_earlier_ones(device: Device) -> None:
    device.submit("first", 30)
    device.run(30)
    device.queues.end(device.running or "")
    device.running = None
    device.submit("second", 20)
    device.submit("third", 3)
    assert device.run(2 * 3 + 1).count("third") == 3
