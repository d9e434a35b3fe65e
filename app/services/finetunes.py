"""Rules of full fine-tunings: how one is shown, and how one ends."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean, stdev

from sqlalchemy import event
from sqlalchemy.orm import Session

from app import shared_home
from app.contracts.caller import Caller
from app.contracts.finetunes import FineTuneCreate
from app.contracts.listing import Listing
from app.contracts.states import RankingState, RunPurpose, TrialState
from app.db.fine_tuning_tables import FineTuning, FineTuningRun
from app.db.repositories.finetunes import FineTunings
from app.db.repositories.trials import LIVE_TRIALS
from app.errors import Conflict, NotFound
from app.jobs import Jobs
from app.schemas.base import Problem
from app.schemas.finetunes import FineTunedModelAnswer, FineTuningAnswer, FineTuningRunAnswer, TrainingTimeAnswer
from app.schemas.page import Page, page_of
from app.services import usage
from app.services.ownership import check_owner
from app.settings import Settings
from app.submission.finetunes import resolve, submit
from app.submission.training_time import seconds_of

CANCELLED = "the fine-tuning was cancelled"


def create(
    session: Session, jobs: Jobs, settings: Settings, caller: Caller, body: FineTuneCreate, *, request_id: str | None
) -> FineTuningAnswer:
    """Store a fine-tuning and have a worker begin it.

    Raises:
        QuotaExceeded: the weights that it would keep are more than the caller may store.
    """
    if body.weights:
        _, models = resolve(session, caller, body)
        usage.check(
            session, settings, caller.owner, adding=body.seeds * sum(model.weight_bytes or 0 for model in models)
        )
    return _answers(session, [submit(session, jobs, caller, body, request_id=request_id)])[0]


def page(
    session: Session, caller: Caller, listing: Listing, *, state: RankingState | None = None
) -> Page[FineTuningAnswer]:
    """The fine-tunings that the caller may see."""
    rows = FineTunings(session).page(caller, listing, conditions=[] if state is None else [FineTuning.state == state])
    shown = {answer.id: answer for answer in _answers(session, rows)}
    return page_of(rows, listing.limit, lambda row: shown[row.id])


def show(session: Session, caller: Caller, reference: str) -> FineTuningAnswer:
    """Where the fine-tuning of this id or name stands."""
    return _answers(session, [_get(session, caller, reference)])[0]


def _get(session: Session, caller: Caller, reference: str) -> FineTuning:
    row = FineTunings(session).find(caller, reference)
    if row is None:
        raise NotFound(f"there is no fine-tuning {reference!r}; GET /v1/finetunes lists them")
    return row


def estimate(session: Session, caller: Caller, body: FineTuneCreate) -> TrainingTimeAnswer:
    """What this question would take, should it be asked now."""
    target, models = resolve(session, caller, body)
    return TrainingTimeAnswer.model_validate(seconds_of(body, body.sample, target, models))


def cancel(session: Session, jobs: Jobs, caller: Caller, reference: str) -> FineTuningAnswer:
    """End a fine-tuning early; the run under way is stopped, and those that ended stay."""
    row = _own(session, caller, reference)
    finetunes = FineTunings(session)
    if not finetunes.move(row.id, RankingState.CANCELLED):
        raise Conflict(f"{row.id} has ended already: {row.state.value}")
    finetunes.end_unfinished(row.id, reason=CANCELLED)
    session.refresh(row)
    jobs.cancel(session, row.id)
    return _answers(session, [row])[0]


def delete(session: Session, settings: Settings, caller: Caller, reference: str) -> None:
    """Forget a fine-tuning that has ended, and the weights that it kept; what it taught the history stays."""
    row = _own(session, caller, reference)
    if not row.state.is_final:
        raise Conflict(f"{row.id} is {row.state.value}; cancel it first")
    folder = settings.fine_tunings_folder / row.id
    FineTunings(session).delete(row)
    event.listen(session, "after_commit", lambda _: shared_home.remove(settings, folder), once=True)


def weights(session: Session, settings: Settings, caller: Caller, reference: str, number: int) -> Path:
    """The file of a run's fine-tuned weights."""
    row = _get(session, caller, reference)
    run = FineTunings(session).run(row.id, number)
    if run is None:
        raise NotFound(f"{row.id} has no run {number}")
    file = settings.fine_tunings_folder / run.weights if run.weights is not None else None
    if file is not None:
        shared_home.fetch_file(settings, file)
    if run.state is not TrialState.SUCCEEDED or file is None or not file.is_file():
        raise NotFound(f"run {number} of {row.id} kept no weights; ask with `weights` true")
    return file


