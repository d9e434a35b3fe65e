"""Evaluations of rankings."""

from fastapi import APIRouter, status

from app.api.dependencies import ReaderDep, ReadSessionDep, SessionDep, SubmitterDep
from app.api.paths import RankingPath
from app.api.problems import problem_responses
from app.api.route import Route
from app.contracts.evaluations import EvaluationCreate
from app.schemas.evaluations import EvaluationAnswer, EvaluationsAnswer
from app.services import evaluations

router = APIRouter(prefix="/v1/rankings", tags=["rankings"], route_class=Route)


@router.post("/{ranking}/evaluations", status_code=status.HTTP_201_CREATED, responses=problem_responses(404, 409))
def create_evaluation(
    ranking: RankingPath, body: EvaluationCreate, session: SessionDep, caller: SubmitterDep
) -> EvaluationAnswer:
    """Report what models reached when they were fine-tuned, and see how good each score and the advice were.

    Unless `remember` is false, later rankings of yours on other targets learn from it: models that did well are ahead
    before anything is computed, in proportion to how often they were tried.
    """
    return evaluations.create(session, caller, ranking, body)


@router.get("/{ranking}/evaluations", responses=problem_responses(404))
def list_evaluations(ranking: RankingPath, session: ReadSessionDep, caller: ReaderDep) -> EvaluationsAnswer:
    """Your evaluations of a ranking, newest first."""
    return evaluations.of_ranking(session, caller, ranking)
