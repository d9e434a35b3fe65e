"""The steps of a trial: ids in, small JSON out, everything else through the database and the store."""

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from app import tracing
from app.contracts.fine_tuning import FineTuningCommand, FineTuningRecipe, FineTuningResult
from app.contracts.models import InputConfiguration
from app.contracts.problems import failure
from app.contracts.states import TrialState
from app.contracts.trials import ImageChoice, TrialChoice
from app.contracts.work import FoldWork
from app.db.advice_tables import RankingTrial
from app.db.repositories.models import Models
from app.db.repositories.rankings import Rankings
from app.db.repositories.trials import LIVE_TRIALS, Trials
from app.db.tables import Model, Ranking, now
from app.tasks.catalog import TASKS
from estimators.comparison.recommendation import still_in_race
from workers.errors import Problem, Stopped
from workers.ranking.advice import promising
from workers.ranking.planning import Sample, draw
from workers.runtime import Runtime, current
from workers.store.trials import TrialStore, run_key
from workers.tracing import traced
from workers.trials.following import RunFollower
from workers.trials.predictions import held_out

log = structlog.stdlib.get_logger(__name__)
BUDGET_SPENT = "the trial's budget of {:g} s was spent"
EXCLUDED = "after fold {} of {} its loss is surely not among the lowest {}"


def plan_fold(ranking_id: str) -> FoldWork:
    """Say which fold is next, and which models are still in the race for it."""
    runtime = current()
    over = FoldWork()
    with runtime.transaction() as session:
        ranking = Rankings(session).get(ranking_id)
        if ranking is None or ranking.state.is_final or ranking.request.trial is None:
            return over
        choice = ranking.request.trial
        trials = Trials(session)
        if not trials.of(ranking_id):
            trials.start(ranking_id, promising(session, ranking)[: choice.models])
        rows = list(trials.of(ranking_id))
        live = [row for row in rows if row.state in LIVE_TRIALS]
        if live and _seconds_left(choice, live[0]) == 0:
            for row in live:
                _leave(row, BUDGET_SPENT.format(choice.budget_seconds))
            return over
        fold = min((row.folds_done for row in live), default=choice.folds)
        if fold > 0:
            _race(TrialStore.of(runtime.settings), rows, choice, fold)
        live = [row for row in rows if row.state in LIVE_TRIALS]
        if fold >= choice.folds:
            for row in live:
                row.state, row.stage, row.seconds_left = TrialState.SUCCEEDED, None, None
            return over
        return FoldWork(fold=fold, models=tuple(row.model_id for row in live), priority=ranking.priority)


def _race(store: TrialStore, rows: Sequence[RankingTrial], choice: TrialChoice, fold: int) -> None:
    """Let those leave whose loss is surely not among the lowest; the same rows give the same answer."""
    running = [row for row in rows if row.state in LIVE_TRIALS]
    losses, _ = held_out(store, running)
    if losses is None:
        return
    for row, stays in zip(running, still_in_race(losses, choice.winners), strict=True):
        if not stays:
            _leave(row, EXCLUDED.format(fold, choice.folds, choice.winners), TrialState.EXCLUDED)


def _leave(row: RankingTrial, reason: str, state: TrialState = TrialState.CUT_OFF) -> None:
    row.state, row.reason, row.stage, row.seconds_left = state, reason, None, None


@traced("try")
def try_fold(ranking_id: str, model_id: str, fold: int) -> bool:
    """Fine-tune one model on all folds but one. A failure is the model's own row; the others go on."""
    runtime = current()
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(ranking=ranking_id, model=model_id, fold=fold)
    with runtime.transaction() as session:
        ranking, model = Rankings(session).get(ranking_id), Models(session).get(model_id)
        row = Trials(session).get(ranking_id, model_id)
        if ranking is None or ranking.state.is_final or row is None or row.state not in LIVE_TRIALS:
            return False
        if row.folds_done > fold:
            return True
        choice = ranking.request.trial
        if model is None or choice is None:
            row.state, row.problem = TrialState.FAILED, failure("model-problem", "the model was deleted")
            return False
        left = _seconds_left(choice, row)
        if left == 0:
            _leave(row, BUDGET_SPENT.format(choice.budget_seconds))
            return False
        command = fold_command(runtime, ranking, model, choice, fold)
        row.state, row.stage, row.done, row.total = TrialState.RUNNING, "waiting", 0, 0
    follower = RunFollower(
        runtime,
        tell=lambda session, progress: Trials(session).tell(ranking_id, model_id, progress),
        is_over=lambda session: (state := Rankings(session).state(ranking_id)) is None or state.is_final,
        seconds_left=left,
    )
    try:
        result = runtime.trainer.fine_tune(command, progress=follower.progress, should_stop=follower.should_stop)
    except Stopped:
        with runtime.transaction() as session:
            if follower.is_late and (row := Trials(session).get(ranking_id, model_id)) is not None:
                _leave(row, BUDGET_SPENT.format(choice.budget_seconds))
        return False
    except Problem as problem:
        log.warning("a fold failed", code=problem.code, detail=problem.detail)
        fail_trial(ranking_id, model_id, problem.detail, problem.code)
        return False
    runtime.write(partial(_record, ranking_id, model_id, fold, command.key, result))
    return True


