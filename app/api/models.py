"""Models, zoos, and the catalog of what timm can build."""

from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response, status

from app.api.dependencies import JobsDep, ReaderDep, ReadSessionDep, SessionDep, SettingsDep, SubmitterDep
from app.api.model_filters import ModelFilterDep
from app.api.pagination import CursorQuery, LimitQuery, TimeQuery, page_of
from app.api.paths import ModelPath, ZooPath
from app.api.problems import problem_responses
from app.api.route import Route
from app.db.repositories.model_filters import conditions
from app.db.repositories.models import Catalog, Models, Zoos
from app.db.tables import Model, ResourceState, Zoo
from app.schemas.models import (
    CatalogEntry,
    ModelAnswer,
    ModelChange,
    ModelCreate,
)
from app.schemas.page import Page
from app.schemas.zoos import Unavailable, ZooAnswer, ZooCreate, ZooMember, ZooQuery
from app.services import models
from app.submission import zoos
from app.submission.models import register

router = APIRouter(prefix="/v1", route_class=Route)


def answer(row: Model) -> ModelAnswer:
    """A row as users see it."""
    columns = {name: getattr(row, name) for name in ModelAnswer.model_fields if hasattr(row, name)}
    card = row.card
    return ModelAnswer(
        **columns | {"spec": row.spec.plain()},
        feature_dimension=None if card is None else card.feature_dimension,
        source_classes=None if card is None else card.source_classes,
        input=None if card is None else card.input.plain(),
        layers=None if card is None else list(card.stages),
    )


@router.post("/models", status_code=status.HTTP_202_ACCEPTED, responses=problem_responses(409), tags=["models"])
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
    row = register(session, jobs, settings, caller, body)
    response.headers.update({"Location": f"/v1/models/{row.id}", "Retry-After": "2"})
    return answer(row)


@router.get("/models", tags=["models"])
def list_models(
    session: ReadSessionDep,
    caller: ReaderDep,
    wanted: ModelFilterDep,
    limit: LimitQuery = 50,
    cursor: CursorQuery = None,
    source: Annotated[
        Literal["registered", "timm"],
        Query(description="`registered`: the models that you may see, newest first. `timm`: all that can be had."),
    ] = "registered",
    state: ResourceState | None = None,
    owner: str | None = None,
    created_after: TimeQuery = None,
    created_before: TimeQuery = None,
) -> Page[ModelAnswer] | Page[CatalogEntry]:
    """Search models by what they are: hard limits first. A fact that is not known fulfils no limit on it.

    With `source=timm` these are the pre-trained models that the workers' timm can build by name, in alphabetical order,
    registered or not; `state`, `owner` and the moments are then ignored, and no speed is known.
    """
    if source == "timm":
        entries = Catalog(session).matching(wanted, limit=limit + 1, after=cursor)
        return page_of(entries, limit, CatalogEntry.model_validate, key=lambda row: row.name)
    rows = Models(session).page(
        caller,
        limit=limit,
        before=cursor,
        owner=owner,
        created_after=created_after,
        created_before=created_before,
        conditions=[*conditions(Model, wanted), *([] if state is None else [Model.state == state])],
    )
    return page_of(rows, limit, answer)


@router.get("/models/{model:path}", responses=problem_responses(404), tags=["models"])
def get_model(model: ModelPath, session: ReadSessionDep, caller: ReaderDep) -> ModelAnswer:
    """One model, by id or name: its state, its digest, its input, and the layers that a ranking may ask for."""
    return answer(models.get(session, caller, model))


@router.patch("/models/{model:path}", responses=problem_responses(404, 409), tags=["models"])
def change_model(model: ModelPath, body: ModelChange, session: SessionDep, caller: SubmitterDep) -> ModelAnswer:
    """Say what the model was trained on, or share it."""
    return answer(models.change(session, caller, model, body))


@router.delete(
    "/models/{model:path}",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problem_responses(404, 409),
    tags=["models"],
)
def delete_model(model: ModelPath, session: SessionDep, caller: SubmitterDep) -> None:
    """Forget a model that no zoo and no ranking needs."""
    models.delete(session, caller, model)


def zoo_answers(session: ReadSessionDep, caller: ReaderDep, rows: Sequence[Zoo]) -> dict[str, ZooAnswer]:
    """Zoos whose members are loaded, by id, as this caller sees them."""
    listed = zoos.members(session, caller, rows)
    return {zoo.id: _zoo_answer(session, caller, zoo, listed[zoo.id]) for zoo in rows}


def _zoo_answer(session: ReadSessionDep, caller: ReaderDep, zoo: Zoo, listed: Sequence[Model]) -> ZooAnswer:
    query = None if zoo.query is None else ZooQuery(**zoo.query)
    found, missing = (listed, []) if query is None else zoos.find(session, caller, query)
    return ZooAnswer(
        **{name: getattr(zoo, name) for name in ("id", "name", "owner", "shared", "created_at")},
        query=query,
        models=[ZooMember.model_validate(row) for row in found],
        unavailable=[Unavailable(**entry) for entry in zoo.unavailable or []],
        missing=len(missing),
    )


@router.post("/zoos", status_code=status.HTTP_201_CREATED, responses=problem_responses(409), tags=["zoos"])
def create_zoo(
    body: ZooCreate,
    response: Response,
    session: SessionDep,
    jobs: JobsDep,
    settings: SettingsDep,
    caller: SubmitterDep,
) -> ZooAnswer:
    """Name a set of models, listed or found by a query, so that rankings can ask for all of them.

    Listed models that are not registered yet are registered; one that cannot be had is told in `unavailable`, and the
    others go on. A query is asked anew each time that a ranking starts.
    """
    zoo = models.create_zoo(session, jobs, settings, caller, body)
    response.headers["Location"] = f"/v1/zoos/{zoo.id}"
    return zoo_answers(session, caller, [zoo])[zoo.id]


@router.get("/zoos", tags=["zoos"])
def list_zoos(
    session: ReadSessionDep,
    caller: ReaderDep,
    limit: LimitQuery = 50,
    cursor: CursorQuery = None,
    owner: str | None = None,
    created_after: TimeQuery = None,
    created_before: TimeQuery = None,
) -> Page[ZooAnswer]:
    """The zoos that you may see, newest first."""
    repository = Zoos(session)
    rows = repository.page(
        caller, limit=limit, before=cursor, owner=owner, created_after=created_after, created_before=created_before
    )
    repository.load_members(rows)
    shown = zoo_answers(session, caller, rows)
    return page_of(rows, limit, lambda zoo: shown[zoo.id])


@router.get("/zoos/{zoo}", responses=problem_responses(404), tags=["zoos"])
def get_zoo(zoo: ZooPath, session: ReadSessionDep, caller: ReaderDep) -> ZooAnswer:
    """One zoo, by id or name, with those of its models that are yours or shared."""
    row = models.get_zoo(session, caller, zoo)
    return zoo_answers(session, caller, [row])[row.id]


@router.delete(
    "/zoos/{zoo}", status_code=status.HTTP_204_NO_CONTENT, responses=problem_responses(404, 409), tags=["zoos"]
)
def delete_zoo(zoo: ZooPath, session: SessionDep, caller: SubmitterDep) -> None:
    """Forget a zoo; its models stay."""
    models.delete_zoo(session, caller, zoo)
