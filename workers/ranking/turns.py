"""Whose model comes next: rankings of a class take turns, and owners share alike however many rankings each has.

Start-time fair queueing (Goyal, Vin and Cheng, 1996): a queue's clock is the turn that it is at, which is the earliest
of its jobs in flight. A ranking's first model gets the present turn, and each further one a turn that is as much later
as its owner has rankings under way. A queue whose models take equally long so gives each of n owners the n-th part, and
a ranking of three models does not wait for one of five hundred.
"""

import time

from app.db.outages import outlast_outages
from app.db.repositories.rankings import Rankings
from app.jobs import SUBMISSION_BITS, Queue
from workers import engine
from workers.runtime import current

LOOK_SECONDS = 1.0
LATEST = (1 << SUBMISSION_BITS) - 1


class Turns:
    """The priorities of one ranking's jobs in one queue, in the order in which they are put there."""

    def __init__(self, queue: Queue, ranking_id: str, priority: int) -> None:
        self._queue = queue
        self._ranking_id = ranking_id
        self._class = priority >> SUBMISSION_BITS << SUBMISSION_BITS
        self._last: int | None = None
        self._present, self._rankings = 0, 1
        self._looked = float("-inf")

    def next(self) -> int:
        """The priority of the next model's job.

        Only the order in a queue depends on it, so a workflow may ask outside its steps: a job that a replay puts into
        its queue again keeps the place that it has.
        """
        if time.monotonic() - self._looked > LOOK_SECONDS:
            outlast_outages(self._look, longest_pause=current().settings.database_retry_seconds)()
            self._looked = time.monotonic()
        following = 0 if self._last is None else self._last + self._rankings
        self._last = min(max(self._present, following), LATEST)
        return self._class + self._last

    def _look(self) -> None:
        with current().database.reading() as session:
            earliest = engine.earliest_priority(session, self._queue, self._class, self._class + LATEST)
            self._rankings = max(1, Rankings(session).running_beside(self._ranking_id))
        self._present = 0 if earliest is None else earliest - self._class