def _record(ranking_id: str, model_id: str, fold: int, key: str, result: FineTuningResult, session: Session) -> None:
    row = Trials(session).get(ranking_id, model_id)
    if row is None or row.folds_done > fold:
        return
    images = row.images + result.images
    row.nll = ((row.nll or 0.0) * row.images + result.nll * result.images) / images
    row.accuracy = ((row.accuracy or 0.0) * row.images + result.accuracy * result.images) / images
    row.images, row.side = images, result.side
    row.keys, row.folds_done = [*row.keys, key], fold + 1
    row.seconds = round(row.seconds + result.seconds, 3)
    row.warnings = list(dict.fromkeys((*(row.warnings or ()), *result.warnings)))
    if row.state in LIVE_TRIALS:
        row.state, row.stage, row.seconds_left = TrialState.WAITING, None, None


def fail_trial(ranking_id: str, model_id: str, detail: str, code: str = "internal-error") -> None:
    """Close a model's row with the reason."""
    tracing.fail(code)
    with current().transaction() as session:
        Trials(session).change(
            ranking_id, model_id, state=TrialState.FAILED, stage=None, seconds_left=None, problem=failure(code, detail)
        )


def fold_command(runtime: Runtime, ranking: Ranking, model: Model, choice: TrialChoice, fold: int) -> FineTuningCommand:
    """What the trainer is told."""
    sample = draw(runtime.settings, TASKS[ranking.request.task], ranking.target_id, ranking.request.sample)
    folds = sample.task.folds(sample.index.labels[sample.indices], choice.folds, seed=choice.seed)
    recipe = FineTuningRecipe(epochs=choice.epochs, flip=choice.flip, seed=choice.seed)
    return run_command(model, sample, choice, np.flatnonzero(folds != fold), np.flatnonzero(folds == fold), recipe)


def run_command(
    model: Model,
    sample: Sample,
    choice: ImageChoice,
    train: NDArray[np.int64],
    held_out: NDArray[np.int64],
    recipe: FineTuningRecipe,
) -> FineTuningCommand:
    """What the trainer is told; ``train`` and ``held_out`` are positions within the sample."""
    if model.card is None:
        raise ValueError(f"{model.id} was not inspected")
    transform = image_input(model.card.input, choice)
    key = run_key(
        model.card,
        dataset_fingerprint=sample.index.fingerprint,
        sample_indices=sample.indices,
        transform=transform,
        train=train,
        held_out=held_out,
        recipe=recipe,
    )
    return FineTuningCommand(
        task=sample.task.name,
        spec=model.spec,
        card=model.card,
        dataset_id=sample.dataset_id,
        sample_indices=tuple(sample.indices.tolist()),
        train=tuple(train.tolist()),
        held_out=tuple(held_out.tolist()),
        key=key,
        input=transform,
        recipe=recipe,
    )


def image_input(own: InputConfiguration, choice: ImageChoice) -> InputConfiguration:
    """The model's normalisation on images of the asked size."""
    changed: dict[str, Any] = {}
    if choice.size is not None:
        changed["input_size"] = (own.input_size[0], choice.size, choice.size)
    if choice.crop == "squash":
        changed |= {"crop_mode": "squash", "crop_pct": 1.0, "interpolation": "bilinear"}
    return own.model_copy(update=changed)


def _seconds_left(choice: TrialChoice, row: RankingTrial) -> float | None:
    """Of the budget; None without one. It runs from the moment at which the trial was planned."""
    if choice.budget_seconds is None:
        return None
    end = row.created_at + timedelta(seconds=choice.budget_seconds)
    return max(0.0, (end - now()).total_seconds())
