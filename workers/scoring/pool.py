"""The parent's side of scoring: warm processes on the CPU, so that no metric can hold the worker's interpreter."""

import queue
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from app.settings import Settings
from workers.errors import raise_problem
from workers.processes.parent import ExtractorProcess
from workers.processes.threads import thread_count

THREADS_PER_SCORER = 4


def scorer_count(settings: Settings) -> int:
    """How many scorers run beside one device."""
    return max(1, thread_count(settings) // THREADS_PER_SCORER)


class ScorerPool:
    """A few processes that compute scores and ensembles; each does one thing at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._all = [ExtractorProcess(settings, role="scorer") for _ in range(scorer_count(settings))]
        self._free: queue.SimpleQueue[ExtractorProcess] = queue.SimpleQueue()
        for scorer in self._all:
            self._free.put(scorer)

    def call(self, command: str, payload: dict[str, Any], *, should_stop: Callable[[], bool] | None = None) -> Any:
        """Run a command of `workers.scoring.metrics`.

        Raises:
            Problem: the command was stopped, took too long, or its process died.
        """
        with self._borrowed() as scorer:
            result = scorer.call(
                command,
                payload,
                should_stop=should_stop,
                time_limit_seconds=self._settings.scoring_time_limit_seconds,
            )
        return raise_problem(result)["value"]

    @contextmanager
    def _borrowed(self) -> Iterator[ExtractorProcess]:
        scorer = self._free.get()
        try:
            yield scorer
        finally:
            self._free.put(scorer)

    def close(self) -> None:
        """End the processes."""
        for scorer in self._all:
            scorer.close()
