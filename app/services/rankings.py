"""Rules of rankings: what may be asked, and how one ends."""

from functools import partial

from sqlalchemy.orm import Session

from app import shared_home
from app.contracts.caller import Caller
from app.contracts.listing import Listing
from app.contracts.question import RankingCreate, SampleChoice
from app.contracts.states import ModelRunState, RankingState
from app.db.repositories.models import Models
from app.db.repositories.rankings import Rankings
from app.db.repositories.trials import Trials
from app.db.tables import Ranking
from app.errors import Conflict, Invalid, NotFound
from app.jobs import Jobs
from app.schemas.page import Page, page_of
from app.schemas.rankings import EnsemblesAnswer, GivenEnsembles, RankingAnswer, ResultsAnswer
from app.scoring.ensembles import attempt, load_pool, reading
from app.services import results
from app.services.ownership import check_owner
from app.settings import Settings
from app.submission.rankings import submit
from estimators.ensembles.selection import score_ensemble


def create(
    session: Session, jobs: Jobs, caller: Caller, body: RankingCreate, *, request_id: str | None
) -> RankingAnswer:
    """Store a ranking and have a worker begin it."""
    return _answer(session, submit(session, jobs, caller, body, request_id=request_id))


def _answer(session: Session, row: Ranking) -> RankingAnswer:
    return results.answers(session, [row])[0]


def page(
    session: Session,
    caller: Caller,
    listing: Listing,
    *,
    state: RankingState | None = None,
    target: str | None = None,
) -> Page[RankingAnswer]:
    """The rankings that the caller may see; ``target`` is the id or name of a data set."""
    rankings = Rankings(session)
    rows = rankings.page(caller, listing, conditions=rankings.conditions(state=state, target=target))
    shown = {answer.id: answer for answer in results.answers(session, rows)}
    return page_of(rows, listing.limit, lambda row: shown[row.id])


def show(session: Session, caller: Caller, reference: str) -> RankingAnswer:
    """Where the ranking of this id or name stands."""
    return _answer(session, get(session, caller, reference))


def table(session: Session, caller: Caller, reference: str) -> ResultsAnswer:
    """Every model's row of the ranking of this id or name."""
    return results.table(session, get(session, caller, reference))


def ensembles(session: Session, caller: Caller, reference: str) -> EnsemblesAnswer:
    """The ensembles of the ranking of this id or name; empty until it has ended."""
    row = get(session, caller, reference)
    return results.ensembles(row, row.ensembles or ())


def get(session: Session, caller: Caller, reference: str) -> Ranking:
    """The ranking of this id or name."""
    row = Rankings(session).find(caller, reference)
    if row is None:
        raise NotFound(f"there is no ranking {reference!r}; GET /v1/rankings lists them")
    return row


def _own(session: Session, caller: Caller, reference: str) -> Ranking:
    row = get(session, caller, reference)
    check_owner(caller, row.owner, row.id)
    return row


def resume(session: Session, jobs: Jobs, caller: Caller, reference: str, *, request_id: str | None) -> RankingAnswer:
    """Ask a ranking's question again, as a new ranking, for the sake of the models that it has no scores of.

    Raises:
        Conflict: it has not ended, or no model failed and none was cancelled.
    """
    row = get(session, caller, reference)
    if not row.state.is_final:
        raise Conflict(f"{row.id} is {row.state.value}; it can be resumed when it has ended")
    runs = Rankings(session).models(row.id)
    if all(run.state is ModelRunState.SUCCEEDED for run in runs):
        raise Conflict(f"every model of {row.id} succeeded; there is nothing to resume")
    asked = row.request
    again = RankingCreate(
        target=row.target_id,
        models=[run.model_id for run in runs],
        metrics=list(asked.metrics),
        sample=SampleChoice(**asked.sample.model_dump(include=set(SampleChoice.model_fields))),
        priority=asked.priority,
        layers=asked.layers if asked.layers == "stages" else list(asked.layers),
        reference=asked.reference,
        intervals=asked.intervals,
        trial=asked.trial,
        history=asked.history,
        ensembles=list(asked.ensembles),
        given_ensembles=[list(members) for members in asked.given_ensembles],
        shared=row.shared,
    )
    return create(session, jobs, caller, again, request_id=request_id)


def cancel(session: Session, jobs: Jobs, caller: Caller, reference: str) -> RankingAnswer:
    """End a ranking early. What its models have left in the stores stays; a running forward pass is stopped."""
    row = _own(session, caller, reference)
    rankings = Rankings(session)
    if not rankings.move(row.id, RankingState.CANCELLED):
        raise Conflict(f"{row.id} has ended already: {row.state.value}")
    rankings.end_unfinished_runs(row.id, ModelRunState.CANCELLED, None)
    Trials(session).cut_off(row.id, "the ranking was cancelled")
    session.refresh(row)
    jobs.cancel(session, row.id)
    return _answer(session, row)


def score_ensembles(
    session: Session, settings: Settings, caller: Caller, reference: str, body: GivenEnsembles
) -> EnsemblesAnswer:
    """Score ensembles in the pool of a ranking that has ended, from the terms that it stored."""
    row = get(session, caller, reference)
    if not row.state.is_final:
        raise Conflict(f"{row.id} is {row.state.value}; its pool is known when it has ended")
    folder = settings.rankings_folder / row.id
    shared_home.fetch_folder(settings, folder)
    pool = load_pool(folder, body.preset)
    if pool is None:
        raise Conflict(
            f"{row.id} stored no terms for the preset {body.preset!r}; submit it again with `ensembles` of that preset "
            "(its evidence is used again)"
        )
    ids = {run.model_id for run in Rankings(session).models(row.id)}
    names = {model.id: model.name for model in Models(session).get_many(ids).values()}
    answers = []
    for index, ensemble in enumerate(body.given_ensembles):
        members = [name if name in pool.names else names.get(name, name) for name in ensemble]
        unknown = [name for name in members if name not in pool.names]
        if unknown or len(set(members)) < len(members):
            wrong = ", ".join(unknown) or "the same model is named twice"
            raise Invalid.at(f"/given_ensembles/{index}", f"not different models of this pool: {wrong}")
        answers.append(attempt({"given_ensemble": members}, partial(score_ensemble, pool, members, **reading(body))))
    return results.ensembles(row, answers)


def delete(session: Session, settings: Settings, caller: Caller, reference: str) -> None:
    """Forget a ranking that has ended; evidence and scores stay for other rankings."""
    row = _own(session, caller, reference)
    if not row.state.is_final:
        raise Conflict(f"{row.id} is {row.state.value}; cancel it first")
    Rankings(session).delete(row)
    shared_home.remove(settings, settings.rankings_folder / row.id)
