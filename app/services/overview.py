"""What lists of rankings and models show in addition to the answers."""

from collections.abc import Iterable, Mapping

from sqlalchemy.orm import Session

from app.db.repositories.measurements import Measurements
from app.db.repositories.models import Models
from app.db.tables import Model


def best_models(session: Session, rankings: Iterable[str]) -> dict[str, str]:
    """Ranking -> name of the model that it puts first, of those that have ended."""
    first = Measurements(session).first_models(rankings)
    models = Models(session).get_many(set(first.values()))
    return {ranking: models[model].name for ranking, model in first.items() if model in models}


def models_of(session: Session, models: Iterable[str]) -> Mapping[str, Model]:
    """Models by id."""
    return Models(session).get_many(models)


def licenses(session: Session, models: Iterable[str]) -> dict[str, str | None]:
    """Model -> its license, where known."""
    return {identifier: model.license for identifier, model in Models(session).get_many(models).items()}
