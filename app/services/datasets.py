"""Rules of data sets."""

from pathlib import Path

from sqlalchemy import event
from sqlalchemy.orm import Session

from app import shared_home
from app.archives import READABLE_SUFFIXES, safe_path
from app.contracts.base import LONGEST_NAME
from app.contracts.caller import Caller
from app.contracts.datasets import BuiltinSpec, DatasetSpec, FolderSpec, ManifestSpec
from app.contracts.listing import Listing
from app.contracts.states import ResourceState
from app.db.repositories.datasets import Datasets
from app.db.tables import Dataset
from app.errors import Conflict, Invalid, NotFound
from app.jobs import Jobs
from app.paths import OutsideRoots, data_roots, data_url, index_file, sheet_folder, upload_folder
from app.schemas.datasets import DatasetAnswer, DatasetCreate
from app.schemas.page import Page, page_of
from app.services.ownership import check_owner
from app.settings import Settings
from app.urls import SCHEME

BUILTIN = "builtin:"
UPLOADED = "uploaded"
BUILTIN_NAMES = ("digits",)


def answer(row: Dataset) -> DatasetAnswer:
    """A row as users see it."""
    columns = {name: getattr(row, name) for name in DatasetAnswer.model_fields if hasattr(row, name)}
    return DatasetAnswer(
        **columns,
        location=location(row),
        class_count=None if row.class_counts is None else len(row.class_counts),
    )


def page(
    session: Session, caller: Caller, listing: Listing, *, state: ResourceState | None = None
) -> Page[DatasetAnswer]:
    """The data sets that the caller may see."""
    conditions = [] if state is None else [Dataset.state == state]
    return page_of(Datasets(session).page(caller, listing, conditions=conditions), listing.limit, answer)


def show(session: Session, caller: Caller, reference: str) -> DatasetAnswer:
    """The data set of this id or name, as users see it."""
    return answer(get(session, caller, reference))


def register(session: Session, jobs: Jobs, settings: Settings, caller: Caller, body: DatasetCreate) -> DatasetAnswer:
    """Store a data set and have a worker inspect it."""
    spec = _spec(settings, body)
    default = _default_name(spec)
    if body.name is None and len(default) > LONGEST_NAME:
        raise Invalid.at("/name", f"the folder's name is longer than {LONGEST_NAME} characters; give a `name`")
    name = body.name or default
    return answer(add(session, jobs, caller, spec=spec, name=name, sample_of=body.sample_of, shared=body.shared))


def add(
    session: Session,
    jobs: Jobs,
    caller: Caller,
    *,
    spec: DatasetSpec,
    name: str,
    sample_of: str | None = None,
    shared: bool = False,
    identifier: str | None = None,
    stored_bytes: int = 0,
) -> Dataset:
    """Store a data set whose place has been checked, and have a worker inspect it."""
    datasets = Datasets(session)
    if datasets.name_is_taken(caller.owner, name):
        raise Conflict(f"you have a data set named {name!r} already; give another `name`, or delete that one")
    row = Dataset(
        name=name, spec=spec, sample_of=sample_of, owner=caller.owner, shared=shared, stored_bytes=stored_bytes
    )
    if identifier is not None:
        row.id = identifier
    datasets.add(row)
    jobs.inspect_dataset(session, row.id, owner=row.owner)
    return row


def _default_name(spec: DatasetSpec) -> str:
    if isinstance(spec, BuiltinSpec):
        return spec.name
    name = Path(spec.url or spec.path).name
    for suffix in READABLE_SUFFIXES if spec.url else ():
        name = name.removesuffix(suffix)
    return name


