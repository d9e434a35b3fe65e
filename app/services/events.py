"""What happened in rankings, for those who follow them; read from the database, so any API process can tell."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from app.contracts.events import EVENTS, Event
from app.db.repositories.keys import Keys
from app.db.repositories.rankings import Rankings
from app.db.session import Database

DELETED = "deleted"
PAGE = 1000


@dataclass(frozen=True)
class Happening:
    """One event; the sequence of a ranking's events has no gaps."""

    sequence: int
    event: Event

    @cached_property
    def data(self) -> str:
        """The event as JSON, made once for all of the streams that send it."""
        return self.event.model_dump_json()


@dataclass(slots=True)
class News:
    """What one look at the database found.

    Attributes:
        happenings: ranking -> events after the position that was asked for, oldest first.
        ended: ranking -> final state, for rankings with nothing more to tell.
        revoked: keys that may not follow anything anymore.
        more: whether there are events beyond this page.
    """

    happenings: dict[str, list[Happening]] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    revoked: set[str] = field(default_factory=set)
    more: bool = False


def news(database: Database, positions: Mapping[str, int], owners: Collection[str]) -> News:
    """What happened in these rankings after these sequence numbers, and which of these keys were revoked.

    A few queries however many rankings there are. A ranking that has ended tells its end again to those who know it.
    """
    found = News()
    with database.reading() as session:
        rankings = Rankings(session)
        standing = rankings.standing(positions)
        behind = {
            ranking: position
            for ranking, position in positions.items()
            if ranking in standing and standing[ranking][1] > position
        }
        for row in rankings.events_beyond(behind, limit=PAGE):
            event = EVENTS[row.type].read({**row.data, "ranking_id": row.ranking_id, "at": row.created_at})
            found.happenings.setdefault(row.ranking_id, []).append(Happening(row.sequence, event))
        found.more = sum(map(len, found.happenings.values())) >= PAGE
        found.revoked = Keys(session).revoked(owners)
    for ranking in positions:
        if ranking not in standing:
            found.ended[ranking] = DELETED
        elif ranking not in behind and (state := standing[ranking][0]).is_final:
            found.ended[ranking] = state.value
    return found