def _answers(session: Session, rows: Sequence[FineTuning]) -> list[FineTuningAnswer]:
    runs = FineTunings(session).runs(row.id for row in rows)
    return [_answer(row, runs[row.id]) for row in rows]


def _answer(row: FineTuning, runs: Sequence[FineTuningRun]) -> FineTuningAnswer:
    request = row.request
    models = [
        _model(row, model, name, [run for run in runs if run.model_id == model])
        for model, name in zip(request.models, request.names, strict=True)
    ]
    return FineTuningAnswer(
        id=row.id,
        name=row.name,
        owner=row.owner,
        shared=row.shared,
        created_at=row.created_at,
        state=row.state,
        problem=Problem.of(row.problem),
        target_id=row.target_id,
        request=request,
        split=row.split,
        seconds_expected=row.seconds_expected,
        seconds_left=_seconds_left(runs),
        models=sorted(models, key=lambda model: -1.0 if model.accuracy is None else model.accuracy, reverse=True),
        started_at=row.started_at,
        finished_at=row.finished_at,
    )


def _model(row: FineTuning, model: str, name: str, runs: Sequence[FineTuningRun]) -> FineTunedModelAnswer:
    tested = [run for run in runs if run.purpose is RunPurpose.TEST]
    reached = [run.accuracy for run in tested if run.accuracy is not None]
    losses = [run.nll for run in tested if run.nll is not None]
    rates = {run.body_rate for run in tested if run.body_rate is not None}
    return FineTunedModelAnswer(
        model_id=model,
        model=name,
        state=_state(row, runs),
        accuracy=fmean(reached) if reached else None,
        accuracy_spread=stdev(reached) if len(reached) > 1 else None,
        log_loss=fmean(losses) if losses else None,
        recommended_rate_multiple=tested[0].rate_multiple if tested else None,
        recommended_rate=rates.pop() if len(rates) == 1 else None,
        runs=[_run(run) for run in runs],
    )


def _state(row: FineTuning, runs: Iterable[FineTuningRun]) -> TrialState:
    """A model has succeeded if one of its tests has, and failed if nothing is left that might."""
    states = [(run.purpose, run.state) for run in runs]
    for state in (TrialState.RUNNING, TrialState.WAITING):
        if any(found is state for _, found in states):
            return state
    if (RunPurpose.TEST, TrialState.SUCCEEDED) in states:
        return TrialState.SUCCEEDED
    if row.state is RankingState.CANCELLED:
        return TrialState.CUT_OFF
    return TrialState.FAILED if row.state.is_final else TrialState.WAITING


def _run(run: FineTuningRun) -> FineTuningRunAnswer:
    return FineTuningRunAnswer(
        **{
            name: getattr(run, name)
            for name in FineTuningRunAnswer.model_fields
            if name not in {"log_loss", "image_side", "kept_weights", "warnings", "problem"}
        },
        log_loss=run.nll,
        image_side=run.side,
        kept_weights=run.state is TrialState.SUCCEEDED and run.weights is not None,
        warnings=list(run.warnings or ()),
        problem=Problem.of(run.problem),
    )


def _seconds_left(runs: Sequence[FineTuningRun]) -> float | None:
    """Of the runs that are known, as long as each model's runs took so far; None while a model's speed is not known."""
    left = 0.0
    live = [run for run in runs if run.state in LIVE_TRIALS]
    for run in live:
        took = [other.seconds for other in runs if other.model_id == run.model_id and other.seconds is not None]
        if run.seconds_left is not None:
            left += run.seconds_left
        elif took:
            left += fmean(took)
        else:
            return None
    return left if live else None


def _own(session: Session, caller: Caller, reference: str) -> FineTuning:
    row = _get(session, caller, reference)
    check_owner(caller, row.owner, row.id)
    return row
