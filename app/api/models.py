"""Models, zoos, and the catalog of what timm can build."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Response, status

from app.api.dependencies import JobsDep, ReaderDep, ReadSessionDep, SessionDep, SettingsDep, SubmitterDep
from app.api.pagination import CursorQuery, LimitQuery, TimeQuery, page_of
from app.api.paths import ModelPath, ZooPath
from app.api.problems import problem_responses
from app.api.route import Route
from app.db.repositories.models import Catalog, Models, Zoos
from app.db.tables import Model, ResourceState, Zoo
from app.schemas.models import (
    CatalogEntry,
    ModelAnswer,
    ModelChange,
    ModelCreate,
    ZooAnswer,
    ZooCreate,
    ZooMember,
    card_member,
)
from app.schemas.page import Page
from app.services import models

router = APIRouter(prefix="/v1", route_class=Route)


def answer(row: Model) -> ModelAnswer:
    """A row as users see it."""
    columns = {name: getattr(row, name) for name in ModelAnswer.model_fields if hasattr(row, name)}
    return ModelAnswer(
        **columns,
        architecture=card_member(row.card, "architecture"),
        feature_dimension=card_member(row.card, "feature_dimension"),
        source_classes=card_member(row.card, "source_classes"),
        input=card_member(row.card, "input"),
        layers=card_member(row.card, "stages"),
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
    row = models.register(session, jobs, settings, caller, body)
    response.headers.update({"Location": f"/v1/models/{row.id}", "Retry-After": "2"})
    return answer(row)


@router.get("/models", tags=["models"])
def list_models(
    session: ReadSessionDep,
    caller: ReaderDep,
    limit: LimitQuery = 50,
    cursor: CursorQuery = None,
    state: ResourceState | None = None,
    owner: str | None = None,
    created_after: TimeQuery = None,
    created_before: TimeQuery = None,
) -> Page[ModelAnswer]:
    """The models that you may see, newest first."""
    rows = Models(session).page(
        caller,
        limit=limit,
        before=cursor,
        owner=owner,
        created_after=created_after,
        created_before=created_before,
        conditions=[] if state is None else [Model.state == state],
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


@router.get("/catalog", tags=["models"])
def list_catalog(
    session: ReadSessionDep,
    caller: ReaderDep,
    search: Annotated[str | None, Query(max_length=100, description="Part of a name.")] = None,
    limit: LimitQuery = 50,
    cursor: CursorQuery = None,
) -> Page[CatalogEntry]:
    """The pre-trained models that the workers' timm can build by name, in alphabetical order."""
    rows = Catalog(session).search(search, limit=limit, after=cursor)
    return page_of(rows, limit, CatalogEntry.model_validate, key=lambda row: row.name)


def zoo_answers(session: ReadSessionDep, caller: ReaderDep, zoos: Sequence[Zoo]) -> dict[str, ZooAnswer]:
    """Zoos whose members are loaded, by id, as this caller sees them."""
    members = models.members(session, caller, zoos)
    return {
        zoo.id: ZooAnswer(
            **{name: getattr(zoo, name) for name in ("id", "name", "owner", "shared", "created_at")},
            models=[ZooMember.model_validate(row) for row in members[zoo.id]],
        )
        for zoo in zoos
    }


@router.post("/zoos", status_code=status.HTTP_201_CREATED, responses=problem_responses(409), tags=["zoos"])
def create_zoo(body: ZooCreate, response: Response, session: SessionDep, caller: SubmitterDep) -> ZooAnswer:
    """Name a set of registered models, so that rankings can ask for all of them."""
    zoo = models.create_zoo(session, caller, body)
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
    zoos = Zoos(session)
    rows = zoos.page(
        caller, limit=limit, before=cursor, owner=owner, created_after=created_after, created_before=created_before
    )
    zoos.load_members(rows)
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
