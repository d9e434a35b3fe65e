"""Rankings."""

from fastapi import APIRouter, Request, Response, status

from app.api.dependencies import JobsDep, ReaderDep, ReadSessionDep, SessionDep, SettingsDep, SubmitterDep
from app.api.pagination import CursorQuery, LimitQuery, TimeQuery, page_of
from app.api.paths import RankingPath
from app.api.problems import problem_responses
from app.api.representations import (
    FINAL_RESPONSES,
    CsvResponse,
    represent,
    represent_csv,
)
from app.api.route import Route
from app.contracts.question import RankingCreate
from app.db.repositories.rankings import Rankings
from app.db.tables import RankingState
from app.schemas.page import Page
from app.schemas.rankings import EnsemblesAnswer, GivenEnsembles, RankingAnswer, ResultsAnswer
from app.services import rankings, results
from app.submission.rankings import submit

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
    row = submit(session, jobs, caller, body, request_id=request.state.request_id)
    response.headers.update({"Location": f"/v1/rankings/{row.id}", "Retry-After": "2"})
    return results.answers(session, [row])[0]


@router.get("")
def list_rankings(
    session: ReadSessionDep,
    caller: ReaderDep,
    limit: LimitQuery = 50,
    cursor: CursorQuery = None,
    state: RankingState | None = None,
    target: str | None = None,
    owner: str | None = None,
    created_after: TimeQuery = None,
    created_before: TimeQuery = None,
) -> Page[RankingAnswer]:
    """The rankings that you may see, newest first. `target` is the id or name of a data set."""
    repository = Rankings(session)
    rows = repository.page(
        caller,
        limit=limit,
        before=cursor,
        owner=owner,
        created_after=created_after,
        created_before=created_before,
        conditions=repository.conditions(state=state, target=target),
    )
    shown = {shown.id: shown for shown in results.answers(session, rows)}
    return page_of(rows, limit, lambda row: shown[row.id])


@router.get("/{ranking}", response_model=RankingAnswer, responses=FINAL_RESPONSES | problem_responses(404))
def get_ranking(ranking: RankingPath, request: Request, session: ReadSessionDep, caller: ReaderDep) -> Response:
    """Where a ranking stands. One that failed is answered with 200, `state` `failed` and its `problem`."""
    row = rankings.get(session, caller, ranking)
    return represent(request, results.answers(session, [row])[0], final=row.state.is_final)


@router.get("/{ranking}/results", response_model=ResultsAnswer, responses=FINAL_RESPONSES | problem_responses(404))
def get_results(ranking: RankingPath, request: Request, session: ReadSessionDep, caller: ReaderDep) -> Response:
    """Every model's scores, ranks, seconds and warnings, or why it failed. Rows appear while the ranking runs."""
    row = rankings.get(session, caller, ranking)
    return represent(request, results.table(session, row), final=row.state.is_final)


@router.get("/{ranking}/results.csv", response_class=CsvResponse, responses=FINAL_RESPONSES | problem_responses(404))
def get_results_csv(ranking: RankingPath, request: Request, session: ReadSessionDep, caller: ReaderDep) -> Response:
    """The same table as CSV, one line a model."""
    row = rankings.get(session, caller, ranking)
    return represent_csv(request, results.as_csv(results.table(session, row)), final=row.state.is_final)


@router.get("/{ranking}/ensembles", response_model=EnsemblesAnswer, responses=FINAL_RESPONSES | problem_responses(404))
def get_ensembles(ranking: RankingPath, request: Request, session: ReadSessionDep, caller: ReaderDep) -> Response:
    """The ensembles that were asked for, with every term; empty until the ranking has ended."""
    row = rankings.get(session, caller, ranking)
    return represent(request, results.ensembles(row), final=row.state.is_final)


@router.get("/{ranking}/ensembles.csv", response_class=CsvResponse, responses=FINAL_RESPONSES | problem_responses(404))
def get_ensembles_csv(ranking: RankingPath, request: Request, session: ReadSessionDep, caller: ReaderDep) -> Response:
    """Every term of every chosen ensemble as CSV: one line a member, one line a pair."""
    row = rankings.get(session, caller, ranking)
    return represent_csv(request, results.ensembles_as_csv(results.ensembles(row)), final=row.state.is_final)


@router.post("/{ranking}/ensembles/scores", responses=problem_responses(404, 409))
def score_ensembles(
    ranking: RankingPath, body: GivenEnsembles, session: ReadSessionDep, settings: SettingsDep, caller: ReaderDep
) -> EnsemblesAnswer:
    """Score ensembles of your own in the pool of a ranking that asked for `ensembles`, such as your three models.

    Each comes with its value, its terms, and its rank among all ensembles of its size, or among those evaluated.
    """
    return results.scored(
        rankings.get(session, caller, ranking), rankings.score_ensembles(session, settings, caller, ranking, body)
    )


@router.post("/{ranking}/cancel", status_code=status.HTTP_202_ACCEPTED, responses=problem_responses(404, 409))
def cancel_ranking(ranking: RankingPath, session: SessionDep, jobs: JobsDep, caller: SubmitterDep) -> RankingAnswer:
    """End a ranking early; a running forward pass is stopped within seconds. 409 once it has ended."""
    row = rankings.cancel(session, jobs, caller, ranking)
    return results.answers(session, [row])[0]


@router.delete("/{ranking}", status_code=status.HTTP_204_NO_CONTENT, responses=problem_responses(404, 409))
def delete_ranking(ranking: RankingPath, session: SessionDep, settings: SettingsDep, caller: SubmitterDep) -> None:
    """Forget a ranking that has ended; its evidence and scores stay for other rankings."""
    rankings.delete(session, settings, caller, ranking)
