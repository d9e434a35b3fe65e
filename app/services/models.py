"""Rules of models and zoos."""

import re
from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session

from app.caller import Caller
from app.db.repositories.models import Catalog, Models, Zoos
from app.db.tables import Model, Zoo, ZooModel
from app.errors import Conflict, Forbidden, Invalid, NotFound
from app.jobs import Jobs
from app.paths import OutsideRoots, is_file, is_folder, under_roots
from app.schemas.models import ModelChange, ModelCreate, ZooCreate
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
    row = models.add(
        Model(
            name=name,
            spec=_spec(session, settings, body),
            source_dataset=body.source_dataset,
            license=body.license,
            owner=caller.owner,
            shared=body.shared,
        )
    )
    jobs.inspect_model(session, row.id)
    return row


def _spec(session: Session, settings: Settings, body: ModelCreate) -> dict[str, Any]:
    if body.weights is not None:
        return {
            "kind": "file",
            "path": _local(settings, "/weights", body.weights, folder=False),
            "architecture": body.architecture,
            "arguments": body.arguments or {},
            "num_classes": body.num_classes,
            "input": body.input.model_dump(exclude_none=True) if body.input else {},
        }
    reference = body.model or ""
    if reference.startswith("hf-hub:"):
        match = HUB_NAME.fullmatch(reference.removeprefix("hf-hub:"))
        if match is None:
            raise Invalid.at(
                "/model", f"{reference!r} is not of the form hf-hub:owner/name or hf-hub:owner/name@revision"
            )
        return {"kind": "hf-hub", "name": match["name"], "revision": match["revision"]}
    if reference.startswith("local-dir:"):
        path = _local(settings, "/model", reference.removeprefix("local-dir:"), folder=True)
        return {"kind": "local-dir", "path": path}
    if not TIMM_NAME.fullmatch(reference):
        raise Invalid.at(
            "/model",
            f"{reference!r} is not a timm name such as resnet50.a1_in1k; other places are written hf-hub:owner/name or "
            "local-dir:PATH",
        )
    catalog = Catalog(session)
    if not catalog.is_empty() and not catalog.has(reference):
        near = [row.name for row in catalog.search(reference.split(".")[0], limit=5, after=None)][:5]
        advice = f"; near it are {', '.join(near)}" if near else "; GET /v1/catalog searches all names"
        raise Invalid.at("/model", f"timm has no pre-trained weights named {reference!r}{advice}")
    return {"kind": "timm", "name": reference}


def _local(settings: Settings, pointer: str, path: str, *, folder: bool) -> str:
    try:
        resolved = under_roots(path, (*settings.model_roots, settings.zoo_folder), setting="FORERANK_MODEL_ROOTS")
    except OutsideRoots as error:
        raise Invalid.at(pointer, str(error)) from error
    if not (is_folder(resolved) if folder else is_file(resolved)):
        raise Invalid.at(pointer, f"{resolved} is not a {'folder' if folder else 'file'}")
    return str(resolved)


def get(session: Session, caller: Caller, reference: str) -> Model:
    """The model of this id or name."""
    row = Models(session).find(caller, reference)
    if row is None:
        raise NotFound(f"there is no model {reference!r}; GET /v1/models lists them")
    return row


def _own(session: Session, caller: Caller, reference: str) -> Model:
    row = get(session, caller, reference)
    if row.owner != caller.owner and not caller.is_admin:
        raise Forbidden(f"{row.name!r} belongs to another key; only that key or an admin may change it")
    return row


def change(session: Session, caller: Caller, reference: str, body: ModelChange) -> Model:
    """Set what may change after registration."""
    row = _own(session, caller, reference)
    if "source_dataset" in body.model_fields_set:
        row.source_dataset = body.source_dataset
    if body.shared is not None:
        row.shared = body.shared
    session.flush()
    return row


def delete(session: Session, caller: Caller, reference: str) -> None:
    """Forget a model that no zoo and no ranking needs."""
    models = Models(session)
    row = _own(session, caller, reference)
    # In the zoo of another key it may be today and not tomorrow: that does not bind its owner.
    if zoos := [(name, owner) for name, owner in models.zoos_with(row.id) if owner == caller.owner or caller.is_admin]:
        raise Conflict(f"{row.name!r} is in the zoo {caller.name(zoos)}; delete the zoo first")
    if open_rankings := models.open_rankings(row.id):
        raise Conflict(
            f"{row.name!r} is in use by {caller.name(open_rankings)}; cancel what is yours, or wait for the end"
        )
    if models.has_rankings(row.id):
        raise Conflict(
            f"{row.name!r} has a row in finished rankings; it can be deleted when those are, so that they keep their "
            "meaning"
        )
    models.leave_zoos(row.id)
    models.delete(row)


def resolve(session: Session, caller: Caller, references: Sequence[str], *, pointer: str = "/models") -> list[Model]:
    """The models of these ids or names, in order; each must exist, none twice."""
    found = Models(session).find_many(caller, references)
    errors = []
    seen: dict[str, int] = {}
    for index, reference in enumerate(references):
        if reference not in found:
            errors.append({"pointer": f"{pointer}/{index}", "detail": f"there is no model {reference!r}"})
        elif found[reference].id in seen:
            first = seen[found[reference].id]
            errors.append(
                {"pointer": f"{pointer}/{index}", "detail": f"{reference!r} is the same model as number {first}"}
            )
        else:
            seen[found[reference].id] = index
    if errors:
        raise Invalid("some models do not exist or come twice; GET /v1/models lists them", errors=errors)
    return [found[reference] for reference in references]


def create_zoo(session: Session, caller: Caller, body: ZooCreate) -> Zoo:
    """Store a named set of models."""
    zoos = Zoos(session)
    if zoos.name_is_taken(caller.owner, body.name):
        raise Conflict(f"you have a zoo named {body.name!r} already; give another `name`, or delete that one")
    members = resolve(session, caller, body.models)
    zoo = Zoo(name=body.name, owner=caller.owner, shared=body.shared)
    zoo.members = [ZooModel(model_id=model.id, position=position) for position, model in enumerate(members)]
    return zoos.add(zoo)


def get_zoo(session: Session, caller: Caller, reference: str) -> Zoo:
    """The zoo of this id or name, members loaded."""
    zoo = Zoos(session).find_with_members(caller, reference)
    if zoo is None:
        raise NotFound(f"there is no zoo {reference!r}; GET /v1/zoos lists them")
    return zoo


def members(session: Session, caller: Caller, zoos: Sequence[Zoo]) -> dict[str, list[Model]]:
    """Zoo -> its models, in order; without those that the caller may not see, now that the request is made."""
    rows = Models(session).get_many({member.model_id for zoo in zoos for member in zoo.members})
    return {
        zoo.id: [
            row
            for member in zoo.members
            if (row := rows[member.model_id]).owner == caller.owner or row.shared or caller.is_admin
        ]
        for zoo in zoos
    }


def delete_zoo(session: Session, caller: Caller, reference: str) -> None:
    """Forget a zoo; its models stay."""
    zoo = get_zoo(session, caller, reference)
    if zoo.owner != caller.owner and not caller.is_admin:
        raise Forbidden(f"{zoo.name!r} belongs to another key; only that key or an admin may delete it")
    Zoos(session).delete(zoo)
