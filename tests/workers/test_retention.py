"""What goes by age and count, what stays since a board or a report needs it, what a dry run says; no model is run."""

import json
import os
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text

from app.contracts.caller import LOCAL_CALLER, Caller
from app.contracts.finetunes import FineTuningRequest
from app.contracts.question import MetricChoice, SampleChoice
from app.contracts.rankings import EvidenceKeys, RankingRequest
from app.contracts.retention import Kind, Removal
from app.contracts.schedules import Named, ScheduleRequest
from app.contracts.states import DeliveryState, ModelRunState, RankingState, ResourceState, RunPurpose, RunState
from app.contracts.zoos import ModelFilter
from app.db.fine_tuning_tables import FineTuning, FineTuningRun
from app.db.repositories.placements import Placements
from app.db.repositories.retention import RetentionRuns
from app.db.repositories.schedules import ScheduleRuns
from app.db.retention_tables import RetentionRun
from app.db.schedule_tables import Placement, RunTarget, Schedule, ScheduleRun
from app.db.tables import Dataset, Model, Ranking, RankingModel, RankingScore, Score, now
from app.db.webhook_tables import Delivery, DeliveryAttempt, Webhook
from app.services import usage
from app.settings import Settings
from tests.conftest import NewDatabase
from tests.workers.conftest import runtime_without_device
from workers import runtime
from workers.retention import steps
from workers.retention.workflow import ask_when_due
from workers.runtime import Runtime
from workers.schedules import keeper
from workers.store.features import entries_of

WEIGHTS = 1000
REQUEST = ScheduleRequest(zoo=Named(id="zoo_1", name="zoo"), targets=())
BOTH = [LOCAL_CALLER, Caller("key_a", frozenset({"read"}))]


