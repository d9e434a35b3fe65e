"""Full fine-tunings."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response, status
from fastapi.responses import FileResponse

from app.api.dependencies import JobsDep, ReaderDep, ReadSessionDep, SessionDep, SettingsDep, SubmitterDep
from app.api.pagination import ListingDep
from app.api.paths import FineTuningPath
from app.api.problems import problem_responses
from app.api.representations import FINAL_RESPONSES, represent
from app.api.route import Route
from app.contracts.finetunes import FineTuneCreate
from app.contracts.states import RankingState
from app.schemas.finetunes import FineTuningAnswer, TrainingTimeAnswer
from app.schemas.page import Page
from app.services import finetunes

router = APIRouter(prefix="/v1/finetunes", tags=["finetunes"], route_class=Route)


class WeightsResponse(FileResponse):
    """Declares a route that answers with a file of weights."""

    media_type = "application/octet-stream"


@router.post("", status_code=status.HTTP_202_ACCEPTED, responses=problem_responses(409, 507))
def create_finetune(
    body: FineTuneCreate,
    request: Request,
    response: Response,
    session: SessionDep,
    jobs: JobsDep,
    settings: SettingsDep,
    caller: SubmitterDep,
) -> FineTuningAnswer:
    """Fine-tune models on part of the images and test them on the rest, by the same code as a trial. Poll `Location`.

    Every run is a job of the device's queue for trials: it does not hold rankings up, survives a crash, and what it
    predicted is not computed twice. A run that fails is a row of its own.
    """
    finetune = finetunes.create(session, jobs, settings, caller, body, request_id=request.state.request_id)
    response.headers.update({"Location": finetune.links["self"], "Retry-After": "5"})
    return finetune


@router.post("/estimates")
def estimate_finetune(body: FineTuneCreate, session: ReadSessionDep, caller: ReaderDep) -> TrainingTimeAnswer:
    """How long such a fine-tuning will take, from the forward passes measured on this deployment."""
    return finetunes.estimate(session, caller, body)


@router.get("")
def list_finetunes(
    session: ReadSessionDep, caller: ReaderDep, listing: ListingDep, state: RankingState | None = None
) -> Page[FineTuningAnswer]:
    """The fine-tunings that you may see, newest first."""
    return finetunes.page(session, caller, listing, state=state)


@router.get("/{finetune}", response_model=FineTuningAnswer, responses=FINAL_RESPONSES | problem_responses(404))
def get_finetune(finetune: FineTuningPath, request: Request, session: ReadSessionDep, caller: ReaderDep) -> Response:
    """Where a fine-tuning stands, what its models reached, and the learning rate that is recommended for each."""
    shown = finetunes.show(session, caller, finetune)
    return represent(request, shown, final=shown.state.is_final)


@router.get("/{finetune}/runs/{number}/weights", response_class=WeightsResponse, responses=problem_responses(404))
def get_finetuned_weights(
    finetune: FineTuningPath,
    number: Annotated[int, Path(ge=0, le=2**31, description="Of a run.", examples=[0])],
    session: ReadSessionDep,
    settings: SettingsDep,
    caller: ReaderDep,
) -> Response:
    """The fine-tuned weights of a run as safetensors; the file's metadata say how to build the network."""
    file = finetunes.weights(session, settings, caller, finetune, number)
    return WeightsResponse(file, filename=f"{finetune}-{number}.safetensors")


@router.post("/{finetune}/cancel", status_code=status.HTTP_202_ACCEPTED, responses=problem_responses(404, 409))
def cancel_finetune(
    finetune: FineTuningPath, session: SessionDep, jobs: JobsDep, caller: SubmitterDep
) -> FineTuningAnswer:
    """End a fine-tuning early; the run under way is stopped within seconds. 409 once it has ended."""
    return finetunes.cancel(session, jobs, caller, finetune)


@router.delete("/{finetune}", status_code=status.HTTP_204_NO_CONTENT, responses=problem_responses(404, 409))
def delete_finetune(finetune: FineTuningPath, session: SessionDep, settings: SettingsDep, caller: SubmitterDep) -> None:
    """Forget a fine-tuning that has ended, and the weights that it kept; what your history learned from it stays."""
    finetunes.delete(session, settings, caller, finetune)
