"""Rules of models and zoos."""

from sqlalchemy.orm import Session

from app.contracts.caller import Caller
from app.db.repositories.models import Models, Zoos
from app.db.tables import Model, Zoo, ZooModel
from app.errors import Conflict, Invalid, NotFound
from app.jobs import Jobs
from app.schemas.models import ModelChange
from app.schemas.zoos import ZooCreate
from app.services.ownership import check_owner
from app.settings import Settings
from app.submission.models import register_missing


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


def create_zoo(session: Session, jobs: Jobs, settings: Settings, caller: Caller, body: ZooCreate) -> Zoo:
    """Store a named set of models; what is missing of a list is registered, and what cannot be had is noted."""
    zoos = Zoos(session)
    if zoos.name_is_taken(caller.owner, body.name):
        raise Conflict(f"you have a zoo named {body.name!r} already; give another `name`, or delete that one")
    zoo = Zoo(name=body.name, owner=caller.owner, shared=body.shared)
    zoo.members = []
    if body.query is not None:
        zoo.query = body.query.model_dump(exclude_none=True)
        return zoos.add(zoo)
    members, unavailable = register_missing(session, jobs, settings, caller, body.models or [], shared=body.shared)
    if not members:
        errors = [
            {"pointer": f"/models/{number}", "detail": entry["problem"]["detail"]}
            for number, entry in enumerate(unavailable)
        ]
        raise Invalid("none of the models can be had", errors=errors)
    zoo.members = [ZooModel(model_id=model.id, position=position) for position, model in enumerate(members)]
    zoo.unavailable = unavailable
    return zoos.add(zoo)


def get_zoo(session: Session, caller: Caller, reference: str) -> Zoo:
    """The zoo of this id or name, members loaded."""
    zoo = Zoos(session).find_with_members(caller, reference)
    if zoo is None:
        raise NotFound(f"there is no zoo {reference!r}; GET /v1/zoos lists them")
    return zoo


def delete_zoo(session: Session, caller: Caller, reference: str) -> None:
    """Forget a zoo; its models stay."""
    zoo = get_zoo(session, caller, reference)
    check_owner(caller, zoo.owner, f"{zoo.name!r}", to="delete")
    Zoos(session).delete(zoo)