class World:
    """A worker's runtime, and rows as a service of many nights would have left them."""

    def __init__(self, parts: Runtime) -> None:
        self.parts = parts
        self.database = parts.database
        with self.database.transaction() as session:
            target = Dataset(name="t", spec={"kind": "builtin", "name": "digits"}, state=ResourceState.READY)
            session.add(target)
            session.flush()
            self.target = target.id
            session.add_all(
                Model(id=f"mdl_{name}", name=name, spec={"kind": "timm", "name": name}, state=ResourceState.READY)
                for name in "abc"
            )

    def ranking(
        self,
        days: float,
        models: str = "ab",
        *,
        question: str = "q",
        owner: str = "local",
        shared: bool = False,
        state: RankingState = RankingState.SUCCEEDED,
        evidence: dict[str, str] | None = None,
    ) -> str:
        """A ranking that ended so many days ago and placed these models, each with a score of its own."""
        moment = now() - timedelta(days=days)
        request = RankingRequest(
            target="t",
            zoo=None,
            metrics=(MetricChoice(name="leep"),),
            sample=SampleChoice(),
            priority="normal",
            layers=(),
            reference=None,
            sources={},
            intervals=None,
            ensembles=(),
            given_ensembles=(),
        )
        with self.database.transaction() as session:
            row = Ranking(
                target_id=self.target,
                owner=owner,
                shared=shared,
                request=request,
                priority=1,
                state=state,
                question=question if state is RankingState.SUCCEEDED else None,
                created_at=moment,
                finished_at=moment if state.is_final else None,
            )
            session.add(row)
            session.flush()
            for position, name in enumerate(models):
                model = f"mdl_{name}"
                keys = EvidenceKeys(target={"head": evidence[name]}) if evidence else None
                session.add(
                    RankingModel(
                        ranking_id=row.id,
                        model_id=model,
                        position=position,
                        state=ModelRunState.SUCCEEDED,
                        evidence=keys,
                    )
                )
                score = Score(
                    evidence_key=f"{row.id}-{name}",
                    metric="leep",
                    parameters_key="p",
                    value=1.0,
                    warnings=(),
                    details={},
                    seconds=0.1,
                    created_at=moment,
                )
                session.add(score)
                session.flush()
                session.add(
                    RankingScore(ranking_id=row.id, model_id=model, layer="head", metric="leep", score_id=score.id)
                )
                if state is RankingState.SUCCEEDED:
                    session.add(
                        Placement(
                            ranking_id=row.id, metric="leep", model_id=model, rank=position + 1, value=1.0 / (1 + days)
                        )
                    )
            return row.id

    def schedule(self, name: str = "nightly") -> str:
        with self.database.transaction() as session:
            row = Schedule(
                name=name, cron="0 2 * * *", time_zone="UTC", request=REQUEST, active_since=now() - timedelta(days=400)
            )
            session.add(row)
            session.flush()
            return row.id

    def finetune(self, days: float, *, owner: str = "local", state: RankingState = RankingState.SUCCEEDED) -> str:
        """A fine-tuning that kept its weights."""
        moment = now() - timedelta(days=days)
        request = FineTuningRequest(target="t", models=("m",), names=("m",), sample=SampleChoice(), remember=False)
        with self.database.transaction() as session:
            row = FineTuning(
                owner=owner,
                target_id=self.target,
                request=request,
                priority=1,
                state=state,
                created_at=moment,
                finished_at=moment if state.is_final else None,
            )
            session.add(row)
            session.flush()
            weights = f"{row.id}/0.safetensors"
            session.add(
                FineTuningRun(
                    fine_tuning_id=row.id,
                    number=0,
                    model_id="m",
                    purpose=RunPurpose.TEST,
                    rate_multiple=1.0,
                    seed=0,
                    weights=weights,
                )
            )
            identifier = row.id
        file = self.parts.settings.fine_tunings_folder / weights
        file.parent.mkdir(parents=True)
        file.write_bytes(bytes(WEIGHTS))
        return identifier

    def run(
        self, schedule: str, days: float, ranking: str | None, *, by_hand: bool = False, due: datetime | None = None
    ) -> str:
        moment = due or now() - timedelta(days=days)
        with self.database.transaction() as session:
            row = ScheduleRun(
                schedule_id=schedule,
                scheduled_at=moment,
                by_hand=by_hand,
                state=RunState.SUCCEEDED,
                created_at=moment,
                finished_at=moment,
            )
            session.add(row)
            session.flush()
            session.add(RunTarget(run_id=row.id, position=0, target="t", target_id=self.target, ranking_id=ranking))
            return row.id

    def retain(self, *, dry_run: bool = False, **limits: float) -> dict[Kind, Removal]:
        """A look at all kinds under these settings; what it says."""
        settings = self.parts.settings.model_copy(
            update={"delivery_history_days": 0.0, "job_history_days": 0.0, **limits}
        )
        runtime.start(Runtime(**{**vars(self.parts), "settings": settings}))
        with self.database.transaction() as session:
            run_id = RetentionRuns(session).add(RetentionRun(dry_run=dry_run, by_hand=True)).id
        for kind in Kind:
            steps.expire(run_id, kind)
        steps.finish(run_id)
        with self.database.reading() as session:
            run = RetentionRuns(session).get(run_id)
        assert run is not None
        assert run.state is RunState.SUCCEEDED
        return {removal.kind: removal for removal in run.removals}

    def ids(self, table: Any) -> set[str]:
        with self.database.reading() as session:
            return set(session.scalars(select(table.id)))

    def count(self, table: Any) -> int:
        with self.database.reading() as session:
            return session.scalar(select(func.count()).select_from(table)) or 0

    def board(self, caller: Caller) -> list[tuple[int, str, str]]:
        """Rank, model and ranking of each row that the caller sees."""
        with self.database.reading() as session:
            placements = Placements(session)
            question = placements.newest_question(caller, self.target)
            if question is None:
                return []
            rows = placements.board(
                caller,
                self.target,
                question,
                metric="leep",
                comparable_metrics=["leep"],
                wanted=ModelFilter(),
                limit=100,
                offset=0,
            )
        return [(row.rank, row.model.name, row.ranking.id) for row in rows]


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    make: NewDatabase = request.getfixturevalue(f"new_{request.param}")
    settings = Settings(home=tmp_path / "home", database_url=make())
    with runtime_without_device(settings) as parts:
        yield World(parts)


def test_nothing_goes_without_a_limit(world: World) -> None:
    world.ranking(1000, question="old")
    world.ranking(900)
    assert all(removal.removed == 0 for removal in world.retain().values())
    assert world.count(Ranking) == 2


