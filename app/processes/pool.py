"""Several processes of one role."""

import queue
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from app.contracts.progress import TellProgress
from app.processes.errors import Stopped
from app.processes.parent import POLLING_SECONDS, ChildProcess
from app.processes.role import Role
from app.settings import Settings


class ProcessPool:
    """As many commands at once as there are processes; the others wait."""

    def __init__(self, settings: Settings, role: Role, count: int) -> None:
        self._all = [ChildProcess(settings, role) for _ in range(count)]
        self._free: queue.SimpleQueue[ChildProcess] = queue.SimpleQueue()
        for process in self._all:
            self._free.put(process)

    def call(
        self,
        command: str,
        payload: Mapping[str, Any],
        *,
        progress: TellProgress | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> Any:
        """As `ChildProcess.call`, in whichever process is free first."""
        with self._borrowed(should_stop) as process:
            return process.call(command, payload, progress=progress, should_stop=should_stop)

    @contextmanager
    def _borrowed(self, should_stop: Callable[[], bool] | None) -> Iterator[ChildProcess]:
        while True:
            try:
                process = self._free.get(timeout=POLLING_SECONDS)
                break
            except queue.Empty:
                if should_stop is not None and should_stop():
                    raise Stopped("the work was stopped") from None
        try:
            yield process
        finally:
            self._free.put(process)

    def close(self) -> None:
        """End the processes."""
        for process in self._all:
            process.close()
