"""Which queues have work: asked once for all of them, since a worker without work must cost next to nothing."""

import threading
import time
from collections.abc import Callable

from app.db.outages import is_outage
from app.db.session import Database
from workers import engine

IDLE_SECONDS = 1.0
IDLE_AFTER_SECONDS = 10.0


class WaitingWork:
    """One query serves all threads of the engine that look at queues; its answer is used for a while.

    Args:
        seconds: between two looks at a queue; while nothing comes for `IDLE_AFTER_SECONDS`, `IDLE_SECONDS` if longer.
        is_busy: whether jobs run here. Each of them is about to be followed by another one.
    """

    def __init__(self, database: Database, seconds: float, is_busy: Callable[[], bool] = lambda: False) -> None:
        self._database = database
        self._seconds = seconds
        self._is_busy = is_busy
        self._lock = threading.Lock()
        self._asked = float("-inf")
        self._found = time.monotonic()
        self._queues: frozenset[str] = frozenset()

    def interval(self) -> float:
        """Seconds until the next look is worth it."""
        is_idle = time.monotonic() - self._found > IDLE_AFTER_SECONDS and not self._is_busy()
        return max(self._seconds, IDLE_SECONDS) if is_idle else self._seconds

    def on(self, queue: str) -> bool:
        """Whether the queue has work. True if the database cannot be asked: the engine waits until it is back."""
        with self._lock:
            if time.monotonic() - self._asked >= self.interval():
                try:
                    with self._database.reading() as session:
                        self._queues = engine.queues_with_work(session)
                except Exception as error:
                    if not is_outage(error):
                        raise
                    return True
                self._asked = time.monotonic()
                if self._queues:
                    self._found = self._asked
            return queue in self._queues
