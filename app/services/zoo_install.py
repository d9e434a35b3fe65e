"""Registers a zoo that was fetched to this machine."""

from collections.abc import Sequence

from app.contracts.caller import LOCAL_CALLER
from app.contracts.models import InstalledModel
from app.db.repositories.models import Models, Zoos
from app.db.session import Database
from app.db.tables import Model, Zoo, ZooModel
from app.jobs import Jobs
from app.settings import Settings


def register_zoo(settings: Settings, name: str, entries: Sequence[InstalledModel]) -> str:
    """Register these models and the zoo of them, shared with every key; what is registered already stays."""
    database = Database(settings.url)
    jobs = Jobs(settings, database)
    try:
        with database.transaction() as session:
            models = Models(session)
            rows = [models.find(LOCAL_CALLER, entry.name) or models.add(_model(entry)) for entry in entries]
            for row in rows:
                if row.inspected_at is None:
                    jobs.inspect_model(session, row.id)
            zoos = Zoos(session)
            if zoos.name_is_taken(LOCAL_CALLER.owner, name):
                return f"the zoo {name!r} is registered already; its {len(rows)} models were checked"
            zoo = Zoo(name=name, owner=LOCAL_CALLER.owner, shared=True)
            zoo.members = [ZooModel(model_id=row.id, position=position) for position, row in enumerate(rows)]
            zoos.add(zoo)
        return f"the zoo {name!r} is registered: {', '.join(row.name for row in rows)}"
    finally:
        jobs.close()
        database.close()


def _model(entry: InstalledModel) -> Model:
    return Model(
        name=entry.name,
        spec=entry.spec,
        source_dataset=entry.source_dataset,
        license=entry.license,
        owner=LOCAL_CALLER.owner,
        shared=True,
    )
