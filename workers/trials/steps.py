"""The steps of a trial: ids in, small JSON out, everything else through the database and the store."""

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.contracts.models import InputConfiguration
from app.contracts.problems import failure
from app.contracts.trials import FineTuningRecipe, FoldCommand, FoldResult, TrialChoice
from app.db.advice_tables import RankingTrial, TrialState
from app.db.outages import is_outage
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
from workers.store.trials import TrialStore, fold_key
from workers.trials.predictions import held_out

log = structlog.stdlib.get_logger(__name__)
PROGRESS_SECONDS = 0.5
LOOK_FOR_CANCEL_SECONDS = 1.0
BUDGET_SPENT = "the trial's budget of {:g} s was spent"
EXCLUDED = "after fold {} of {} its loss is surely not among the lowest {}"


def plan_fold(ranking_id: str) -> dict[str, Any]:
    """Say which fold is next, and which models are still in the race for it.

    Returns:
        ``fold``, ``models`` (none: the trial is over) and ``priority``.
    """
    runtime = current()
    over: dict[str, Any] = {"fold": 0, "models": [], "priority": 1}
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
        return {"fold": fold, "models": [row.model_id for row in live], "priority": ranking.priority}


def _race(store: TrialStore, rows: Sequence[RankingTrial], choice: TrialChoice, fold: int) -> None:
    """Let those leave whose loss is surely not among the lowest; the same rows give the same answer."""
    running = [row for row in rows if row.state in LIVE_TRIALS]
    losses, _ = held_out(store, running)
    if losses is None:
        return
    for row, stays in zip(running, still_in_race(losses, choice.first), strict=True):
        if not stays:
            _leave(row, EXCLUDED.format(fold, choice.folds, choice.first), TrialState.EXCLUDED)


def _leave(row: RankingTrial, reason: str, state: TrialState = TrialState.CUT_OFF) -> None:
    row.state, row.reason, row.stage, row.seconds_left = state, reason, None, None


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
    follower = _Follower(runtime, ranking_id, model_id, choice, left)
    try:
        result = runtime.trainer.run_fold(command, progress=follower.progress, should_stop=follower.should_stop)
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


def _record(ranking_id: str, model_id: str, fold: int, key: str, result: FoldResult, session: Session) -> None:
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
    with current().transaction() as session:
        Trials(session).change(
            ranking_id, model_id, state=TrialState.FAILED, stage=None, seconds_left=None, problem=failure(code, detail)
        )


def fold_command(runtime: Runtime, ranking: Ranking, model: Model, choice: TrialChoice, fold: int) -> FoldCommand:
    """What the trainer is told."""
    if model.card is None:
        raise ValueError(f"{model.id} was not inspected")
    sample: Sample = draw(runtime.settings, TASKS[ranking.request.task], ranking.target_id, ranking.request.sample)
    transform = trial_input(model.card.input, choice)
    recipe = FineTuningRecipe(epochs=choice.epochs, flip=choice.flip, seed=choice.seed)
    key = fold_key(
        model.card,
        dataset_fingerprint=sample.index.fingerprint,
        sample_indices=sample.indices,
        transform=transform,
        folds=choice.folds,
        fold=fold,
        recipe=recipe,
    )
    return FoldCommand(
        spec=model.spec,
        card=model.card,
        dataset_id=sample.dataset_id,
        sample_indices=tuple(sample.indices.tolist()),
        key=key,
        input=transform,
        folds=choice.folds,
        fold=fold,
        recipe=recipe,
    )


def trial_input(own: InputConfiguration, choice: TrialChoice) -> InputConfiguration:
    """The model's normalisation on images of the trial's size."""
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


class _Follower:
    """Writes progress to the model's row, and sees when the ranking is cancelled or the budget is spent."""

    def __init__(
        self, runtime: Runtime, ranking_id: str, model_id: str, choice: TrialChoice, seconds_left: float | None
    ) -> None:
        self._runtime = runtime
        self._ranking_id = ranking_id
        self._model_id = model_id
        self._end = None if seconds_left is None else time.monotonic() + seconds_left
        self._told = self._looked = 0.0
        self._stage = ""
        self._over = False

    @property
    def is_late(self) -> bool:
        """Whether the budget is spent."""
        return self._end is not None and time.monotonic() >= self._end

    def progress(self, event: Mapping[str, Any]) -> None:
        """Write stage, counts and the seconds that this fold will still take, twice a second at most."""
        if event["stage"] == self._stage and time.monotonic() - self._told < PROGRESS_SECONDS:
            return
        self._told, self._stage = time.monotonic(), event["stage"]
        try:
            with self._runtime.transaction() as session:
                Trials(session).change(
                    self._ranking_id,
                    self._model_id,
                    stage=event["stage"],
                    done=event["done"],
                    total=event["total"],
                    seconds_left=event.get("seconds_left"),
                )
        except SQLAlchemyError as error:
            if not is_outage(error):
                raise
            log.warning("progress was not written", ranking=self._ranking_id, model=self._model_id)

    def should_stop(self) -> bool:
        """Asked about ten times a second; the database is asked once a second at most."""
        if self.is_late:
            return True
        if not self._over and time.monotonic() - self._looked > LOOK_FOR_CANCEL_SECONDS:
            self._looked = time.monotonic()
            try:
                with self._runtime.database.reading() as session:
                    state = Rankings(session).state(self._ranking_id)
                self._over = state is None or state.is_final
            except SQLAlchemyError as error:
                if not is_outage(error):
                    raise
                log.warning("the database does not answer", ranking=self._ranking_id, model=self._model_id)
        return self._over