def test_rankings_go_by_age_with_all_that_hangs_on_them(world: World) -> None:
    old = world.ranking(20)
    recent = world.ranking(1)
    terms = world.parts.settings.rankings_folder / old / "terms.npy"
    terms.parent.mkdir(parents=True)
    terms.write_bytes(bytes(1000))
    removal = world.retain(ranking_history_days=10)[Kind.RANKINGS]
    assert (removal.removed, removal.kept, removal.examples) == (1, 0, (old,))
    assert removal.bytes > 1000
    assert not terms.parent.exists()
    assert world.ids(Ranking) == {recent}
    assert [world.count(table) for table in (RankingModel, RankingScore, Placement)] == [2, 2, 2]


def test_rankings_go_by_count_of_each_owner_and_target(world: World) -> None:
    for owner in ("local", "key_a"):
        for days in (5, 4, 3, 2):
            world.ranking(days, owner=owner)
    assert world.retain(ranking_history_count=3)[Kind.RANKINGS].removed == 2


def test_ranking_that_has_not_ended_stays(world: World) -> None:
    running = world.ranking(50, state=RankingState.RUNNING)
    world.retain(ranking_history_days=1)
    assert world.ids(Ranking) == {running}


def test_boards_are_the_same_afterwards(world: World) -> None:
    for days, models, more in (
        (60, "abc", {}),
        (50, "ab", {}),
        (40, "a", {"question": "asked before", "owner": "key_a"}),
        (30, "a", {}),
        (29, "bc", {"shared": True}),
        (28, "a", {"owner": "key_a"}),
        (27, "c", {"owner": "key_b", "shared": True}),
        (26, "ab", {"question": "not newest", "owner": "key_b", "shared": True}),
        (25, "c", {"owner": "key_b", "shared": True}),
    ):
        world.ranking(days, models, **more)
    before = [world.board(caller) for caller in BOTH]
    assert all(before)
    removal = world.retain(ranking_history_days=1, ranking_history_count=1)[Kind.RANKINGS]
    assert removal.removed > 0
    assert removal.kept > 0
    assert [world.board(caller) for caller in BOTH] == before


def test_next_report_compares_with_what_it_would_have_compared_with(world: World) -> None:
    schedule = world.schedule()
    for days in (40, 30, 20):
        # Another question each time, so that no board needs them.
        world.run(schedule, days, world.ranking(days, question=f"q{days}"))
    failed = world.run(schedule, 19, world.ranking(19, state=RankingState.FAILED))
    world.ranking(1, question="newer")

    def compared() -> str | None:
        with world.database.transaction() as session:
            runs = ScheduleRuns(session)
            latest = runs.add(ScheduleRun(schedule_id=schedule, scheduled_at=now(), by_hand=True))
            previous = runs.previous_ranking(latest, world.target)
            session.delete(latest)
            return previous.id if previous else None

    before = compared()
    assert before is not None
    removals = world.retain(ranking_history_days=2, run_history_days=2)
    assert (removals[Kind.RANKINGS].removed, removals[Kind.RUNS].removed) == (3, 2)
    assert compared() == before
    assert failed in world.ids(ScheduleRun)


def test_a_moment_that_was_caught_up_with_is_not_fired_again(world: World) -> None:
    schedule = world.schedule()
    due = (now() - timedelta(days=40)).replace(hour=2, minute=0, second=0, microsecond=0)
    world.run(schedule, 0, None, due=due)
    for days in (30, 20):
        world.run(schedule, days, None, by_hand=True)
    world.retain(run_history_days=1)
    with world.database.reading() as session:
        row = session.get_one(Schedule, schedule)
        latest = ScheduleRuns(session).latest_due(schedule)
    assert keeper.overdue(row, [latest], present=due + timedelta(hours=1)) is None
    assert world.count(ScheduleRun) == 2


def test_rankings_of_a_run_under_way_stay(world: World) -> None:
    ranking = world.ranking(30, question="other")
    run = world.run(world.schedule(), 30, ranking)
    with world.database.transaction() as session:
        session.get_one(ScheduleRun, run).state = RunState.RUNNING
    world.ranking(0)
    world.retain(ranking_history_days=1, run_history_days=1)
    assert ranking in world.ids(Ranking)
    assert run in world.ids(ScheduleRun)


