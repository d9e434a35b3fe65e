"""Rules of rankings: what may be asked, and how one ends."""

import shutil
from functools import partial

from sqlalchemy.orm import Session

from app.contracts.caller import Caller
from app.contracts.ensembles import EnsembleResult
from app.db.repositories.models import Models
from app.db.repositories.rankings import Rankings
from app.db.repositories.trials import Trials
from app.db.tables import (
    ModelRunState,
    Ranking,
    RankingState,
)
from app.errors import Conflict, Invalid, NotFound
from app.jobs import Jobs
from app.schemas.rankings import GivenEnsembles
from app.scoring.ensembles import attempt, load_pool, reading
from app.services.ownership import check_owner
from app.settings import Settings
from estimators.ensembles.selection import score_ensemble


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


def cancel(session: Session, jobs: Jobs, caller: Caller, reference: str) -> Ranking:
    """End a ranking early. What its models have left in the stores stays; a running forward pass is stopped."""
    row = _own(session, caller, reference)
    rankings = Rankings(session)
    if not rankings.move(row.id, RankingState.CANCELLED):
        raise Conflict(f"{row.id} has ended already: {row.state.value}")
    rankings.end_unfinished_runs(row.id, ModelRunState.CANCELLED, None)
    Trials(session).cut_off(row.id, "the ranking was cancelled")
    session.refresh(row)
    jobs.cancel(session, row.id)
    return row


def score_ensembles(
    session: Session, settings: Settings, caller: Caller, reference: str, body: GivenEnsembles
) -> list[EnsembleResult]:
    """Score ensembles in the pool of a ranking that has ended, from the terms that it stored."""
    row = get(session, caller, reference)
    if not row.state.is_final:
        raise Conflict(f"{row.id} is {row.state.value}; its pool is known when it has ended")
    pool = load_pool(settings.rankings_folder / row.id, body.preset)
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
    return answers


def delete(session: Session, settings: Settings, caller: Caller, reference: str) -> None:
    """Forget a ranking that has ended; evidence and scores stay for other rankings."""
    row = _own(session, caller, reference)
    if not row.state.is_final:
        raise Conflict(f"{row.id} is {row.state.value}; cancel it first")
    Rankings(session).delete(row)
    shutil.rmtree(settings.rankings_folder / row.id, ignore_errors=True)
