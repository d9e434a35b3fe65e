"""The steps of a run: ids in, small JSON out, everything else through the database. Each may be repeated."""

from datetime import datetime, timedelta

import structlog
from sqlalchemy.orm import Session

from app import tracing
from app.contracts.caller import LOCAL_CALLER, Caller
from app.contracts.problems import ProblemDocument, failure
from app.contracts.question import RankingCreate
from app.contracts.states import RankingState, ResourceState, RunState, ScheduleState
from app.db.repositories.datasets import Datasets
from app.db.repositories.keys import Keys
from app.db.repositories.models import Models, Zoos
from app.db.repositories.rankings import Rankings
from app.db.repositories.schedules import ScheduleRuns, Schedules
from app.db.repositories.unfinished import inspection_job
from app.db.schedule_tables import RunTarget, Schedule, ScheduleRun
from app.db.tables import now
from app.errors import ForerankError
from app.schedules import times
from app.schedules.report import compose
from app.submission.rankings import submit
from app.submission.zoos import registered
from app.webhooks.outbox import announce
from workers import engine
from workers.errors import DatasetChanged, Stopping
from workers.images.index import IndexStore
from workers.inspection.changes import has_changed, is_by_path
from workers.inspection.weights import has_changed as has_other_files
from workers.inspection.weights import is_local
from workers.runtime import Runtime, current
from workers.schedules.keeper import REVOKED, stop

RUN_FINISHED = "schedule_run.finished"
SHORTEST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.2, 5.0
UNCHANGED, INSPECTED_AGAIN, CHANGED_IN_USE = "unchanged", "inspected again", "changed in use"

log = structlog.stdlib.get_logger(__name__)


def open_run(schedule_id: str, scheduled_at: str, job: str) -> str | None:
    """Decide what a firing means: a run to carry out, one that is skipped and says why, or nothing.

    Args:
        job: the engine's id of this firing.

    Returns:
        The id of a run that has not ended, or None.
    """
    runtime = current()
    due = datetime.fromisoformat(scheduled_at)
    with runtime.transaction() as session:
        row = Schedules(session).lock(schedule_id)
        if row is None:
            runtime.jobs.release_schedule(session, schedule_id)
            return None
        runs = ScheduleRuns(session)
        known = runs.at(schedule_id, due)
        if known is not None:
            return None if known.state.is_final else known.id
        if row.state is not ScheduleState.ACTIVE or due <= row.active_since:
            return None
        if times.is_repetition(row.cron, row.time_zone, due):
            return None
        run = runs.add(ScheduleRun(schedule_id=row.id, scheduled_at=due, job=job))
        reason = _reason_to_skip(runtime, session, row, run)
        if reason is None:
            return run.id
        run.state, run.problem, run.finished_at = RunState.SKIPPED, reason, now()
        log.warning("a run is skipped", schedule=row.id, run=run.id, reason=reason.detail)
    return None


def _reason_to_skip(runtime: Runtime, session: Session, row: Schedule, run: ScheduleRun) -> ProblemDocument | None:
    if _caller(session, row) is None:
        stop(session, runtime.settings, runtime.jobs, row)
        return failure("forbidden", REVOKED)
    present = now()
    later = times.latest_due(row.cron, row.time_zone, after=run.scheduled_at, until=present)
    if later is not None:
        return failure("stopped", f"it was not run in time; the run of {later.isoformat()} stands for it")
    if present - run.scheduled_at > timedelta(hours=runtime.settings.schedule_misfire_hours):
        limit = f"{runtime.settings.schedule_misfire_hours:g} hours (FORERANK_SCHEDULE_MISFIRE_HOURS)"
        return failure("stopped", f"it was not run in time, and is more than {limit} late")
    other = ScheduleRuns(session).open_run(row.id, besides=run.id)
    if other is not None:
        return failure("conflict", f"{other.id} was still under way; a schedule never overlaps with itself")
    return None


def _caller(session: Session, row: Schedule) -> Caller | None:
    """Who the schedule acts for; None: the key was revoked, or may not submit."""
    if row.owner == LOCAL_CALLER.owner:
        return LOCAL_CALLER
    key = Keys(session).get(row.owner)
    if key is None or key.revoked_at is not None or "submit" not in key.scopes:
        return None
    return Caller(key.id, frozenset(key.scopes))


