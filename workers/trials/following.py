"""Watch one fine-tuning: write its progress, and see when it is no longer wanted."""

import time
from collections.abc import Callable

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.contracts.progress import Progress
from app.db.outages import is_outage
from workers.runtime import Runtime

log = structlog.stdlib.get_logger(__name__)
PROGRESS_SECONDS = 0.5
LOOK_FOR_CANCEL_SECONDS = 1.0


class RunFollower:
    """Writes progress to the run's row, and sees when its job has ended otherwise or the time is over.

    Args:
        tell: writes how far the run is to its row, unless it has ended.
        is_over: whether the job was cancelled, failed or deleted.
        seconds_left: None: no limit.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        tell: Callable[[Session, Progress], None],
        is_over: Callable[[Session], bool],
        seconds_left: float | None = None,
    ) -> None:
        self._runtime = runtime
        self._tell = tell
        self._is_over = is_over
        self._end = None if seconds_left is None else time.monotonic() + seconds_left
        self._told = self._looked = 0.0
        self._stage = ""
        self._over = False

    @property
    def is_late(self) -> bool:
        """Whether the time is over."""
        return self._end is not None and time.monotonic() >= self._end

    def progress(self, event: Progress) -> None:
        """Write stage, counts and the seconds that this run will still take, twice a second at most."""
        if event.stage == self._stage and time.monotonic() - self._told < PROGRESS_SECONDS:
            return
        self._told, self._stage = time.monotonic(), event.stage
        try:
            with self._runtime.transaction() as session:
                self._tell(session, event)
        except SQLAlchemyError as error:
            if not is_outage(error):
                raise
            log.warning("progress was not written")

    def should_stop(self) -> bool:
        """Asked about ten times a second; the database is asked once a second at most."""
        if self.is_late:
            return True
        if not self._over and time.monotonic() - self._looked > LOOK_FOR_CANCEL_SECONDS:
            self._looked = time.monotonic()
            try:
                with self._runtime.database.reading() as session:
                    self._over = self._is_over(session)
            except SQLAlchemyError as error:
                if not is_outage(error):
                    raise
                log.warning("the database does not answer")
        return self._over
