"""Who holds a job, who is to blame when its worker dies, and what becomes of jobs that run nowhere."""

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from dbos import _sys_db_postgres, _workflow_commands
from sqlalchemy import event

from app.db.repositories.workers import Workers
from app.db.session import Database
from app.jobs import APPLICATION_VERSION, Queue
from app.settings import Settings
from tests.workers.queues import Queues
from workers import durable, engine
from workers import waiting as waiting_work
from workers.engine import Abandoned
from workers.liveness import Liveness
from workers.waiting import WaitingWork


def die(queues: Queues, *, count_deaths: bool = True) -> list[str]:
    with queues.database.transaction() as session:
        return sorted(engine.requeue(session, ["dead"], count_deaths=count_deaths))


@pytest.mark.parametrize(
    ("held", "blamed"),
    [
        ({"rank": Queue.RANKINGS, "extract": Queue.DEVICE, "score": Queue.SCORING}, {"extract"}),
        ({"rank": Queue.RANKINGS, "try": Queue.TRIALS, "inspect": Queue.INSPECTIONS}, {"try"}),
        ({"rank": Queue.RANKINGS, "score": Queue.SCORING, "inspect": Queue.INSPECTIONS}, {"score", "inspect"}),
        ({"rank": Queue.RANKINGS, "deliver": Queue.DELIVERIES}, set()),
    ],
    ids=["device", "trial", "beside", "waiting"],
)
def test_a_death_counts_against_what_can_have_caused_it(
    queues: Queues, held: dict[str, Queue], blamed: set[str]
) -> None:
    for job, queue in held.items():
        queues.run(job, queue, "dead")
    assert die(queues) == sorted(held)
    assert {job: queues.state(job) for job in held} == {job: ("ENQUEUED", int(job in blamed)) for job in held}


def test_a_clean_stop_counts_against_nothing(queues: Queues) -> None:
    queues.run("extract", Queue.DEVICE, "dead")
    die(queues, count_deaths=False)
    assert queues.state("extract") == ("ENQUEUED", 0)


def test_what_other_workers_hold_stays_theirs(queues: Queues) -> None:
    lease = queues.run("extract", Queue.DEVICE, "living")
    assert die(queues) == []
    with queues.database.transaction() as session:
        engine.hold(session, lease)
    assert queues.state("extract") == ("PENDING", 1)


def test_only_the_holder_of_a_job_may_write(queues: Queues) -> None:
    first = queues.run("extract", Queue.DEVICE, "dead")
    die(queues)
    with pytest.raises(Abandoned), queues.database.transaction() as session:
        engine.hold(session, first)
    second = queues.run("extract", Queue.DEVICE, "living")
    with pytest.raises(Abandoned), queues.database.transaction() as session:
        engine.hold(session, first)
    with queues.database.transaction() as session:
        engine.hold(session, second)