def begin(run_id: str) -> bool:
    """Note the targets, and have those whose images changed inspected again; whether the run goes on."""
    runtime = current()
    with runtime.transaction() as session:
        runs = ScheduleRuns(session)
        run = runs.get(run_id)
        row = Schedules(session).lock(run.schedule_id) if run is not None else None
        if run is None or row is None or not runs.move(run_id, RunState.RUNNING, started_at=run.started_at or now()):
            return False
        if _caller(session, row) is None:
            stop(session, runtime.settings, runtime.jobs, row)
            runs.move(run_id, RunState.SKIPPED, problem=failure("forbidden", REVOKED), finished_at=now())
            return False
        targets = runs.targets([run_id])[run_id]
        if not targets:
            targets = [
                RunTarget(run_id=run_id, position=position, target=target.name, target_id=target.id)
                for position, target in enumerate(row.request.targets)
            ]
            session.add_all(targets)
            session.flush()
        identifiers = [(target.position, target.target_id or "") for target in targets]
    for position, dataset_id in identifiers:
        _look_at_images(runtime, run_id, position, dataset_id)
    _look_at_weights(runtime, run_id)
    return True


def _look_at_images(runtime: Runtime, run_id: str, position: int, dataset_id: str) -> None:
    with runtime.database.reading() as session:
        dataset = Datasets(session).get(dataset_id)
        target = session.get(RunTarget, (run_id, position))
    if dataset is None or target is None or target.data != UNCHANGED or dataset.state is ResourceState.PENDING:
        return
    if not is_by_path(dataset.spec):
        return
    if dataset.state is ResourceState.READY and not _has_changed(runtime, dataset_id):
        return
    with runtime.transaction() as session:
        # Two runs may find the same change: one has the images inspected, the other waits for it.
        row = Datasets(session).lock(dataset_id)
        target = session.get(RunTarget, (run_id, position))
        if row is None or target is None or row.state is ResourceState.PENDING:
            return
        if Rankings(session).open_of(dataset_id):
            # Its rankings would mix the images of before and after.
            target.data = CHANGED_IN_USE
            return
        target.data = INSPECTED_AGAIN
        row.state, row.problem, row.inspected_at = ResourceState.PENDING, None, None
        engine.forget_ended(session, inspection_job(dataset_id))
        # The ranking waits for it.
        runtime.jobs.inspect_dataset(session, dataset_id, owner=row.owner)
    log.info("a data set has changed and is inspected again", dataset=dataset_id, run=run_id)


def _look_at_weights(runtime: Runtime, run_id: str) -> None:
    """Have local models whose files were replaced digested again; only those are then run again."""
    with runtime.database.reading() as session:
        run = ScheduleRuns(session).get(run_id)
        row = Schedules(session).get(run.schedule_id) if run is not None else None
        caller = _caller(session, row) if row is not None else None
        zoo = Zoos(session).find_with_members(caller, row.request.zoo.id) if row is not None and caller else None
        models = registered(session, caller, zoo) if zoo is not None and caller is not None else []
    local = [model for model in models if is_local(model.spec) and model.state is not ResourceState.PENDING]
    for model in local:
        if has_other_files(model.spec, model.card, runtime.settings):
            _digest_again(runtime, run_id, model.id)


def _digest_again(runtime: Runtime, run_id: str, model_id: str) -> None:
    with runtime.transaction() as session:
        row = Models(session).lock(model_id)
        run = ScheduleRuns(session).get(run_id)
        if row is None or run is None or row.state is ResourceState.PENDING:
            return
        # Its rankings would mix the weights of before and after.
        in_use = bool(Models(session).open_rankings(model_id))
        run.changed_models = {**(run.changed_models or {}), row.name: CHANGED_IN_USE if in_use else INSPECTED_AGAIN}
        if in_use:
            return
        row.state, row.problem, row.inspected_at = ResourceState.PENDING, None, None
        engine.forget_ended(session, inspection_job(model_id))
        runtime.jobs.inspect_model(session, model_id)
    log.info("the weights of a model have changed and are digested again", model=model_id, run=run_id)


