"""What rankings are made of: data sets, models, zoos, and the workers that run them."""

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import FileResponse, RedirectResponse

from app.api.dependencies import JobsDep, ReaderDep, ReadSessionDep, SessionDep, SettingsDep, SubmitterDep
from app.api.model_filters import ModelFilterDep
from app.api.pagination import CursorQuery
from app.contracts.listing import Listing
from app.contracts.states import RankingState
from app.schemas.datasets import DatasetCreate
from app.schemas.models import ModelCreate
from app.schemas.zoos import ZooCreate
from app.services import datasets, models, overview, rankings, schedules, workers, zoos
from app.web.forms import filled
from app.web.rendering import render
from app.web.route import GenuineForm, PageRoute
from app.web.schedules import may_change

router = APIRouter(route_class=PageRoute, include_in_schema=False)

LISTED = 100
OPEN = 20
TextForm = Annotated[str, Form(max_length=4096)]


@router.get("/datasets")
def list_datasets(
    request: Request, session: ReadSessionDep, caller: ReaderDep, settings: SettingsDep, cursor: CursorQuery = None
) -> Response:
    """The data sets that the reader may see, and how to add one."""
    page = datasets.page(session, caller, Listing(limit=LISTED, after=cursor))
    return render(
        request,
        "datasets.html",
        rows=page.items,
        roots=settings.data_roots,
        upload_limit=settings.upload_limit_megabytes,
        next_address=page.next_cursor and f"/datasets?cursor={page.next_cursor}",
    )


@router.post("/datasets", dependencies=[GenuineForm])
def register_dataset(
    session: SessionDep,
    jobs: JobsDep,
    settings: SettingsDep,
    caller: SubmitterDep,
    location: TextForm,
    name: TextForm = "",
    sample_of: TextForm = "",
) -> Response:
    """Register a folder, and show it."""
    body: DatasetCreate = filled(DatasetCreate, location=location, name=name, sample_of=sample_of)
    row = datasets.register(session, jobs, settings, caller, body)
    return RedirectResponse(f"/datasets/{row.id}", 303)


@router.get("/datasets/{dataset}")
def show_dataset(
    dataset: str, request: Request, session: ReadSessionDep, caller: ReaderDep, settings: SettingsDep
) -> Response:
    """Its classes, a few images of each, what could not be read, and the rankings of it."""
    answer = datasets.show(session, caller, dataset)
    return render(
        request,
        "dataset.html",
        dataset=answer,
        sheet=datasets.contact_sheet(settings, datasets.get(session, caller, dataset)),
        rankings=rankings.page(session, caller, Listing(limit=LISTED), target=answer.id).items,
    )


@router.get("/datasets/{dataset}/images/{code}-{number}.jpg")
def show_image(
    dataset: str, code: int, number: int, session: ReadSessionDep, caller: ReaderDep, settings: SettingsDep
) -> Response:
    """A small image of the contact sheet, as the worker made it."""
    path = datasets.contact_image(settings, datasets.get(session, caller, dataset), code, number)
    return FileResponse(path, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})


@router.get("/models")
def list_models(
    request: Request, session: ReadSessionDep, caller: ReaderDep, wanted: ModelFilterDep, cursor: CursorQuery = None
) -> Response:
    """The models that the reader may see."""
    page = models.page(session, caller, Listing(limit=LISTED, after=cursor), wanted)
    return render(
        request, "models.html", rows=page.items, next_address=page.next_cursor and f"/models?cursor={page.next_cursor}"
    )


@router.post("/models", dependencies=[GenuineForm])
def register_model(
    session: SessionDep,
    jobs: JobsDep,
    settings: SettingsDep,
    caller: SubmitterDep,
    model: TextForm,
    source_dataset: TextForm = "",
) -> Response:
    """Register a model by its timm or hub name."""
    body: ModelCreate = filled(ModelCreate, model=model, source_dataset=source_dataset)
    row = models.register(session, jobs, settings, caller, body)
    return RedirectResponse(f"/models/{row.id}", 303)


@router.get("/models/{model:path}")
def show_model(model: str, request: Request, session: ReadSessionDep, caller: ReaderDep) -> Response:
    """One model."""
    return render(request, "model.html", model=models.show(session, caller, model))


@router.get("/zoos")
def list_zoos(
    request: Request, session: ReadSessionDep, caller: ReaderDep, wanted: ModelFilterDep, cursor: CursorQuery = None
) -> Response:
    """The zoos that the reader may see, and how to make one."""
    page = zoos.page(session, caller, Listing(limit=LISTED, after=cursor))
    return render(
        request,
        "zoos.html",
        rows=page.items,
        models=models.page(session, caller, Listing(limit=200), wanted).items,
        next_address=page.next_cursor and f"/zoos?cursor={page.next_cursor}",
    )


@router.post("/zoos", dependencies=[GenuineForm])
def create_zoo(
    session: SessionDep,
    jobs: JobsDep,
    settings: SettingsDep,
    caller: SubmitterDep,
    name: TextForm,
    model: Annotated[list[str] | None, Form(max_length=200)] = None,
) -> Response:
    """Name a set of models."""
    zoo = zoos.create(session, jobs, settings, caller, filled(ZooCreate, name=name, models=model or []))
    return RedirectResponse(f"/zoos/{zoo.id}", 303)


@router.get("/zoos/{zoo}")
def show_zoo(zoo: str, request: Request, session: ReadSessionDep, caller: ReaderDep) -> Response:
    """One zoo with its models, and the schedules that rank it."""
    answer = zoos.show(session, caller, zoo)
    repeated = schedules.of_zoo(session, caller, answer.id)
    return render(
        request,
        "zoo.html",
        zoo=answer,
        facts=overview.models_of(session, [model.id for model in answer.models]),
        schedules=repeated,
        last_runs=schedules.newest_runs(session, [row.id for row in repeated]),
        may_change=[row.id for row in repeated if may_change(caller, row.owner)],
    )


@router.get("/workers")
def list_workers(request: Request, session: ReadSessionDep, caller: ReaderDep, settings: SettingsDep) -> Response:
    """Who is there to compute, and what runs and waits."""
    open_states = (RankingState.RUNNING, RankingState.QUEUED)
    pages = [rankings.page(session, caller, Listing(limit=OPEN), state=state) for state in open_states]
    return render(
        request,
        "workers.html",
        workers=workers.answers(session, settings),
        rankings=[ranking for page in pages for ranking in page.items],
    )
