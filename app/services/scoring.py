"""Scores of arrays that a client sends, computed in processes that can be lost."""

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from app.contracts.question import MetricChoice
from app.errors import ForerankError, Invalid, TooLarge, Unavailable
from app.processes.errors import Problem, ProcessDied, Stopping, TimeLimitExceeded
from app.processes.parent import ChildProcess
from app.schemas.scores import ScoresAnswer
from app.scoring.commands import ARRAY_SCORER, ArraysRefused
from app.services.turns import Turns
from app.settings import Settings
from app.submission.rankings import chosen_metrics

QUEUE_SECONDS = 30

log = structlog.stdlib.get_logger("forerank.scoring")


class Scorers:
    """At most ``FORERANK_SCORES_PROCESSES`` processes, started when needed and replaced when lost.

    Whoever waits for one of them takes no thread.
    """

    def __init__(self, settings: Settings) -> None:
        count = settings.scores_processes
        self._settings = settings
        self._processes = [ChildProcess(settings, ARRAY_SCORER) for _ in range(count)]
        self._free = list(self._processes)
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="scores")
        self._turns = Turns(count, waiting_limit=settings.scores_waiting_limit, limit_seconds=QUEUE_SECONDS)

    async def compute(self, owner: str, path: Path, metrics: Sequence[str | MetricChoice]) -> ScoresAnswer:
        """The scores of the arrays in a file. Cancelled, it ends the computation at once.

        Raises:
            Invalid: a metric or the file is wrong; the detail says how.
            TooLarge: the computation took longer, or more memory, than one request may.
            Unavailable: all processes are busy.
        """
        payload = {"path": str(path), "metrics": [metric.plain() for metric in chosen_metrics(metrics)]}
        await self._turns.take(owner)
        process, stop = self._free.pop(), threading.Event()
        call = partial(process.call, "score", payload, should_stop=stop.is_set)
        work = asyncio.get_running_loop().run_in_executor(self._threads, call)

        def end(work: "asyncio.Future[Any]") -> None:
            work.cancelled() or work.exception()  # seen, should nobody wait for it any more
            self._free.append(process)
            self._turns.give_back()

        work.add_done_callback(end)
        try:
            answer = await asyncio.shield(work)
        except asyncio.CancelledError:
            stop.set()
            raise
        except Stopping as error:
            raise Unavailable("the server stops", headers={"Retry-After": "10"}) from error
        except Problem as problem:
            raise _translated(problem, self._settings) from problem
        return ScoresAnswer.model_validate(answer)

    def close(self) -> None:
        """End the processes and what they compute."""
        for process in self._processes:
            process.close()
        self._threads.shutdown(wait=False)


def _translated(problem: Problem, settings: Settings) -> ForerankError:
    match problem.code:
        case ArraysRefused.code:
            return Invalid.at("/evidence", problem.detail)
        case TimeLimitExceeded.code:
            limit = settings.scores_limit_seconds
            return TooLarge(f"the metrics took over {limit:g} s, the limit; send fewer samples or fewer metrics")
        case ProcessDied.code:
            log.warning("a scoring process died", reason=problem.detail)
            # Libraries of linear algebra end their process when an allocation fails.
            return TooLarge(
                "the process that computed the metrics was lost, most likely because they took more memory than one "
                f"request may ({settings.scores_memory_megabytes:g} MB); send fewer samples"
            )
        case _:
            log.error("scoring failed", code=problem.code, reason=problem.detail)
            return ForerankError("the metrics were not computed; the operator's log has the reason")
