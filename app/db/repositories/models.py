"""Queries on models, zoos and the catalog that the workers publish."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import delete, insert, or_, select, text, update
from sqlalchemy.orm import selectinload

from app.contracts.caller import LOCAL_CALLER, Caller
from app.contracts.catalog import PublishedModel
from app.contracts.states import FINAL_STATES, ResourceState
from app.contracts.zoos import ModelFilter
from app.db.repositories.model_filters import conditions
from app.db.repositories.owned import OwnedRepository
from app.db.tables import ApiKey, CatalogModel, Model, Ranking, RankingModel, Zoo, ZooModel, now


class Models(OwnedRepository[Model]):
    """Models by id and name."""

    table = Model

    def find_many(self, caller: Caller, references: Sequence[str]) -> dict[str, Model]:
        """Reference -> model, for those that exist: by id first, then by name, the caller's own first."""
        wanted = set(references)
        found: dict[str, Model] = {}
        rows = self.session.scalars(
            self.visible(caller)
            .where(or_(Model.id.in_(wanted), Model.name.in_(wanted)))
            .order_by((Model.owner == caller.owner), Model.id)
        )
        by_id: dict[str, Model] = {}
        for row in rows:
            by_id[row.id] = row
            found[row.name] = row
        found.update(by_id)
        return {reference: found[reference] for reference in references if reference in found}

    def get_many(self, identifiers: Iterable[str]) -> dict[str, Model]:
        """Id -> model."""
        rows = self.session.scalars(select(Model).where(Model.id.in_(list(identifiers))))
        return {row.id: row for row in rows}

    def matching(self, caller: Caller, wanted: ModelFilter, *, limit: int) -> list[Model]:
        """Up to ``limit`` visible models that are what is wanted, by name, and by id where names are equal."""
        query = self.visible(caller).where(*conditions(Model, wanted))
        return list(self.session.scalars(query.order_by(Model.name, Model.id).limit(limit)))

    def withdrawn(self, ranking: Ranking) -> set[str]:
        """Models of the ranking that its owner may not use anymore, since their owner does not share them now."""
        found = set(
            self.session.scalars(
                select(Model.id)
                .join(RankingModel, RankingModel.model_id == Model.id)
                .where(RankingModel.ranking_id == ranking.id, Model.owner != ranking.owner, Model.shared.is_(False))
            )
        )
        if not found or ranking.owner == LOCAL_CALLER.owner:
            return set()
        key = self.session.get(ApiKey, ranking.owner)
        return set() if key is not None and "admin" in key.scopes else found

    def open_rankings(self, model_id: str) -> list[tuple[str, str]]:
        """Rankings that still need the model: id and owner."""
        return [
            (identifier, owner)
            for identifier, owner in self.session.execute(
                select(Ranking.id, Ranking.owner)
                .join(RankingModel, RankingModel.ranking_id == Ranking.id)
                .where(RankingModel.model_id == model_id, Ranking.state.not_in(FINAL_STATES))
            )
        ]

    def not_described(self) -> list[Model]:
        """Inspected models of which the catalog may know more than their row says."""
        query = select(Model).where(Model.state == ResourceState.READY, Model.family.is_(None))
        return list(self.session.scalars(query))

    def note_speed(self, model_id: str, images_per_second: float) -> None:
        """Keep how fast the model ran."""
        self.session.execute(update(Model).where(Model.id == model_id).values(images_per_second=images_per_second))

    def has_rankings(self, model_id: str) -> bool:
        """Whether any ranking, finished ones too, has a row of the model."""
        return (
            self.session.scalar(select(RankingModel.ranking_id).where(RankingModel.model_id == model_id).limit(1))
            is not None
        )

    def zoos_with(self, model_id: str) -> list[tuple[str, str]]:
        """Zoos that hold the model: name and owner."""
        return [
            (name, owner)
            for name, owner in self.session.execute(
                select(Zoo.name, Zoo.owner)
                .join(ZooModel, ZooModel.zoo_id == Zoo.id)
                .where(ZooModel.model_id == model_id)
            )
        ]

    def leave_zoos(self, model_id: str) -> None:
        """Take the model out of every zoo."""
        self.session.execute(delete(ZooModel).where(ZooModel.model_id == model_id))


class Zoos(OwnedRepository[Zoo]):
    """Zoos with their members."""

    table = Zoo

    def find_with_members(self, caller: Caller, reference: str) -> Zoo | None:
        """Like `find`, members loaded."""
        zoo = self.find(caller, reference)
        if zoo is not None:
            self.load_members([zoo])
        return zoo

    def load_members(self, zoos: Sequence[Zoo]) -> None:
        """Read the members of all these zoos in one query."""
        self.session.scalars(
            select(Zoo)
            .where(Zoo.id.in_([zoo.id for zoo in zoos]))
            .options(selectinload(Zoo.members))
            .execution_options(populate_existing=True)
        ).all()


class Catalog:
    """The models that the workers' timm can build."""

    def __init__(self, session: Any) -> None:
        self.session = session

    def replace(self, models: Sequence[PublishedModel]) -> None:
        """Put this list in the place of the old one. Workers that start together do so one after the other."""
        if self.session.get_bind().dialect.name == "postgresql":
            self.session.execute(text(f"LOCK TABLE {CatalogModel.__tablename__} IN SHARE ROW EXCLUSIVE MODE"))
        self.session.execute(delete(CatalogModel))
        if models:
            moment = now()
            # Not dumped: the columns' own types do that.
            rows = [{**dict(model), "published_at": moment} for model in models]
            self.session.execute(insert(CatalogModel), rows)

    def matching(self, wanted: ModelFilter, *, limit: int, after: str | None = None) -> list[CatalogModel]:
        """Up to ``limit`` models that are what is wanted, by name, after the name ``after``."""
        query = select(CatalogModel).where(*conditions(CatalogModel, wanted))
        query = query.order_by(CatalogModel.name).limit(limit)
        if after is not None:
            query = query.where(CatalogModel.name > after)
        return list(self.session.scalars(query))

    def is_empty(self) -> bool:
        """Whether no worker has published yet."""
        return self.session.scalar(select(CatalogModel.name).limit(1)) is None

    def get(self, name: str) -> CatalogModel | None:
        """The model of this name, if timm knows it."""
        found: CatalogModel | None = self.session.get(CatalogModel, name)
        return found

    def of_architectures(self, names: Iterable[str]) -> list[CatalogModel]:
        """All that is published of these architectures."""
        return list(self.session.scalars(select(CatalogModel).where(CatalogModel.architecture.in_(set(names)))))