@pytest.fixture
def liveness(queues: Queues, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Liveness:
    """Of a worker named `here`, whose process runs the job `mine` only."""
    running = SimpleNamespace(_active_workflows_set=SimpleNamespace(activeList=lambda: ["mine"]))
    monkeypatch.setattr(engine, "_get_dbos_instance", lambda: running)
    with queues.database.transaction() as session:
        for name in ("here", "elsewhere"):
            Workers(session).register(identifier=name, host="h", boot="b", pid=1, device="cpu")
    return Liveness(settings, queues.database, "here", "cpu")


@pytest.mark.parametrize(("job", "executor"), [("lost", "here"), ("mine", "forgotten")])
def test_a_job_that_runs_nowhere_is_requeued_once_it_was_found_twice(
    queues: Queues, liveness: Liveness, job: str, executor: str
) -> None:
    queues.run(job, Queue.DEVICE, executor)
    liveness.requeue_strays()
    assert queues.state(job)[0] == "PENDING"
    liveness.requeue_strays()
    assert queues.state(job) == ("ENQUEUED", 0)


@pytest.mark.parametrize(("job", "executor"), [("mine", "here"), ("theirs", "elsewhere")])
def test_a_job_that_runs_somewhere_stays_there(queues: Queues, liveness: Liveness, job: str, executor: str) -> None:
    queues.run(job, Queue.DEVICE, executor)
    for _ in range(3):
        liveness.requeue_strays()
    assert queues.state(job) == ("PENDING", 1)


def test_a_job_that_was_taken_anew_is_another_find(queues: Queues, liveness: Liveness) -> None:
    queues.run("lost", Queue.DEVICE, "dead")
    liveness.requeue_strays()
    die(queues, count_deaths=False)
    queues.run("lost", Queue.DEVICE, "here")
    liveness.requeue_strays()
    assert queues.state("lost")[0] == "PENDING"


def test_work_of_another_version_is_taken_by_a_worker_of_that_version_alone(queues: Queues) -> None:
    queues.put("old", Queue.DEVICE, version="0")
    queues.put("new", Queue.SCORING)
    assert queues.take(Queue.DEVICE, "worker", owner="x") == []
    with queues.database.reading() as session:
        assert engine.stranded_jobs(session, APPLICATION_VERSION) == {"0": 1}
    assert queues.take(Queue.DEVICE, "old worker", owner="y", version="0") == ["old"]


def test_requeued_work_keeps_its_version(queues: Queues) -> None:
    queues.put("old", Queue.DEVICE, version="0")
    assert queues.take(Queue.DEVICE, "dead", owner="x", version="0") == ["old"]
    assert die(queues) == ["old"]
    assert queues.take(Queue.DEVICE, "worker", owner="y") == []
    assert queues.take(Queue.DEVICE, "old worker", owner="z", version="0") == ["old"]


def test_one_query_serves_all_queues(queues: Queues) -> None:
    waiting = WaitingWork(queues.database, seconds=0.2)
    asked: list[str] = []
    event.listen(queues.database.engine, "before_cursor_execute", lambda *told: asked.append(told[2]))
    assert not any(waiting.on(queue.value) for queue in Queue)
    assert sum("workflow_status" in statement for statement in asked) == 1


def test_a_job_is_seen_as_soon_as_the_answer_is_old(queues: Queues) -> None:
    waiting = WaitingWork(queues.database, seconds=0.2)
    assert not waiting.on("device")
    queues.put("extract", Queue.DEVICE)
    time.sleep(0.2)
    assert (waiting.on("device"), waiting.on("scoring")) == (True, False)
    queues.run("extract", Queue.DEVICE, "worker")
    time.sleep(0.2)
    assert not waiting.on("device")


def test_without_the_database_the_engine_looks_for_itself(tmp_path: Path) -> None:
    gone = Database(f"postgresql+psycopg://nobody@/nothing?host={tmp_path}")
    assert WaitingWork(gone, seconds=0.2).on("device")
    gone.close()


def test_looks_are_rarer_while_nothing_comes(queues: Queues, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_work, "IDLE_AFTER_SECONDS", 0.1)
    waiting = WaitingWork(queues.database, seconds=0.05)
    assert waiting.interval() == 0.05
    time.sleep(0.15)
    assert waiting.interval() == waiting_work.IDLE_SECONDS
    queues.put("extract", Queue.DEVICE)
    assert waiting.on("device")
    assert waiting.interval() == 0.05


def test_a_busy_worker_looks_as_often_as_ever(queues: Queues, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_work, "IDLE_AFTER_SECONDS", 0.0)
    assert WaitingWork(queues.database, seconds=0.05, is_busy=lambda: True).interval() == 0.05


@pytest.mark.parametrize(("asked", "set_to"), [(0.5, 0.5), (60, engine.LONGEST_DELAY_LOOK_SECONDS)])
def test_delays_are_looked_at_as_often_as_asked_but_within_the_lock_that_is_held_between_looks(
    monkeypatch: pytest.MonkeyPatch, asked: float, set_to: float
) -> None:
    monkeypatch.setattr(_workflow_commands, "_BACKGROUND_JOBS_INTERVAL_SEC", 1.0)
    engine.look_at_delays_every(asked)
    assert set_to == _workflow_commands._BACKGROUND_JOBS_INTERVAL_SEC
    assert set_to * 1000 < _sys_db_postgres.BACKGROUND_JOB_LOCK_IDLE_TIMEOUT_MS


def test_two_steps_cannot_have_one_name() -> None:
    durable.step("a_step_of_this_test", len)
    with pytest.raises(ValueError, match="two steps are named a_step_of_this_test"):
        durable.step("a_step_of_this_test", max)