def _spec(settings: Settings, body: DatasetCreate) -> DatasetSpec:
    if body.location.startswith(BUILTIN):
        name = body.location.removeprefix(BUILTIN)
        if name not in BUILTIN_NAMES:
            known = ", ".join(BUILTIN + known for known in BUILTIN_NAMES)
            raise Invalid.at("/location", f"there is no {body.location}; there is: {known}")
        if body.manifest is not None or body.split is not None:
            raise Invalid.at("/manifest", "a built-in data set has no manifest and no split")
        return BuiltinSpec(name=name)
    if body.manifest is None and body.split is not None:
        raise Invalid.at("/split", "a split needs a `manifest` that names it")
    if body.location.startswith(SCHEME):
        return _spec_in_bucket(settings, body)
    roots = data_roots(settings)
    try:
        path = roots.resolve(body.location)
    except OutsideRoots as error:
        raise Invalid.at("/location", str(error)) from error
    if not roots.has_folder(path):
        raise Invalid.at("/location", f"{path} is not a folder; give a folder with one sub-folder of images per class")
    if body.manifest is None:
        return FolderSpec(path=str(path))
    manifest = Path(body.manifest)
    if manifest.is_absolute() or ".." in manifest.parts or not roots.has_file(path / manifest):
        raise Invalid.at("/manifest", f"there is no file {body.manifest} in {path}")
    return ManifestSpec(path=str(path), manifest=body.manifest, split=body.split)


def _spec_in_bucket(settings: Settings, body: DatasetCreate) -> DatasetSpec:
    """Workers alone have credentials: whether something is there is told by the inspection."""
    try:
        url = data_url(settings, body.location)
    except OutsideRoots as error:
        raise Invalid.at("/location", str(error)) from error
    if body.manifest is None:
        return FolderSpec(path="", url=url)
    try:
        manifest = safe_path(body.manifest)
    except Invalid as error:
        raise Invalid.at("/manifest", error.detail) from error
    if manifest is None:
        raise Invalid.at("/manifest", f"{body.manifest} is not the name of a file in {url}")
    return ManifestSpec(path="", url=url, manifest=str(manifest), split=body.split)


def location(row: Dataset) -> str:
    """Where the images lie, as a user would write it; the place of uploads is the server's own."""
    spec = row.spec
    if isinstance(spec, BuiltinSpec):
        return f"{BUILTIN}{spec.name}"
    return UPLOADED if spec.uploaded else spec.url or spec.path


def get(session: Session, caller: Caller, reference: str) -> Dataset:
    """The data set of this id or name."""
    row = Datasets(session).find(caller, reference)
    if row is None:
        raise NotFound(f"there is no data set {reference!r}; GET /v1/datasets lists them")
    return row


def delete(session: Session, settings: Settings, caller: Caller, reference: str) -> None:
    """Forget a data set that no ranking needs; the images stay where they are unless they were uploaded."""
    datasets = Datasets(session)
    row = get(session, caller, reference)
    check_owner(caller, row.owner, f"{row.name!r}", to="delete")
    if open_rankings := datasets.open_rankings(row.id):
        raise Conflict(
            f"{row.name!r} is in use by {caller.name(open_rankings)}; cancel what is yours, or wait for the end"
        )
    if datasets.has_rankings(row.id):
        raise Conflict(
            f"{row.name!r} is the target of finished rankings; delete those first, so that they keep their meaning"
        )
    datasets.delete(row)

    def remove(_: Session) -> None:
        for path in (index_file(settings, row.id), sheet_folder(settings, row.id)):
            shared_home.remove(settings, path)
        if not isinstance(row.spec, BuiltinSpec) and row.spec.uploaded:
            shared_home.remove(settings, upload_folder(settings, row.id))

    # Not before: a transaction that fails must find the images where they were.
    event.listen(session, "after_commit", remove, once=True)


def contact_sheet(settings: Settings, row: Dataset) -> dict[str, list[str]]:
    """Class -> names of its small images on the contact sheet, of the first classes; empty before the inspection."""
    folder = sheet_folder(settings, row.id)
    shared_home.fetch_folder(settings, folder)
    names = sorted(row.class_counts or ())
    return {
        names[int(child.name)]: [f"{child.name}-{image.stem}.jpg" for image in sorted(child.iterdir())]
        for child in sorted(folder.iterdir() if folder.is_dir() else (), key=lambda child: int(child.name))
        if int(child.name) < len(names)
    }


def contact_image(settings: Settings, row: Dataset, code: int, number: int) -> Path:
    """The file of one small image.

    Raises:
        NotFound: there is none.
    """
    path = sheet_folder(settings, row.id) / str(code) / f"{number}.jpg"
    if not path.is_file():
        raise NotFound(f"the contact sheet of {row.name!r} has no such image")
    return path
