"""What a firing means, step by step, on both databases; no model is run."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from PIL import Image
from sqlalchemy import text

from app.contracts.caller import LOCAL_CALLER
from app.contracts.listing import Listing
from app.contracts.models import WeightsFileSpec
from app.contracts.schedules import Named, ScheduleRequest
from app.contracts.states import ModelRunState, RankingState, ResourceState, RunState, ScheduleState
from app.db.repositories.datasets import Datasets
from app.db.repositories.keys import Keys
from app.db.repositories.models import Models, Zoos
from app.db.repositories.rankings import Rankings
from app.db.repositories.schedules import ScheduleRuns, Schedules
from app.db.repositories.webhooks import Webhooks
from app.db.schedule_tables import Schedule
from app.db.tables import ApiKey, Dataset, Model, Zoo, ZooModel, now
from app.db.webhook_tables import Delivery, Webhook
from app.jobs import HeldSchedule
from app.settings import Settings
from tests.conftest import NewDatabase
from tests.workers.conftest import runtime_without_device
from tests.workers.test_ranking_steps import CARD
from workers import engine, runtime
from workers.images.index import IndexStore
from workers.images.reading import ImageReaders
from workers.inspection.images import inspect_dataset
from workers.inspection.weights import files_of
from workers.runtime import Runtime
from workers.schedules import keeper, steps


@pytest.fixture(params=["sqlite", "postgresql"])
def parts(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Runtime]:
    """The runtime of a worker that is not asked to run models."""
    make: NewDatabase = request.getfixturevalue(f"new_{request.param}")
    for folder in ("images", "weights"):
        (tmp_path / folder).mkdir()
    settings = Settings(
        home=tmp_path / "home",
        database_url=make(),
        data_roots=(tmp_path / "images",),
        model_roots=(tmp_path / "weights",),
    )
    with runtime_without_device(settings) as parts:
        runtime.start(parts)
        yield parts


def images(parts: Runtime) -> Path:
    folder = parts.settings.data_roots[0] / "shapes"
    for label in ("round", "square"):
        (folder / label).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / label / f"{number}.png")
    return folder


def registered(parts: Runtime, *, owner: str = "local", **more: Any) -> Schedule:
    """A schedule of one inspected data set and one model, active since last year."""
    folder = images(parts)
    spec = {"kind": "folder", "path": str(folder)}
    with parts.database.transaction() as session:
        dataset = Datasets(session).add(Dataset(name="shapes", spec=spec, owner=owner, state=ResourceState.READY))
        model = Models(session).add(Model(name="m", spec={"kind": "timm", "name": "m"}, owner=owner))
        zoo = Zoo(name="zoo", owner=owner)
        zoo.members = [ZooModel(model_id=model.id, position=0)]
        Zoos(session).add(zoo)
        row = Schedules(session).add(
            Schedule(
                name="nightly",
                cron="0 2 * * *",
                time_zone="UTC",
                owner=owner,
                active_since=now() - timedelta(days=365),
                request=ScheduleRequest(
                    zoo=Named(id=zoo.id, name="zoo"),
                    targets=(Named(id=dataset.id, name="shapes"),),
                    metrics=["leep"],
                ),
                **more,
            )
        )
    with ImageReaders(parts.settings) as readers:
        with parts.database.reading() as session:
            stored = Datasets(session).get(dataset.id)
        assert stored is not None
        index = inspect_dataset(stored.spec, settings=parts.settings, readers=readers)
    IndexStore(parts.settings).write(dataset.id, index)
    return row


def last_night() -> datetime:
    """The newest moment at which the schedule was due."""
    present = datetime.now(UTC)
    due = present.replace(hour=2, minute=0, second=0, microsecond=0)
    return due if due <= present else due - timedelta(days=1)


def fire(row: Schedule, due: datetime) -> str | None:
    return steps.open_run(row.id, due.isoformat(), f"sched-{row.id}-{due.isoformat()}")


def runs(parts: Runtime, row: Schedule) -> list[tuple[RunState, str]]:
    with parts.database.reading() as session:
        found = ScheduleRuns(session).page(row.id, Listing(limit=10))
    return [(run.state, run.problem.detail if run.problem else "") for run in found]


def test_firing_opens_a_run_once(parts: Runtime) -> None:
    row = registered(parts)
    first = fire(row, last_night())
    assert first is not None
    assert fire(row, last_night()) == first
    assert runs(parts, row) == [(RunState.QUEUED, "")]


def test_missed_firing_stands_back_for_a_later_one(parts: Runtime) -> None:
    row = registered(parts)
    assert fire(row, last_night() - timedelta(days=1)) is None
    ((state, reason),) = runs(parts, row)
    assert state is RunState.SKIPPED
    assert last_night().isoformat() in reason


def test_firing_is_skipped_while_a_run_is_under_way(parts: Runtime) -> None:
    row = registered(parts)
    with parts.database.transaction() as session:
        other = ScheduleRuns(session).add(steps.ScheduleRun(schedule_id=row.id, scheduled_at=now(), by_hand=True))
    assert fire(row, last_night()) is None
    assert (RunState.SKIPPED, f"{other.id} was still under way; a schedule never overlaps with itself") in runs(
        parts, row
    )


def test_firing_of_an_older_definition_does_nothing(parts: Runtime) -> None:
    row = registered(parts)
    with parts.database.transaction() as session:
        stored = Schedules(session).lock(row.id)
        assert stored is not None
        stored.active_since = now()
    assert fire(row, last_night()) is None
    assert runs(parts, row) == []


def test_revoked_key_stops_its_schedule_and_says_so(parts: Runtime) -> None:
    with parts.database.transaction() as session:
        key = Keys(session).add(ApiKey(name="k", prefix="p", digest="d", scopes=["read", "submit"]))
    row = registered(parts, owner=key.id)
    parts.jobs.hold(row.id, HeldSchedule(row.cron, row.time_zone))
    with parts.database.transaction() as session:
        Keys(session).revoke(key.id)
    assert fire(row, last_night()) is None
    with parts.database.reading() as session:
        stopped = Schedules(session).get(row.id)
    assert stopped is not None
    assert (stopped.state, stopped.problem and stopped.problem.detail) == (ScheduleState.STOPPED, keeper.REVOKED)
    assert parts.jobs.held() == {}


def test_keeper_stops_what_lost_its_key_without_a_firing(parts: Runtime) -> None:
    with parts.database.transaction() as session:
        key = Keys(session).add(ApiKey(name="k", prefix="p", digest="d", scopes=["read", "submit"]))
        hook = Webhooks(session).add(Webhook(owner=key.id, name="hook", url="https://hooks.example.com", secret="s"))
    row = registered(parts, owner=key.id, webhook_id=hook.id)
    with parts.database.transaction() as session:
        Keys(session).revoke(key.id)
    for _ in range(2):
        keeper.stop_revoked(parts.settings, parts.database, parts.jobs)
    with parts.database.reading() as session:
        stopped = Schedules(session).get(row.id)
        told = [json.loads(delivery.body) for delivery in session.query(Delivery)]
    assert stopped is not None
    assert stopped.state is ScheduleState.STOPPED
    assert [(message["type"], message["data"]["schedule_id"]) for message in told] == [("schedule.stopped", row.id)]


def test_keeper_repairs_what_the_engine_holds(parts: Runtime) -> None:
    row = registered(parts)
    with parts.database.transaction() as session:
        stored = Schedules(session).lock(row.id)
        assert stored is not None
        stored.active_since = now()
    parts.jobs.hold("sch_gone", HeldSchedule("0 1 * * *", "UTC"))
    looking = keeper.ScheduleKeeper(parts.settings, parts.database, parts.jobs)
    looking.look()
    assert parts.jobs.held() == {row.id: HeldSchedule("0 2 * * *", "UTC")}


def test_only_the_newest_missed_moment_is_caught_up_with(parts: Runtime) -> None:
    row = registered(parts)
    present = last_night() + timedelta(hours=1)
    assert keeper.overdue(row, [None], present=present) == last_night()
    assert keeper.overdue(row, [last_night()], present=present) is None


def test_run_submits_one_ranking_a_target_however_often_it_is_repeated(parts: Runtime) -> None:
    row = registered(parts)
    run = fire(row, last_night())
    assert run is not None
    for _ in range(2):
        assert steps.begin(run)
        steps.submit_rankings(run)
    with parts.database.reading() as session:
        (target,) = ScheduleRuns(session).targets([run])[run]
        ranking = Rankings(session).get(target.ranking_id or "")
    assert ranking is not None
    assert (ranking.owner, ranking.request.zoo, target.data) == ("local", "zoo", "unchanged")


def test_ranking_of_a_run_begins_a_trace_and_keeps_it(parts: Runtime, spans: InMemorySpanExporter) -> None:
    run = fire(registered(parts), last_night())
    assert run is not None
    assert steps.begin(run)
    for _ in range(2):
        steps.submit_rankings(run)
    (span,) = spans.get_finished_spans()
    assert (span.name, span.parent, dict(span.attributes or {})) == ("submit", None, {"forerank.run_id": run})
    with parts.database.reading() as session:
        (target,) = ScheduleRuns(session).targets([run])[run]
        ranking = Rankings(session).get(target.ranking_id or "")
    assert ranking is not None
    assert span.context is not None
    assert ranking.traceparent is not None
    assert ranking.traceparent.startswith(f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-")


def test_target_that_is_gone_is_a_row_with_its_reason(parts: Runtime) -> None:
    row = registered(parts)
    run = fire(row, last_night())
    assert run is not None
    with parts.database.transaction() as session:
        dataset = Datasets(session).get(row.request.targets[0].id)
        assert dataset is not None
        Datasets(session).delete(dataset)
    assert steps.begin(run)
    steps.submit_rankings(run)
    assert steps.finish(run) == "failed"
    with parts.database.reading() as session:
        (target,) = ScheduleRuns(session).targets([run])[run]
        stored = ScheduleRuns(session).get(run)
    assert target.problem is not None
    assert stored is not None
    assert stored.report is not None
    assert "there is no data set" in stored.report.targets[0].problem.detail


@pytest.mark.parametrize("change", ["content", "new", "gone", "moved"])
def test_changed_data_set_is_inspected_again(parts: Runtime, change: str) -> None:
    row = registered(parts)
    folder = parts.settings.data_roots[0] / "shapes"
    first = folder / "round" / "0.png"
    if change == "content":
        Image.new("RGB", (9, 9)).save(first)
    elif change == "new":
        Image.new("RGB", (8, 8)).save(folder / "round" / "9.png")
    elif change == "gone":
        first.unlink()
    else:
        first.rename(folder / "square" / "9.png")
    run = fire(row, last_night())
    assert run is not None
    assert steps.begin(run)
    with parts.database.reading() as session:
        (target,) = ScheduleRuns(session).targets([run])[run]
        dataset = Datasets(session).get(target.target_id or "")
    assert dataset is not None
    assert (target.data, dataset.state) == (steps.INSPECTED_AGAIN, ResourceState.PENDING)


def test_changed_data_set_in_use_is_left_alone_and_the_run_says_so(parts: Runtime) -> None:
    row = registered(parts)
    run = fire(row, last_night())
    assert run is not None
    assert steps.begin(run)
    steps.submit_rankings(run)
    steps.fail_run(run, "broken off")
    (parts.settings.data_roots[0] / "shapes" / "round" / "0.png").unlink()
    with parts.database.transaction() as session:
        again = ScheduleRuns(session).add(steps.ScheduleRun(schedule_id=row.id, scheduled_at=now(), by_hand=True)).id
    assert steps.begin(again)
    with parts.database.reading() as session:
        (target,) = ScheduleRuns(session).targets([again])[again]
    assert target.data == steps.CHANGED_IN_USE


def weights_of(parts: Runtime, row: Schedule) -> Path:
    """Give the schedule's model a file of its own, digested as it is now."""
    path = parts.settings.model_roots[0] / "m.safetensors"
    path.write_bytes(bytes(100))
    spec = WeightsFileSpec(path=str(path), architecture="resnet18")
    with parts.database.transaction() as session:
        model = Models(session).find(LOCAL_CALLER, "m")
        assert model is not None
        model.spec, model.state = spec, ResourceState.READY
        model.card = CARD.model_copy(update={"files": files_of(spec, parts.settings)})
    return path


