"""Models, and the catalog of what timm can build."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response, status

from app.api.dependencies import JobsDep, ReaderDep, ReadSessionDep, SessionDep, SettingsDep, SubmitterDep
from app.api.model_filters import ModelFilterDep
from app.api.pagination import ListingDep
from app.api.paths import ModelPath
from app.api.problems import problem_responses
from app.api.route import Route
from app.contracts.states import ResourceState
from app.schemas.models import CatalogEntry, ModelAnswer, ModelChange, ModelCreate
from app.schemas.page import Page
from app.services import models

router = APIRouter(prefix="/v1/models", tags=["models"], route_class=Route)


@router.post("", status_code=status.HTTP_202_ACCEPTED, responses=problem_responses(409))
def create_model(
    body: ModelCreate,
    response: Response,
    session: SessionDep,
    jobs: JobsDep,
    settings: SettingsDep,
    caller: SubmitterDep,
) -> ModelAnswer:
    """Register a pre-trained model. A worker loads and digests its weights: poll `Location` until `state` is `ready`.

    A model whose weights do not load completely is refused: it is never scored at random initialisation.
    """
    model = models.register(session, jobs, settings, caller, body)
    response.headers.update({"Location": f"/v1/models/{model.id}", "Retry-After": "2"})
    return model


@router.get("")
def list_models(
    session: ReadSessionDep,
    caller: ReaderDep,
    listing: ListingDep,
    wanted: ModelFilterDep,
    source: Annotated[
        Literal["registered", "timm"],
        Query(description="`registered`: the models that you may see, newest first. `timm`: all that are available."),
    ] = "registered",
    state: ResourceState | None = None,
) -> Page[ModelAnswer] | Page[CatalogEntry]:
    """Search models by what they are: hard limits first. A fact that is not known fulfils no limit on it.

    With `source=timm` these are the pre-trained models that the workers' timm can build by name, in alphabetical order,
    registered or not; `state`, `owner` and the moments are then ignored, and no speed is known.
    """
    if source == "timm":
        return models.catalog_page(session, listing, wanted)
    return models.page(session, caller, listing, wanted, state=state)


@router.get("/{model:path}", responses=problem_responses(404))
def get_model(model: ModelPath, session: ReadSessionDep, caller: ReaderDep) -> ModelAnswer:
    """One model, by id or name: its state, its digest, its input, and the layers that a ranking may ask for."""
    return models.show(session, caller, model)


@router.patch("/{model:path}", responses=problem_responses(404, 409))
def change_model(model: ModelPath, body: ModelChange, session: SessionDep, caller: SubmitterDep) -> ModelAnswer:
    """Say what the model was trained on, or share it."""
    return models.change(session, caller, model, body)


@router.delete(
    "/{model:path}",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problem_responses(404, 409),
)
def delete_model(model: ModelPath, session: SessionDep, caller: SubmitterDep) -> None:
    """Forget a model that no zoo and no ranking needs."""
    models.delete(session, caller, model)
