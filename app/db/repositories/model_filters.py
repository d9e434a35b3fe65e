"""What a model has to be: the same conditions on registered models and on the catalog."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, false, func, or_

from app.contracts.zoos import ModelFilter
from app.db.tables import CatalogModel, Model


def conditions(table: type[Model] | type[CatalogModel], wanted: ModelFilter) -> list[ColumnElement[bool]]:
    """What a row has to fulfil. A fact that is not known fulfils no bound on it."""
    found: list[ColumnElement[bool]] = []
    if wanted.search is not None:
        found.append(table.name.contains(wanted.search, autoescape=True))
    choices: Sequence[tuple[Any, Sequence[str] | None]] = (
        (table.family, wanted.family),
        (table.tag, wanted.tag),
        (table.source_dataset, wanted.source_dataset),
    )
    found += [column.in_(values) for column, values in choices if values]
    if wanted.license:
        found.append(_licensed(table, wanted.license))
    bounds: Sequence[tuple[Any, float | None, float | None]] = (
        (table.parameters, wanted.min_parameters, wanted.max_parameters),
        (table.gmacs, None, wanted.max_gmacs),
        (table.input_size, wanted.min_input_size, wanted.max_input_size),
        (table.weight_bytes, None, wanted.max_weight_bytes),
        (table.top1, wanted.min_top1, None),
    )
    found += [column >= low for column, low, _ in bounds if low is not None]
    found += [column <= high for column, _, high in bounds if high is not None]
    if wanted.min_images_per_second is not None:
        measured = table is Model
        found.append(Model.images_per_second >= wanted.min_images_per_second if measured else false())
    return found


def _licensed(table: type[Model] | type[CatalogModel], names: Sequence[str]) -> ColumnElement[bool]:
    """A license by its name in any case; what follows after a space, such as whose weights they are, does not count."""
    stored = func.lower(table.license)
    return or_(*(or_(stored == name.lower(), stored.startswith(f"{name.lower()} ", autoescape=True)) for name in names))
