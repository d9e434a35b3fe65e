"""Rules of zoos."""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from app.contracts.caller import Caller
from app.contracts.listing import Listing
from app.db.repositories.models import Zoos
from app.db.tables import Model, Zoo, ZooModel
from app.errors import Conflict, Invalid, NotFound
from app.jobs import Jobs
from app.schemas.page import Page, page_of
from app.schemas.zoos import Unavailable, ZooAnswer, ZooCreate, ZooMember
from app.services.ownership import check_owner
from app.settings import Settings
from app.submission import zoos as submission
from app.submission.models import register_missing


def answers(session: Session, caller: Caller, rows: Sequence[Zoo]) -> dict[str, ZooAnswer]:
    """Zoos whose members are loaded, by id, as this caller sees them."""
    listed = submission.members(session, caller, rows)
    return {zoo.id: _answer(session, caller, zoo, listed[zoo.id]) for zoo in rows}


def _answer(session: Session, caller: Caller, zoo: Zoo, listed: Sequence[Model]) -> ZooAnswer:
    found, missing = (listed, []) if zoo.query is None else submission.find(session, caller, zoo.query)
    return ZooAnswer(
        **{name: getattr(zoo, name) for name in ("id", "name", "owner", "shared", "created_at")},
        query=zoo.query,
        models=[ZooMember.model_validate(row) for row in found],
        unavailable=[Unavailable.model_validate(refused) for refused in zoo.unavailable or ()],
        unregistered=len(missing),
    )


def page(session: Session, caller: Caller, listing: Listing) -> Page[ZooAnswer]:
    """The zoos that the caller may see."""
    zoos = Zoos(session)
    rows = zoos.page(caller, listing)
    zoos.load_members(rows)
    shown = answers(session, caller, rows)
    return page_of(rows, listing.limit, lambda zoo: shown[zoo.id])


def show(session: Session, caller: Caller, reference: str) -> ZooAnswer:
    """The zoo of this id or name, as users see it."""
    zoo = get(session, caller, reference)
    return answers(session, caller, [zoo])[zoo.id]


def create(session: Session, jobs: Jobs, settings: Settings, caller: Caller, body: ZooCreate) -> ZooAnswer:
    """Store a named set of models. Listed models that are missing are registered; what is not available is noted."""
    zoos = Zoos(session)
    if zoos.name_is_taken(caller.owner, body.name):
        raise Conflict(f"you have a zoo named {body.name!r} already; give another `name`, or delete that one")
    zoo = Zoo(name=body.name, owner=caller.owner, shared=body.shared)
    zoo.members = []
    if body.query is not None:
        zoo.query = body.query
        return answers(session, caller, [zoos.add(zoo)])[zoo.id]
    members, unavailable = register_missing(session, jobs, settings, caller, body.models or [], shared=body.shared)
    if not members:
        errors = [
            {"pointer": f"/models/{number}", "detail": entry.problem.detail} for number, entry in enumerate(unavailable)
        ]
        raise Invalid("none of the models is available", errors=errors)
    zoo.members = [ZooModel(model_id=model.id, position=position) for position, model in enumerate(members)]
    zoo.unavailable = unavailable
    return answers(session, caller, [zoos.add(zoo)])[zoo.id]


def get(session: Session, caller: Caller, reference: str) -> Zoo:
    """The zoo of this id or name, members loaded."""
    zoo = Zoos(session).find_with_members(caller, reference)
    if zoo is None:
        raise NotFound(f"there is no zoo {reference!r}; GET /v1/zoos lists them")
    return zoo


def delete(session: Session, caller: Caller, reference: str) -> None:
    """Forget a zoo; its models stay."""
    zoo = get(session, caller, reference)
    check_owner(caller, zoo.owner, f"{zoo.name!r}", to="delete")
    Zoos(session).delete(zoo)
