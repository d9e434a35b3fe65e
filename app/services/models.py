"""Rules of models."""

from sqlalchemy.orm import Session

from app.contracts.caller import Caller
from app.contracts.listing import Listing
from app.contracts.states import ResourceState
from app.contracts.zoos import ModelFilter
from app.db.repositories.model_filters import conditions
from app.db.repositories.models import Catalog, Models
from app.db.tables import Model
from app.errors import Conflict, NotFound
from app.jobs import Jobs
from app.schemas.models import CatalogEntry, ModelAnswer, ModelChange, ModelCreate
from app.schemas.page import Page, page_of
from app.services.ownership import check_owner
from app.settings import Settings
from app.submission import models as submission


def answer(row: Model) -> ModelAnswer:
    """A row as users see it."""
    columns = {name: getattr(row, name) for name in ModelAnswer.model_fields if hasattr(row, name)}
    card = row.card
    return ModelAnswer(
        **columns,
        feature_dimension=None if card is None else card.feature_dimension,
        source_classes=None if card is None else card.source_classes,
        input=None if card is None else card.input,
        layers=None if card is None else list(card.stages),
    )


def register(session: Session, jobs: Jobs, settings: Settings, caller: Caller, body: ModelCreate) -> ModelAnswer:
    """Store a model and have a worker load and digest it."""
    return answer(submission.register(session, jobs, settings, caller, body))


def page(
    session: Session, caller: Caller, listing: Listing, wanted: ModelFilter, *, state: ResourceState | None = None
) -> Page[ModelAnswer]:
    """The models that the caller may see and that are what is wanted."""
    limits = [*conditions(Model, wanted), *([] if state is None else [Model.state == state])]
    return page_of(Models(session).page(caller, listing, conditions=limits), listing.limit, answer)


def catalog_page(session: Session, listing: Listing, wanted: ModelFilter) -> Page[CatalogEntry]:
    """The models that the workers' timm can build and that are what is wanted, by name."""
    entries = Catalog(session).matching(wanted, limit=listing.limit + 1, after=listing.after)
    return page_of(entries, listing.limit, CatalogEntry.model_validate, key=lambda row: row.name)


def show(session: Session, caller: Caller, reference: str) -> ModelAnswer:
    """The model of this id or name, as users see it."""
    return answer(get(session, caller, reference))


def get(session: Session, caller: Caller, reference: str) -> Model:
    """The model of this id or name."""
    row = Models(session).find(caller, reference)
    if row is None:
        raise NotFound(f"there is no model {reference!r}; GET /v1/models lists them")
    return row


def _own(session: Session, caller: Caller, reference: str) -> Model:
    row = get(session, caller, reference)
    check_owner(caller, row.owner, f"{row.name!r}")
    return row


def change(session: Session, caller: Caller, reference: str, body: ModelChange) -> ModelAnswer:
    """Set what may change after registration."""
    row = _own(session, caller, reference)
    if "source_dataset" in body.model_fields_set:
        row.source_dataset = body.source_dataset
    if body.shared is not None:
        row.shared = body.shared
    session.flush()
    return answer(row)


def delete(session: Session, caller: Caller, reference: str) -> None:
    """Forget a model that no zoo and no ranking needs."""
    models = Models(session)
    row = _own(session, caller, reference)
    # In the zoo of another key it may be today and not tomorrow: that does not bind its owner.
    if zoos := [(name, owner) for name, owner in models.zoos_with(row.id) if caller.owns(owner)]:
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
