"""The steps of a full fine-tuning: ids in, small JSON out, everything else through the database and the store."""

from collections.abc import Sequence
from functools import partial
from statistics import fmean

import numpy as np
import structlog
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from app.contracts.fine_tuning import FineTuningCommand, FineTuningRecipe, FineTuningResult
from app.contracts.finetunes import VALIDATION_SHARE, FineTuningRequest, FineTuningSplit
from app.contracts.problems import failure
from app.contracts.states import RankingState, ResourceState, RunPurpose, TrialState
from app.contracts.work import FineTuningWork
from app.db.fine_tuning_tables import FineTuning, FineTuningRun
from app.db.repositories.datasets import Datasets
from app.db.repositories.finetunes import FineTunings
from app.db.repositories.history import History
from app.db.repositories.models import Models
from app.db.repositories.trials import LIVE_TRIALS
from app.db.tables import Model
from app.tasks.catalog import TASKS
from workers.errors import Problem, Stopped
from workers.ranking.planning import Sample, draw
from workers.runtime import Runtime, current
from workers.trials.following import RunFollower
from workers.trials.steps import run_command

log = structlog.stdlib.get_logger(__name__)
Rows = NDArray[np.int64]
TOO_FEW = "the images to train on are of fewer than two classes: take a larger sample or a smaller test_share"
NONE_SUCCEEDED = "no model could be fine-tuned; each run says why"


def is_waiting(fine_tuning_id: str) -> bool:
    """Whether the inspection of the target or of a model has not ended."""
    with current().database.reading() as session:
        row = FineTunings(session).get(fine_tuning_id)
        if row is None or row.state.is_final:
            return False
        target = Datasets(session).get(row.target_id)
        models = Models(session).get_many(row.request.models)
        states = [model.state for model in models.values()] + ([target.state] if target is not None else [])
        return ResourceState.PENDING in states


def plan_runs(fine_tuning_id: str) -> FineTuningWork:
    """Say which runs are next: first those that try learning rates, then those that are tested with the best."""
    runtime = current()
    over = FineTuningWork()
    with runtime.transaction() as session:
        finetunes = FineTunings(session)
        row = finetunes.get(fine_tuning_id)
        if row is None or row.state.is_final:
            return over
        runs = finetunes.runs([row.id])[row.id]
        if not runs and not _begin(runtime, session, row):
            return over
        if not any(run.state in LIVE_TRIALS for run in runs):
            finetunes.start(_next(row.request, row.id, runs))
            runs = finetunes.runs([row.id])[row.id]
        live = tuple(run.number for run in runs if run.state in LIVE_TRIALS)
        return FineTuningWork(runs=live, priority=row.priority)


def _begin(runtime: Runtime, session: Session, row: FineTuning) -> bool:
    """Record the split; whether the target can be used."""
    finetunes = FineTunings(session)
    target = Datasets(session).get(row.target_id)
    if target is None or target.state is ResourceState.FAILED:
        problem = failure("image-problem", "the target was deleted, or its inspection failed")
        finetunes.move(row.id, RankingState.FAILED, problem=problem)
        return False
    if reason := TASKS[row.request.task].why_unusable(target.name, target.class_counts or {}):
        finetunes.move(row.id, RankingState.FAILED, problem=failure("image-problem", reason))
        return False
    sample = _sample(runtime, row)
    train, test = split(sample, row.request)
    if np.unique(sample.index.labels[sample.indices][train]).size < 2:
        finetunes.move(row.id, RankingState.FAILED, problem=failure("image-problem", TOO_FEW))
        return False
    described = FineTuningSplit(
        train=train.size,
        test=test.size,
        classes=int(np.unique(sample.index.labels[sample.indices]).size),
        fingerprint=sample.index.fingerprint,
    )
    return finetunes.move(row.id, RankingState.RUNNING, split=described)


def _next(request: FineTuningRequest, identifier: str, runs: Sequence[FineTuningRun]) -> list[FineTuningRun]:
    """The runs of the next round; none if both rounds were started."""
    if any(run.purpose is RunPurpose.TEST for run in runs):
        return []
    multiples = request.rate_multiples
    made: list[FineTuningRun] = []

    def add(model: str, purpose: RunPurpose, multiple: float, seed: int) -> None:
        number = len(runs) + len(made)
        file = f"{identifier}/{number}.safetensors" if request.weights and purpose is RunPurpose.TEST else None
        made.append(
            FineTuningRun(
                fine_tuning_id=identifier,
                number=number,
                model_id=model,
                purpose=purpose,
                rate_multiple=multiple,
                seed=seed,
                weights=file,
            )
        )

    for model in request.models:
        if not runs and len(multiples) > 1:
            for multiple in multiples:
                add(model, RunPurpose.RATE, multiple, request.seed)
            continue
        best = best_rate([run for run in runs if run.model_id == model]) if runs else multiples[0]
        if best is not None:
            for number in range(request.seeds):
                add(model, RunPurpose.TEST, best, request.seed + number)
    return made


def best_rate(runs: Sequence[FineTuningRun]) -> float | None:
    """The multiple that was most accurate on the images held out, by likelihood among equals; None if all failed."""
    done = [run for run in runs if run.state is TrialState.SUCCEEDED and run.accuracy is not None]
    if not done:
        return None
    best = max(done, key=lambda run: (run.accuracy or 0.0, -(run.nll or 0.0)))
    return best.rate_multiple


