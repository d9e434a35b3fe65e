"""Rankings."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response, status

from app.api.dependencies import JobsDep, ReaderDep, ReadSessionDep, SessionDep, SettingsDep, SubmitterDep
from app.api.pagination import ListingDep
from app.api.paths import RankingPath
from app.api.problems import problem_responses
from app.api.representations import (
    FINAL_RESPONSES,
    CsvResponse,
    represent,
    represent_csv,
)
from app.api.route import Route
from app.api.tables import ensembles_csv, results_csv
from app.contracts.question import RankingCreate
from app.contracts.states import RankingState
from app.schemas.page import Page
from app.schemas.rankings import ComparisonAnswer, EnsemblesAnswer, GivenEnsembles, RankingAnswer, ResultsAnswer
from app.services import comparison, rankings

router = APIRouter(prefix="/v1/rankings", tags=["rankings"], route_class=Route)


@router.post("", status_code=status.HTTP_202_ACCEPTED, responses=problem_responses(409))
def create_ranking(
    body: RankingCreate,
    request: Request,
    response: Response,
    session: SessionDep,
    jobs: JobsDep,
    caller: SubmitterDep,
) -> RankingAnswer:
    """Ask which models suit a target best. The answer comes at once; poll `Location`, or follow `links.events`.

    Evidence and scores that earlier rankings left are used again: a second ranking of the same target and models
    with another metric decodes no image and loads no model.
    """
    ranking = rankings.create(session, jobs, caller, body, request_id=request.state.request_id)
    response.headers.update({"Location": ranking.links["self"], "Retry-After": "2"})
    return ranking


@router.get("")
def list_rankings(
    session: ReadSessionDep,
    caller: ReaderDep,
    listing: ListingDep,
    state: RankingState | None = None,
    target: str | None = None,
) -> Page[RankingAnswer]:
    """The rankings that you may see, newest first. `target` is the id or name of a data set."""
    return rankings.page(session, caller, listing, state=state, target=target)


@router.get("/{ranking}", response_model=RankingAnswer, responses=FINAL_RESPONSES | problem_responses(404))
def get_ranking(ranking: RankingPath, request: Request, session: ReadSessionDep, caller: ReaderDep) -> Response:
    """Where a ranking stands. One that failed is answered with 200, `state` `failed` and its `problem`."""
    shown = rankings.show(session, caller, ranking)
    return represent(request, shown, final=shown.state.is_final)


@router.get("/{ranking}/results", response_model=ResultsAnswer, responses=FINAL_RESPONSES | problem_responses(404))
def get_results(ranking: RankingPath, request: Request, session: ReadSessionDep, caller: ReaderDep) -> Response:
    """Every model's scores, ranks, seconds and warnings, or why it failed. Rows appear while the ranking runs."""
    results = rankings.table(session, caller, ranking)
    return represent(request, results, final=results.state.is_final)


@router.get("/{ranking}/results.csv", response_class=CsvResponse, responses=FINAL_RESPONSES | problem_responses(404))
def get_results_csv(ranking: RankingPath, request: Request, session: ReadSessionDep, caller: ReaderDep) -> Response:
    """The same table as CSV, one line per model."""
    results = rankings.table(session, caller, ranking)
    return represent_csv(request, results_csv(results), final=results.state.is_final)


@router.get("/{ranking}/comparison", responses=problem_responses(404))
def compare_rankings(
    ranking: RankingPath,
    session: ReadSessionDep,
    caller: ReaderDep,
    first: Annotated[str, Query(max_length=300, description="Id or name of the earlier ranking.", examples=["demo"])],
) -> ComparisonAnswer:
    """What this ranking changed of an earlier one: who moved, by how much, and the scores of shared metrics."""
    return comparison.compare(session, caller, first, ranking)


@router.get("/{ranking}/ensembles", response_model=EnsemblesAnswer, responses=FINAL_RESPONSES | problem_responses(404))
def get_ensembles(ranking: RankingPath, request: Request, session: ReadSessionDep, caller: ReaderDep) -> Response:
    """The ensembles that were asked for, with every term; empty until the ranking has ended."""
    ensembles = rankings.ensembles(session, caller, ranking)
    return represent(request, ensembles, final=ensembles.state.is_final)


@router.get("/{ranking}/ensembles.csv", response_class=CsvResponse, responses=FINAL_RESPONSES | problem_responses(404))
def get_ensembles_csv(ranking: RankingPath, request: Request, session: ReadSessionDep, caller: ReaderDep) -> Response:
    """Every term of every chosen ensemble as CSV: one line per member, one line per pair."""
    ensembles = rankings.ensembles(session, caller, ranking)
    return represent_csv(request, ensembles_csv(ensembles), final=ensembles.state.is_final)


@router.post("/{ranking}/ensembles/scores", responses=problem_responses(404, 409))
def score_ensembles(
    ranking: RankingPath, body: GivenEnsembles, session: ReadSessionDep, settings: SettingsDep, caller: ReaderDep
) -> EnsemblesAnswer:
    """Score ensembles of your own in the pool of a ranking that asked for `ensembles`, such as your three models.

    Each comes with its value, its terms, and its rank among all ensembles of its size, or among those evaluated.
    """
    return rankings.score_ensembles(session, settings, caller, ranking, body)


@router.post("/{ranking}/cancel", status_code=status.HTTP_202_ACCEPTED, responses=problem_responses(404, 409))
def cancel_ranking(ranking: RankingPath, session: SessionDep, jobs: JobsDep, caller: SubmitterDep) -> RankingAnswer:
    """End a ranking early; a running forward pass is stopped within seconds. 409 once it has ended."""
    return rankings.cancel(session, jobs, caller, ranking)


@router.post("/{ranking}/resume", status_code=status.HTTP_202_ACCEPTED, responses=problem_responses(404, 409))
def resume_ranking(
    ranking: RankingPath,
    request: Request,
    response: Response,
    session: SessionDep,
    jobs: JobsDep,
    caller: SubmitterDep,
) -> RankingAnswer:
    """Ask the same question again, as a new ranking, when models failed or it was cancelled.

    Only what is missing is computed: scores and evidence of the models that succeeded are used again. 409 while the
    ranking runs, and when every model succeeded.
    """
    resumed = rankings.resume(session, jobs, caller, ranking, request_id=request.state.request_id)
    response.headers.update({"Location": resumed.links["self"], "Retry-After": "2"})
    return resumed


@router.delete("/{ranking}", status_code=status.HTTP_204_NO_CONTENT, responses=problem_responses(404, 409))
def delete_ranking(ranking: RankingPath, session: SessionDep, settings: SettingsDep, caller: SubmitterDep) -> None:
    """Forget a ranking that has ended; its evidence and scores stay for other rankings."""
    rankings.delete(session, settings, caller, ranking)
