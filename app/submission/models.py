"""Registering models: where the weights are, checked, and a job that loads and digests them."""

import re
from collections.abc import Sequence

from pydantic import ValidationError
from sqlalchemy.orm import Session

from app.contracts.caller import Caller
from app.contracts.models import HubSpec, LocalFolderSpec, ModelInput, ModelSpec, TimmSpec, WeightsFileSpec
from app.contracts.problems import failure
from app.contracts.zoos import ModelFilter, RefusedModel
from app.db.repositories.models import Catalog, Models
from app.db.tables import CatalogModel, Model
from app.errors import Conflict, Invalid
from app.jobs import Jobs
from app.paths import OutsideRoots, model_roots
from app.schemas.models import ModelCreate
from app.settings import Settings

HUB_NAME = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
TIMM_NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_.-]+)?")


def register(session: Session, jobs: Jobs, settings: Settings, caller: Caller, body: ModelCreate) -> Model:
    """Store a model and have a worker load and digest it."""
    models = Models(session)
    name = body.name or body.model
    if name is None:
        raise Invalid("a model needs a `name`")
    if models.name_is_taken(caller.owner, name):
        raise Conflict(f"you have a model named {name!r} already; give another `name`, or delete that one")
    spec = _spec(session, settings, body)
    published = Catalog(session).get(spec.name) if isinstance(spec, TimmSpec) else None
    row = models.add(
        Model(
            name=name,
            spec=spec,
            source_dataset=body.source_dataset or (published.source_dataset if published else None),
            license=body.license,
            owner=caller.owner,
            shared=body.shared,
        )
    )
    jobs.inspect_model(session, row.id)
    return row


def register_published(
    session: Session, jobs: Jobs, caller: Caller, entries: Sequence[CatalogModel], *, shared: bool
) -> list[Model]:
    """Store models of the catalog, under their own names, and have workers load them."""
    rows = [
        Model(
            name=entry.name,
            spec=TimmSpec(name=entry.name),
            source_dataset=entry.source_dataset,
            owner=caller.owner,
            shared=shared,
        )
        for entry in entries
    ]
    session.add_all(rows)
    session.flush()
    for row in rows:
        jobs.inspect_model(session, row.id)
    return rows


def register_missing(
    session: Session, jobs: Jobs, settings: Settings, caller: Caller, references: Sequence[str], *, shared: bool
) -> tuple[list[Model], tuple[RefusedModel, ...]]:
    """The models of these ids or names, in order, registered if they are not.

    Returns:
        The models, each once; and what cannot be registered.
    """
    known = Models(session).find_many(caller, references)
    models: dict[str, Model] = {}
    unavailable: list[RefusedModel] = []
    for reference in dict.fromkeys(references):
        row = known.get(reference)
        if row is None:
            try:
                row = register(session, jobs, settings, caller, ModelCreate(model=reference, shared=shared))
            except (Invalid, Conflict) as error:
                unavailable.append(RefusedModel(name=reference, problem=failure(error.code, error.detail)))
                continue
            except ValidationError as error:
                detail = f"{reference!r} cannot be a model: {error.errors()[0]['msg']}"
                unavailable.append(RefusedModel(name=reference, problem=failure(Invalid.code, detail)))
                continue
        models.setdefault(row.id, row)
    return list(models.values()), tuple(unavailable)


def _spec(session: Session, settings: Settings, body: ModelCreate) -> ModelSpec:
    if body.weights is not None:
        return WeightsFileSpec(
            path=_local(settings, "/weights", body.weights, folder=False),
            architecture=body.architecture or "",
            arguments=body.arguments or {},
            num_classes=body.num_classes,
            input=body.input or ModelInput(),
        )
    reference = body.model or ""
    if reference.startswith("hf-hub:"):
        match = HUB_NAME.fullmatch(reference.removeprefix("hf-hub:"))
        if match is None:
            raise Invalid.at(
                "/model", f"{reference!r} is not of the form hf-hub:owner/name or hf-hub:owner/name@revision"
            )
        return HubSpec(name=match["name"], revision=match["revision"])
    if reference.startswith("local-dir:"):
        path = _local(settings, "/model", reference.removeprefix("local-dir:"), folder=True)
        return LocalFolderSpec(path=path)
    if not TIMM_NAME.fullmatch(reference):
        raise Invalid.at(
            "/model",
            f"{reference!r} is not a timm name such as resnet50.a1_in1k; other places are written hf-hub:owner/name or "
            "local-dir:PATH",
        )
    catalog = Catalog(session)
    if not catalog.is_empty() and catalog.get(reference) is None:
        alike = ModelFilter(search=reference.split(".")[0])
        near = [row.name for row in catalog.matching(alike, limit=5)]
        advice = f"; near it are {', '.join(near)}" if near else "; GET /v1/models?source=timm searches all names"
        raise Invalid.at("/model", f"timm has no pre-trained weights named {reference!r}{advice}")
    return TimmSpec(name=reference)


def _local(settings: Settings, pointer: str, path: str, *, folder: bool) -> str:
    roots = model_roots(settings)
    try:
        resolved = roots.resolve(path)
    except OutsideRoots as error:
        raise Invalid.at(pointer, str(error)) from error
    if not (roots.has_folder(resolved) if folder else roots.has_file(resolved)):
        raise Invalid.at(pointer, f"{resolved} is not a {'folder' if folder else 'file'}")
    return str(resolved)
