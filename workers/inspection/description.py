"""What is known of a registered model besides its weights: from its card, and from the catalog of timm's models."""

from collections.abc import Iterable

from sqlalchemy.orm import Session

from app.contracts.models import TimmSpec
from app.db.repositories.models import Catalog, Models
from app.db.tables import CatalogModel, Model


def describe(session: Session, model: Model) -> None:
    """Fill the columns that searches ask for. What is not known stays empty."""
    _describe(model, Catalog(session).of_architectures([_architecture(model)]))


def describe_old_models(session: Session) -> None:
    """Describe models that were inspected before the catalog was published, or by an older version."""
    models = Models(session).not_described()
    published: dict[str, list[CatalogModel]] = {}
    for entry in Catalog(session).of_architectures({_architecture(model) for model in models}):
        published.setdefault(entry.architecture, []).append(entry)
    for model in models:
        _describe(model, published.get(_architecture(model), []))


def _architecture(model: Model) -> str:
    return str(model.card.architecture if model.card else "")


def _describe(model: Model, published: Iterable[CatalogModel]) -> None:
    card = model.card
    if card is None:
        return
    entries = list(published)
    model.architecture = _architecture(model)
    model.family = entries[0].family if entries else None
    model.tag = model.name.removeprefix(f"{model.architecture}.") if "." in model.name else None
    model.input_size = card.input.input_size[-1]
    model.weight_bytes = 4 * card.parameters
    # Of the same network on images of the same size; the classifier's share is small.
    model.gmacs = next((entry.gmacs for entry in entries if entry.input_size == model.input_size), None)
    if isinstance(model.spec, TimmSpec):
        model.top1 = next((entry.top1 for entry in entries if entry.name == model.spec.name), None)
