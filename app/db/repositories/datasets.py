"""Queries on data sets."""

from collections.abc import Iterable

from sqlalchemy import func, or_, select

from app.contracts.caller import Caller
from app.contracts.states import FINAL_STATES, ResourceState
from app.db.repositories.owned import OwnedRepository
from app.db.tables import Dataset, Ranking


class Datasets(OwnedRepository[Dataset]):
    """Data sets by id, name and what they are a sample of."""

    table = Dataset

    def get_many(self, identifiers: Iterable[str]) -> dict[str, Dataset]:
        """Id -> data set."""
        rows = self.session.scalars(select(Dataset).where(Dataset.id.in_(set(identifiers))))
        return {row.id: row for row in rows}

    def hold_owner(self, owner: str) -> None:
        """Let no other transaction that calls this count what the owner stores, until this one ends."""
        # On SQLite a transaction that writes is alone anyway.
        if self.session.get_bind().dialect.name == "postgresql":
            self.session.execute(select(func.pg_advisory_xact_lock(func.hashtext(owner))))

    def stored(self, owner: str) -> list[Dataset]:
        """What the owner has uploaded."""
        return list(self.session.scalars(select(Dataset).where(Dataset.owner == owner, Dataset.stored_bytes > 0)))

    def without_bytes(self) -> list[Dataset]:
        """Data sets whose bytes were not counted: registered by path, or uploaded to an older version."""
        return list(self.session.scalars(select(Dataset).where(Dataset.stored_bytes == 0)))

    def open_rankings(self, dataset_id: str) -> list[tuple[str, str]]:
        """Rankings that still need the data set, as target, reference or source sample: id and owner."""
        rows = self.session.execute(
            select(Ranking.id, Ranking.owner, Ranking.target_id, Ranking.request).where(
                Ranking.state.not_in(FINAL_STATES)
            )
        )
        return [
            (identifier, owner)
            for identifier, owner, target, request in rows
            if dataset_id in (target, request.reference, *request.sources.values())
        ]

    def has_rankings(self, dataset_id: str) -> bool:
        """Whether any ranking, finished ones too, has the data set as its target."""
        return self.session.scalar(select(Ranking.id).where(Ranking.target_id == dataset_id).limit(1)) is not None

    def source_sample(self, caller: Caller, source: str) -> Dataset | None:
        """The newest data set that is, is named, or is a sample of ``source``, and has not failed."""
        rows = self.session.scalars(
            self.visible(caller)
            .where(
                or_(Dataset.id == source, Dataset.name == source, Dataset.sample_of == source),
                Dataset.state != ResourceState.FAILED,
            )
            .order_by((Dataset.owner == caller.owner).desc(), Dataset.id.desc())
            .limit(1)
        )
        return rows.first()