def begun(parts: Runtime, row: Schedule) -> tuple[ResourceState, dict[str, str] | None]:
    """Begin a run: the state of the model, and what the run says of changed models."""
    with parts.database.transaction() as session:
        run = ScheduleRuns(session).add(steps.ScheduleRun(schedule_id=row.id, scheduled_at=now(), by_hand=True)).id
    assert steps.begin(run)
    with parts.database.reading() as session:
        model = Models(session).find(LOCAL_CALLER, "m")
        stored = ScheduleRuns(session).get(run)
    assert model is not None
    assert stored is not None
    return model.state, stored.changed_models


def jobs_that_wait(parts: Runtime) -> set[str]:
    schema = "" if parts.database.is_sqlite else "dbos."
    with parts.database.reading() as session:
        waiting = text(f"SELECT workflow_uuid FROM {schema}workflow_status WHERE status = 'ENQUEUED'")
        return set(session.scalars(waiting))


@pytest.mark.parametrize("change", ["content", "time", "gone"])
def test_replaced_weights_are_digested_again(parts: Runtime, change: str) -> None:
    row = registered(parts)
    path = weights_of(parts, row)
    if change == "content":
        path.write_bytes(bytes(101))
    elif change == "time":
        os.utime(path, (0, 0))
    else:
        path.unlink()
    assert begun(parts, row) == (ResourceState.PENDING, {"m": steps.INSPECTED_AGAIN})
    assert any(job.startswith("inspect-mdl_") for job in jobs_that_wait(parts))


