"""Which queues have work: asked once for all of them, since a worker without work must cost next to nothing."""

import threading
import time

from app.db.outages import is_outage
from app.db.session import Database
from workers import engine


class WaitingWork:
    """One query serves all threads of the engine that look at queues; its answer is used for a while.

    Args:
        seconds: how old an answer may be.
    """

    def __init__(self, database: Database, seconds: float) -> None:
        self._database = database
        self._seconds = seconds
        self._lock = threading.Lock()
        self._asked = float("-inf")
        self._queues: frozenset[str] = frozenset()

    def on(self, queue: str) -> bool:
        """Whether the queue has work. True if the database cannot be asked: the engine waits until it is back."""
        with self._lock:
            if time.monotonic() - self._asked >= self._seconds:
                try:
                    with self._database.reading() as session:
                        self._queues = engine.queues_with_work(session)
                except Exception as error:
                    if not is_outage(error):
                        raise
                    return True
                self._asked = time.monotonic()
            return queue in self._queues