def test_messages_go_by_age_and_count_unless_they_are_under_way(world: World) -> None:
    with world.database.transaction() as session:
        session.add(Webhook(id="whk_1", name="h", url="https://example.com", secret="whsec_AA=="))
        session.flush()
        for number, state in enumerate(["delivered", "failed", "delivered", "pending"]):
            moment = now() - timedelta(days=10 - number)
            delivery = Delivery(
                id=f"dlv_{number}",
                webhook_id="whk_1",
                type="t",
                body=json.dumps({"number": number}),
                state=DeliveryState(state),
                attempts_left=0,
                created_at=moment,
                ended_at=None if state == "pending" else moment,
            )
            session.add(delivery)
            session.flush()
            session.add(DeliveryAttempt(delivery_id=delivery.id, number=1, seconds=0.1))
    assert world.retain(delivery_history_days=9.5)[Kind.DELIVERIES].removed == 1
    assert world.retain(delivery_history_count=1)[Kind.DELIVERIES].removed == 1
    assert world.ids(Delivery) == {"dlv_2", "dlv_3"}
    assert world.count(DeliveryAttempt) == 2


@pytest.mark.parametrize("limit", [{"finetune_history_days": 10}, {"finetune_history_count": 1}])
def test_finetunings_go_by_age_or_count_with_their_weights(world: World, limit: dict[str, float]) -> None:
    old, recent = world.finetune(20), world.finetune(1)
    running = world.finetune(30, state=RankingState.RUNNING)
    others = world.finetune(5, owner="key_a")
    said = world.retain(dry_run=True, **limit)[Kind.FINETUNES]
    assert world.ids(FineTuning) == {old, recent, running, others}
    with world.database.reading() as session:
        before = usage.of(session, world.parts.settings, "local").used_bytes
    done = world.retain(**limit)[Kind.FINETUNES]
    assert (said.removed, said.bytes, said.examples) == (done.removed, done.bytes, done.examples)
    assert (done.removed, done.examples) == (1, (old,))
    assert done.bytes > WEIGHTS
    assert world.ids(FineTuning) == {recent, running, others}
    assert world.count(FineTuningRun) == 3
    with world.database.reading() as session:
        assert usage.of(session, world.parts.settings, "local").used_bytes == before - WEIGHTS


def put(world: World, key: str, days: float) -> None:
    store = entries_of(world.parts.settings)
    with store.write(key, {}) as folder:
        (folder / "data").write_bytes(bytes(1000))
    then = time.time() - days * 86400
    os.utime(world.parts.settings.features_folder / key[:2] / key[2:4] / key / "in_use.lock", (then, then))


def test_evidence_goes_by_age_unless_the_next_run_of_a_schedule_uses_it(world: World) -> None:
    used, unused, recent = ("a" * 64, "b" * 64, "c" * 64)
    put(world, used, 40)
    put(world, unused, 40)
    put(world, recent, 1)
    world.run(world.schedule(), 30, world.ranking(30, "a", evidence={"a": used}))
    removal = world.retain(evidence_history_days=10)[Kind.EVIDENCE]
    assert (removal.removed, removal.kept, removal.examples) == (1, 1, (unused,))
    assert removal.bytes > 1000
    assert entries_of(world.parts.settings).has_many([used, unused, recent]) == {used, recent}


def test_evidence_goes_by_count_and_what_is_read_stays(world: World) -> None:
    keys = [letter * 64 for letter in "abcd"]
    for days, key in zip((4, 3, 2, 1), keys, strict=True):
        put(world, key, days)
    store = entries_of(world.parts.settings)
    with store.open(keys[0]):
        then = time.time() - 5 * 86400
        os.utime(store.folder(keys[0]) / "in_use.lock", (then, then))
        removal = world.retain(evidence_history_count=2)[Kind.EVIDENCE]
    assert removal.removed == 1
    assert store.has_many(keys) == {keys[0], keys[2], keys[3]}


