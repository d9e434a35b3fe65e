"""Work that a worker repeats besides its jobs."""

import threading
from collections.abc import Callable

import structlog

from app.db.outages import is_outage

JOIN_SECONDS = 5.0

log = structlog.stdlib.get_logger(__name__)


class Periodic:
    """A thread that does ``work`` at once and then every ``seconds``. A failure is logged and ends nothing."""

    def __init__(self, name: str, seconds: float, work: Callable[[], None]) -> None:
        self._seconds = seconds
        self._work = work
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, after the work that is under way."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=JOIN_SECONDS)

    def _run(self) -> None:
        while True:
            try:
                self._work()
            except Exception as error:
                if is_outage(error):
                    log.warning("the database is away", work=self._thread.name, error=type(error).__name__)
                else:
                    log.exception("failed, and will be tried again", work=self._thread.name)
            if self._stop.wait(self._seconds):
                return
