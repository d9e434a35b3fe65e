"""Scores of arrays that a client sends, computed in processes that can be lost."""

import json
import os
import queue
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog

from app.errors import Invalid, TooLarge, Unavailable, failure
from app.schemas.rankings import MetricChoice
from app.schemas.scores import ScoresAnswer
from app.services.rankings import chosen_metrics
from app.settings import SLEEPING_THREADS, Settings

MEGABYTE = 1_000_000
QUEUE_SECONDS = 30

log = structlog.stdlib.get_logger("forerank.scoring")


class Scorers:
    """At most ``FORERANK_SCORES_PROCESSES`` processes, started when needed and replaced when lost."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._slots: queue.Queue[subprocess.Popen[str] | None] = queue.Queue()
        for _ in range(settings.scores_processes):
            self._slots.put(None)

    def compute(self, path: Path, metrics: Sequence[str | MetricChoice]) -> ScoresAnswer:
        """The scores of the arrays in a file.

        Raises:
            Invalid: a metric or the file is wrong; the detail says how.
            TooLarge: the computation took longer, or more memory, than one request may.
            Unavailable: all processes are busy.
        """
        request = {
            "path": str(path),
            "metrics": chosen_metrics(metrics),
            "limit_bytes": int(self._settings.scores_limit_megabytes * MEGABYTE),
        }
        try:
            process = self._slots.get(timeout=QUEUE_SECONDS)
        except queue.Empty:
            raise Unavailable("all scoring processes are busy; try again soon", headers={"Retry-After": "10"}) from None
        try:
            if process is None or process.poll() is not None:
                process = self._start()
            answer = self._ask(process, request)
        except BaseException:
            if process is not None:
                _end(process)
            process = None
            raise
        finally:
            self._slots.put(process)
        if (refused := answer.get("refused")) is not None:
            raise Invalid(refused, errors=[{"pointer": "/evidence", "detail": refused}])
        for score in answer["scores"]:
            reason = score.pop("cannot_be_computed")
            score["problem"] = None if reason is None else failure("metric-problem", f"cannot be computed: {reason}")
        return ScoresAnswer.model_validate(answer)

    def _start(self) -> subprocess.Popen[str]:
        threads = str(self._settings.threads or os.cpu_count() or 1)
        return subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "app.scorer", str(self._settings.scores_memory_megabytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=SLEEPING_THREADS | os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads},
            text=True,
        )

    def _ask(self, process: subprocess.Popen[str], request: dict[str, Any]) -> dict[str, Any]:
        assert process.stdin is not None  # noqa: S101 - it was started with pipes
        assert process.stdout is not None  # noqa: S101
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        limit = self._settings.scores_limit_seconds
        readable, _, _ = select.select([process.stdout], [], [], limit)
        if not readable:
            raise TooLarge(f"the metrics took over {limit:g} s, the limit; send fewer samples or fewer metrics")
        line = process.stdout.readline()
        if not line:
            log.warning("a scoring process died", code=process.wait())
            raise TooLarge("computing the metrics took more memory than one request may have; send fewer samples")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End all processes that do not work at this moment; the others end with this process."""
        while True:
            try:
                process = self._slots.get_nowait()
            except queue.Empty:
                return
            if process is not None:
                _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
