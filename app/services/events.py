"""What happened in a ranking, for those who follow it. All of it is in the database, so any API process can tell it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.db.repositories.rankings import Rankings
from app.db.session import Database

LAST = "end"


@dataclass(frozen=True, slots=True)
class Happening:
    """One event; the sequence has no gaps."""

    sequence: int
    type: str
    data: Mapping[str, Any]
    at: datetime | None


def since(database: Database, ranking_id: str, sequence: int) -> list[Happening]:
    """Events after the one of that number, oldest first, as many as one read gives.

    A ranking that has ended tells its end again to who asks for more; one that was deleted ends with that.
    """
    with database.reading() as session:
        rankings = Rankings(session)
        rows = rankings.events_after(ranking_id, sequence)
        found = [Happening(row.sequence, row.type, row.data, row.created_at) for row in rows]
        if found:
            return found
        state = rankings.state(ranking_id)
    if state is None:
        return [Happening(sequence, LAST, {"state": "deleted"}, None)]
    if state.is_final:
        return [Happening(sequence, LAST, {"state": state.value}, None)]
    return []