def split(sample: Sample, request: FineTuningRequest) -> tuple[Rows, Rows]:
    """Positions within the sample to train on and to test on, stratified; the same for every model, rate and seed."""
    return _parts(sample, np.arange(sample.indices.size), request.test_share, request.seed)


def _parts(sample: Sample, rows: Rows, share: float, seed: int) -> tuple[Rows, Rows]:
    labels = sample.index.labels[sample.indices][rows]
    held_out = sample.task.held_out(labels, share, seed=seed)
    return np.delete(rows, held_out), rows[held_out]


def run_once(fine_tuning_id: str, number: int) -> bool:
    """Fine-tune one model once. A failure is the run's own row; the others go on."""
    runtime = current()
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(fine_tuning=fine_tuning_id, run=number)
    with runtime.transaction() as session:
        finetunes = FineTunings(session)
        row, run = finetunes.get(fine_tuning_id), finetunes.run(fine_tuning_id, number)
        if row is None or row.state.is_final or run is None or run.state not in LIVE_TRIALS:
            return False
        model = Models(session).get(run.model_id)
        if model is None or model.card is None:
            run.state, run.problem = TrialState.FAILED, failure("model-problem", _why_unusable(model))
            return False
        command = _command(runtime, row, run, model)
        run.state, run.stage, run.done, run.total = TrialState.RUNNING, "waiting", 0, 0
    follower = RunFollower(
        runtime,
        tell=lambda session, progress: FineTunings(session).tell(fine_tuning_id, number, progress),
        is_over=lambda session: (state := FineTunings(session).state(fine_tuning_id)) is None or state.is_final,
    )
    try:
        result = runtime.trainer.fine_tune(command, progress=follower.progress, should_stop=follower.should_stop)
    except Stopped:
        return False
    except Problem as problem:
        log.warning("a run failed", code=problem.code, detail=problem.detail)
        fail_run(fine_tuning_id, number, problem.detail, problem.code)
        return False
    runtime.write(partial(_record, fine_tuning_id, number, command.key, result))
    return True


def _why_unusable(model: Model | None) -> str:
    if model is None:
        return "the model was deleted"
    return f"the inspection of {model.name!r} failed; GET /v1/models/{model.id} says why"


def _command(runtime: Runtime, row: FineTuning, run: FineTuningRun, model: Model) -> FineTuningCommand:
    request, sample = row.request, _sample(runtime, row)
    train, held_out = split(sample, request)
    if run.purpose is RunPurpose.RATE:
        train, held_out = _parts(sample, train, VALIDATION_SHARE, request.seed)
    recipe = FineTuningRecipe(
        epochs=request.epochs,
        rate_multiple=run.rate_multiple,
        shift=request.shift,
        flip=request.flip,
        seed=run.seed,
    )
    command = run_command(model, sample, request, train, held_out, recipe)
    return command.model_copy(update={"weights": run.weights})


def _sample(runtime: Runtime, row: FineTuning) -> Sample:
    return draw(runtime.settings, TASKS[row.request.task], row.target_id, row.request.sample)


def _record(fine_tuning_id: str, number: int, key: str, result: FineTuningResult, session: Session) -> None:
    FineTunings(session).change(
        fine_tuning_id,
        number,
        state=TrialState.SUCCEEDED,
        stage=None,
        seconds_left=None,
        accuracy=result.accuracy,
        nll=result.nll,
        probe_accuracy=result.probe_accuracy,
        body_rate=result.body_rate,
        images=result.images,
        side=result.side,
        seconds=result.seconds,
        warnings=list(result.warnings),
        key=key,
    )


def fail_run(fine_tuning_id: str, number: int, detail: str, code: str = "internal-error") -> None:
    """Close a run with the reason."""
    with current().transaction() as session:
        FineTunings(session).change(
            fine_tuning_id,
            number,
            state=TrialState.FAILED,
            stage=None,
            seconds_left=None,
            problem=failure(code, detail),
        )


def conclude(fine_tuning_id: str) -> str:
    """Close the job, and remember what its models reached."""
    with current().transaction() as session:
        finetunes = FineTunings(session)
        row = finetunes.get(fine_tuning_id)
        if row is None or row.state.is_final:
            return "gone" if row is None else row.state.value
        reached: dict[str, list[float]] = {}
        for run in finetunes.runs([row.id])[row.id]:
            if run.purpose is RunPurpose.TEST and run.accuracy is not None:
                reached.setdefault(run.model_id, []).append(run.accuracy)
        if not reached:
            finetunes.move(row.id, RankingState.FAILED, problem=failure("model-problem", NONE_SUCCEEDED))
            return RankingState.FAILED.value
        if row.request.remember and row.split is not None:
            models = Models(session).get_many(reached)
            History(session).remember(
                {
                    "owner": row.owner,
                    "target_fingerprint": row.split.fingerprint,
                    "target": row.request.target,
                    "weights_digest": model.digest or model.id,
                    "model": model.name,
                    "accuracy": fmean(reached[model.id]),
                }
                for model in models.values()
            )
        finetunes.move(row.id, RankingState.SUCCEEDED)
        return RankingState.SUCCEEDED.value