def test_scores_go_when_no_ranking_shows_them(world: World) -> None:
    old = world.ranking(40, "ab")
    world.ranking(30, "ab")
    removals = world.retain(ranking_history_days=35, evidence_history_days=20)
    assert (removals[Kind.RANKINGS].examples, removals[Kind.SCORES].removed) == ((old,), 2)
    assert world.count(Score) == 2


def jobs_of_the_engine(world: World) -> set[str]:
    schema = "" if world.database.is_sqlite else "dbos."
    with world.database.reading() as session:
        return set(session.scalars(text(f"SELECT workflow_uuid FROM {schema}workflow_status")))


def test_jobs_of_the_engine_go_with_those_that_they_started(world: World) -> None:
    schema = "" if world.database.is_sqlite else "dbos."
    hour = 3_600_000
    with world.database.transaction() as session:
        for number, (job, parent, status) in enumerate(
            (
                ("parent", None, "SUCCESS"),
                ("child", "parent", "ERROR"),
                ("waiting", None, "SUCCESS"),
                ("waited-for", "waiting", "DELAYED"),
                ("running", None, "PENDING"),
                ("newest", None, "SUCCESS"),
            )
        ):
            moment = int(time.time() * 1000) - (100 - number) * hour
            session.execute(
                text(
                    f"INSERT INTO {schema}workflow_status (workflow_uuid, status, name, created_at, updated_at, "
                    "completed_at, priority, parent_workflow_id, inputs, was_forked_from, rate_limited, is_debounced) "
                    "VALUES (:job, :status, 'n', :moment, :moment, :moment, 1, :parent, 'twelve bytes', false, false, "
                    "false)"
                ),
                {"job": job, "status": status, "moment": moment, "parent": parent},
            )
    removal = world.retain(job_history_count=1, dry_run=True)[Kind.JOBS]
    assert (removal.removed, removal.kept, removal.bytes, removal.examples) == (2, 1, 24, ("parent",))
    assert world.retain(job_history_days=1)[Kind.JOBS].removed == 3
    assert jobs_of_the_engine(world) == {"waiting", "waited-for", "running"}


def test_dry_run_says_what_would_go_and_removes_nothing(world: World) -> None:
    world.ranking(20)
    world.ranking(1)
    put(world, "a" * 64, 40)
    limits = {"ranking_history_days": 10, "evidence_history_days": 10}
    said = world.retain(dry_run=True, **limits)
    assert (world.count(Ranking), len(list(entries_of(world.parts.settings).entries()))) == (2, 1)
    done = world.retain(**limits)
    for kind in (Kind.RANKINGS, Kind.EVIDENCE):
        assert (said[kind].removed, said[kind].bytes, said[kind].examples) == (
            done[kind].removed,
            done[kind].bytes,
            done[kind].examples,
        )
        assert said[kind].removed == 1


def test_step_that_is_repeated_counts_what_went_before(world: World) -> None:
    for days in (30, 20, 10):
        world.ranking(days)
    world.ranking(1)
    settings = world.parts.settings.model_copy(update={"ranking_history_days": 25.0})
    runtime.start(Runtime(**{**vars(world.parts), "settings": settings}))
    with world.database.transaction() as session:
        run_id = RetentionRuns(session).add(RetentionRun(dry_run=False, by_hand=True)).id
    steps.expire(run_id, Kind.RANKINGS)
    runtime.start(
        Runtime(**{**vars(world.parts), "settings": settings.model_copy(update={"ranking_history_days": 5.0})})
    )
    steps.expire(run_id, Kind.RANKINGS)
    with world.database.reading() as session:
        run = RetentionRuns(session).get(run_id)
    assert run is not None
    assert [removal.removed for removal in run.removals] == [3]


def test_two_workers_ask_once_in_an_interval(world: World) -> None:
    for _ in range(2):
        ask_when_due(world.parts.settings, world.database, world.parts.jobs)
    assert jobs_of_the_engine(world) == world.ids(RetentionRun)
    assert world.count(RetentionRun) == 1


def test_log_of_retention_does_not_grow_forever(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "LOGGED_RUNS", 2)
    for _ in range(4):
        world.retain()
    assert world.count(RetentionRun) == 2
