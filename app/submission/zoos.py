"""Which models a zoo stands for: those that it lists, or those that its query finds at this moment."""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from app.contracts.caller import Caller
from app.contracts.zoos import ZooQuery
from app.db.repositories.models import Catalog, Models
from app.db.tables import CatalogModel, Model, Zoo
from app.jobs import Jobs
from app.submission.models import register_published


def resolve(session: Session, jobs: Jobs, caller: Caller, zoo: Zoo) -> list[Model]:
    """The models of a zoo whose members are loaded; those of the catalog that are missing are registered."""
    if zoo.query is None:
        return members(session, caller, [zoo])[zoo.id]
    models, missing = find(session, caller, zoo.query)
    return models + register_published(session, jobs, caller, missing, shared=zoo.shared)


def registered(session: Session, caller: Caller, zoo: Zoo) -> list[Model]:
    """The models of a zoo whose members are loaded that are registered already."""
    if zoo.query is None:
        return members(session, caller, [zoo])[zoo.id]
    return find(session, caller, zoo.query)[0]


def members(session: Session, caller: Caller, zoos: Sequence[Zoo]) -> dict[str, list[Model]]:
    """Zoo -> its listed models, in order; without those that the caller may not see, now that the request is made."""
    rows = Models(session).get_many({member.model_id for zoo in zoos for member in zoo.members})
    return {
        zoo.id: [row for member in zoo.members if caller.owns((row := rows[member.model_id]).owner) or row.shared]
        for zoo in zoos
    }


def find(session: Session, caller: Caller, query: ZooQuery) -> tuple[list[Model], list[CatalogModel]]:
    """What a query finds: registered models, and models of the catalog that are not registered yet; by name."""
    models = Models(session)
    found: dict[str, Model] = {}
    if query.source in ("registered", "all"):
        found = {row.id: row for row in models.matching(caller, query, limit=query.limit)}
    missing: list[CatalogModel] = []
    if query.source in ("timm", "all") and len(found) < query.limit:
        published = {entry.name: entry for entry in Catalog(session).matching(query, limit=query.limit)}
        known = models.find_many(caller, list(published))
        for name, entry in published.items():
            if len(found) + len(missing) >= query.limit:
                break
            if name in known:
                found.setdefault(known[name].id, known[name])
            else:
                missing.append(entry)
    return list(found.values()), missing
