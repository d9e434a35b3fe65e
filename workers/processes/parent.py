"""The parent's side of the extractor: one warm process for a device, replaced when it dies or is killed.

No torch here: the worker that holds this handle stays light, and keeps its heartbeat while the device works.
"""

import json
import os
import queue
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Literal

from app.settings import SLEEPING_THREADS, Settings
from workers.errors import ExtractorDied, Stopped, TimeLimitExceeded
from workers.processes.threads import thread_count

POLLING_SECONDS = 0.1


class ExtractorProcess:
    """Commands for the process, one at a time from any thread. The process is started by the first command.

    Args:
        role: ``extractor`` owns the device; ``scorer`` computes from the feature store and never imports torch.

    Commands and payloads of the extractor:
        ``inspect_model``: ``{"model": spec}`` -> the model's card.
        ``extract``: see ``workers.device.extraction.extract``.
        ``publish_catalog``: ``{}`` -> ``{"models": [...]}``.
    """

    def __init__(self, settings: Settings, *, role: Literal["extractor", "scorer"] = "extractor") -> None:
        self._settings = settings
        self._role = role
        self._turn = threading.Lock()
        self._spawner = _Spawner()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._received = b""

    def call(
        self,
        command: str,
        payload: dict[str, Any],
        *,
        progress: Callable[[dict[str, Any]], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
        time_limit_seconds: float | None = None,
    ) -> dict[str, Any]:
        """Run a command and wait for it.

        Args:
            progress: called in this thread with what the command reports.
            should_stop: asked about ten times a second, also while waiting for one's turn.
            time_limit_seconds: of this command, from its turn on, the start of the process included.

        Returns:
            The result, or ``{"problem": {"code", "detail"}}`` if the model or the data set is at fault.

        Raises:
            Stopped: ``should_stop`` said so. The process was killed.
            TimeLimitExceeded: the process was killed.
            ExtractorDied: the process ended by itself. The next call starts another.
        """
        while not self._turn.acquire(timeout=POLLING_SECONDS):
            _raise_if(should_stop)
        try:
            _raise_if(should_stop)
            deadline = time.monotonic() + time_limit_seconds if time_limit_seconds is not None else None
            try:
                self._start()
                self._send({"command": command, "payload": payload})
                return self._wait(progress, should_stop, deadline, time_limit_seconds)
            except BaseException:
                # Whatever interrupted the exchange, its answer must not be taken for the next command's.
                self._kill()
                raise
        finally:
            self._turn.release()

    @property
    def process_id(self) -> int | None:
        """Of the running process, if there is one."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def close(self) -> None:
        """Kill the process, interrupting a command that runs."""
        process = self._process
        if process is not None and process.poll() is None:
            process.kill()
        with self._turn:
            self._kill()
            self._spawner.close()

    def __enter__(self) -> "ExtractorProcess":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        self._kill()
        ours, theirs = socket.socketpair()
        threads = str(thread_count(self._settings))
        with theirs:
            self._process = self._spawner.run(
                lambda: subprocess.Popen(  # noqa: S603 - our own module, nothing from outside
                    [
                        sys.executable,
                        "-m",
                        "workers.processes.child",
                        self._role,
                        str(theirs.fileno()),
                        str(os.getpid()),
                    ],
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                    stdout=sys.stderr.fileno() if _has_descriptor(sys.stderr) else subprocess.DEVNULL,
                    env=SLEEPING_THREADS | os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
                )
            )
        self._socket, self._received = ours, b""
        self._send(self._settings.model_dump(mode="json"))

    def _send(self, message: dict[str, Any]) -> None:
        assert self._socket is not None  # noqa: S101 - set by _start
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            raise self._death() from None

    def _wait(
        self,
        progress: Callable[[dict[str, Any]], None] | None,
        should_stop: Callable[[], bool] | None,
        deadline: float | None,
        limit: float | None,
    ) -> dict[str, Any]:
        while True:
            for message in self._messages():
                if "result" in message:
                    return dict(message["result"])
                if "progress" in message and progress is not None:
                    progress(message["progress"])
            _raise_if(should_stop)
            if deadline is not None and time.monotonic() > deadline:
                raise TimeLimitExceeded(f"not done after {limit:g} s (FORERANK_EXTRACTION_TIME_LIMIT_SECONDS)")

    def _messages(self) -> list[dict[str, Any]]:
        assert self._socket is not None  # noqa: S101 - set by _start
        readable, _, _ = select.select([self._socket], [], [], POLLING_SECONDS)
        if not readable:
            return []
        try:
            received = self._socket.recv(1 << 16)
        except OSError:
            received = b""
        if not received:
            raise self._death()
        *lines, self._received = (self._received + received).split(b"\n")
        return [json.loads(line) for line in lines]

    def _death(self) -> ExtractorDied:
        assert self._process is not None  # noqa: S101 - set by _start
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return ExtractorDied(f"the {self._role} closed its connection")
        if code >= 0:
            return ExtractorDied(f"the {self._role} ended with exit code {code}; its log says why")
        name = signal.Signals(-code).name
        hint = ": probably out of memory, take a smaller FORERANK_BATCH_SIZE" if -code == signal.SIGKILL else ""
        return ExtractorDied(f"the {self._role} was ended by signal {name}{hint}")

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._socket is not None:
            self._socket.close()
        self._process = self._socket = None


class _Spawner:
    """A thread that starts processes and then stays.

    The parent-death signal on Linux comes when the *thread* that started the child ends, so a child started from a
    pool's thread would be killed with that thread.
    """

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue[tuple[Callable[[], Any], queue.SimpleQueue[Any]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def run(self, start: Callable[[], "subprocess.Popen[bytes]"]) -> "subprocess.Popen[bytes]":
        """Start a process from the thread; its exception, if any, is raised here."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name="extractor-spawner", daemon=True)
            self._thread.start()
        answer: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._tasks.put((start, answer))
        outcome = answer.get()
        if isinstance(outcome, BaseException):
            raise outcome
        process: subprocess.Popen[bytes] = outcome
        return process

    def close(self) -> None:
        """End the thread; the next ``run`` starts another."""
        if self._thread is not None:
            self._tasks.put(None)
            self._thread.join()
            self._thread = None

    def _loop(self) -> None:
        while (task := self._tasks.get()) is not None:
            start, answer = task
            try:
                answer.put(start())
            except BaseException as error:
                answer.put(error)


def _raise_if(should_stop: Callable[[], bool] | None) -> None:
    if should_stop is not None and should_stop():
        raise Stopped("the extraction was stopped")


def _has_descriptor(stream: Any) -> bool:
    try:
        return stream.fileno() >= 0
    except (AttributeError, OSError, ValueError):
        return False