def test_weights_that_are_the_same_are_left_alone(parts: Runtime) -> None:
    row = registered(parts)
    weights_of(parts, row)
    assert begun(parts, row) == (ResourceState.READY, None)


def test_replaced_weights_in_use_are_left_alone_and_the_run_says_so(parts: Runtime) -> None:
    row = registered(parts)
    path = weights_of(parts, row)
    run = fire(row, last_night())
    assert run is not None
    assert steps.begin(run)
    steps.submit_rankings(run)
    path.write_bytes(bytes(101))
    assert begun(parts, row) == (ResourceState.READY, {"m": steps.CHANGED_IN_USE})


def test_second_run_waits_for_what_the_first_has_digested(parts: Runtime) -> None:
    row = registered(parts)
    weights_of(parts, row).write_bytes(bytes(101))
    begun(parts, row)
    before = jobs_that_wait(parts)
    assert begun(parts, row) == (ResourceState.PENDING, None)
    assert jobs_that_wait(parts) == before


def test_inspection_is_put_in_its_queue_again_only_when_the_one_before_has_ended(parts: Runtime) -> None:
    schema = "" if parts.database.is_sqlite else "dbos."
    for state, left in (("SUCCESS", 0), ("PENDING", 1)):
        with parts.database.transaction() as session:
            parts.jobs.inspect_model(session, f"mdl_{state}")
        with parts.database.transaction() as session:
            job = f"inspect-mdl_{state}"
            statement = f"UPDATE {schema}workflow_status SET status = :state WHERE workflow_uuid = :job"
            session.execute(text(statement), {"state": state, "job": job})
        with parts.database.transaction() as session:
            engine.forget_ended(session, job)
        with parts.database.reading() as session:
            count = f"SELECT count(*) FROM {schema}workflow_status WHERE workflow_uuid = :job"
            assert session.execute(text(count), {"job": job}).scalar_one() == left


def test_finished_run_is_told_to_its_webhook_once(parts: Runtime) -> None:
    from app.db.repositories.webhooks import Deliveries, Webhooks
    from app.db.webhook_tables import Webhook

    with parts.database.transaction() as session:
        hook = Webhooks(session).add(Webhook(name="h", url="https://hooks.example.com", secret="whsec_AA=="))
    row = registered(parts, webhook_id=hook.id)
    run = fire(row, last_night())
    assert run is not None
    assert steps.begin(run)
    steps.submit_rankings(run)
    with parts.database.transaction() as session:
        (target,) = ScheduleRuns(session).targets([run])[run]
        assert target.problem is None
        assert Rankings(session).move(target.ranking_id or "", RankingState.RUNNING)
        Rankings(session).end_unfinished_runs(target.ranking_id or "", ModelRunState.FAILED, None)
        assert Rankings(session).move(target.ranking_id or "", RankingState.SUCCEEDED)
    assert [steps.finish(run) for _ in range(2)] == ["succeeded", "succeeded"]
    with parts.database.reading() as session:
        (delivery,) = Deliveries(session).page(hook.id, Listing(limit=10))
    assert f'"run_id":"{run}"' in delivery.body