def _has_changed(runtime: Runtime, dataset_id: str) -> bool:
    try:
        return has_changed(IndexStore(runtime.settings).open(dataset_id), runtime.settings)
    except DatasetChanged:
        return True


def submit_rankings(run_id: str) -> None:
    """Submit one ranking a target, each in a transaction of its own; what cannot be asked is noted."""
    runtime = current()
    with runtime.database.reading() as session:
        positions = [target.position for target in ScheduleRuns(session).targets([run_id])[run_id]]
    for position in positions:
        problem = _submit(runtime, run_id, position)
        if problem is not None:
            with runtime.transaction() as session:
                target = session.get(RunTarget, (run_id, position))
                if target is not None:
                    target.problem = problem


def _submit(runtime: Runtime, run_id: str, position: int) -> ProblemDocument | None:
    try:
        with runtime.transaction() as session:
            run = ScheduleRuns(session).get(run_id)
            row = Schedules(session).lock(run.schedule_id) if run is not None else None
            target = session.get(RunTarget, (run_id, position), with_for_update=True)
            caller = _caller(session, row) if row is not None else None
            if row is None or target is None or target.ranking_id or target.problem:
                return None
            if caller is None:
                return failure("forbidden", REVOKED)
            body = RankingCreate(
                zoo=row.request.zoo.id,
                target=target.target_id or target.target,
                shared=row.shared,
                **dict(row.request.options),
            )
            with tracing.span("submit", attributes={"forerank.run_id": run_id}):
                ranking = submit(session, runtime.jobs, caller, body, request_id=run_id)
            target.ranking_id = ranking.id
    except ForerankError as error:
        return failure(error.code, error.detail)
    return None


def await_rankings(run_id: str) -> None:
    """Wait until all rankings of a run have ended. One long step: the engine keeps a row of each that it is asked for.

    Raises:
        Stopping: this worker ends; another one waits on.
    """
    runtime = current()
    pause = SHORTEST_WAIT_SECONDS
    while not is_settled(runtime, run_id):
        if runtime.stopping.wait(pause):
            raise Stopping("the worker stops")
        pause = min(pause * 1.5, LONGEST_WAIT_SECONDS)


def is_settled(runtime: Runtime, run_id: str) -> bool:
    """Whether all rankings of a run have ended, or are gone."""
    with runtime.database.reading() as session:
        rankings = Rankings(session)
        targets = ScheduleRuns(session).targets([run_id])[run_id]
        states = [rankings.state(target.ranking_id) for target in targets if target.ranking_id is not None]
    return all(state is None or state.is_final for state in states)


def finish(run_id: str) -> str:
    """Say what has changed, in the run's row and to its webhook; then the run is over."""
    runtime = current()
    with runtime.transaction() as session:
        runs = ScheduleRuns(session)
        run = runs.get(run_id)
        row = Schedules(session).get(run.schedule_id) if run is not None else None
        if run is None or row is None:
            return "deleted"
        targets = runs.targets([run_id])[run_id]
        rankings = Rankings(session)
        succeeded = [
            target
            for target in targets
            if target.ranking_id and rankings.state(target.ranking_id) is RankingState.SUCCEEDED
        ]
        state = RunState.SUCCEEDED if succeeded else RunState.FAILED
        problem = None if succeeded else failure("extraction-problem", "no target was ranked; each says why")
        if not runs.move(run_id, state, finished_at=now(), problem=problem):
            return run.state.value
        session.refresh(run)
        report = compose(session, row, run)
        run.report = report
        if row.webhook_id is not None:
            announce(session, runtime.jobs, runtime.settings, row.webhook_id, kind=RUN_FINISHED, data=report.plain())
    log.info("a run ended", run=run_id, state=state.value, computed=report.computed, reused=report.reused)
    return state.value


def fail_run(run_id: str, detail: str) -> None:
    """Close a run that cannot go on."""
    with current().transaction() as session:
        problem = failure("internal-error", detail)
        ScheduleRuns(session).move(run_id, RunState.FAILED, problem=problem, finished_at=now())
