"""The parent's side of a child process: one warm process, replaced when it dies or is killed.

Nothing of the child's libraries is imported here, so the parent stays light and answers while the child computes.
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
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from pydantic import SecretStr

from app.contracts.progress import Progress, TellProgress
from app.processes.errors import Problem, ProcessDied, Stopped, Stopping, TimeLimitExceeded
from app.processes.limits import memory_limit_megabytes
from app.processes.role import Role, variable
from app.processes.threads import thread_count
from app.settings import SLEEPING_THREADS, Settings

POLLING_SECONDS = 0.1


class ChildProcess:
    """Runs commands in a process of a role, one at a time from any thread. The first command starts the process."""

    def __init__(self, settings: Settings, role: Role) -> None:
        self._settings = settings
        self._role = role
        self._turn = threading.Lock()
        self._spawner = _Spawner(role.name)
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._received = b""
        self._closed = False

    def call(
        self,
        command: str,
        payload: Mapping[str, Any],
        *,
        progress: TellProgress | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> Any:
        """Run a command of the role's module and wait for it.

        Args:
            progress: called in this thread with what the command reports.
            should_stop: asked about ten times a second, also while waiting for one's turn.

        Returns:
            What the command returned, through JSON.

        Raises:
            Problem: the command raised it; its code and detail are the command's.
            Stopped: ``should_stop`` said so. The process was killed.
            TimeLimitExceeded: the process was killed.
            ProcessDied: the process ended by itself. The next call starts another.
            Stopping: `close` was called.
        """
        while not self._turn.acquire(timeout=POLLING_SECONDS):
            self._raise_if(should_stop)
        try:
            self._raise_if(should_stop)
            try:
                self._start(should_stop)
                self._send({"command": command, "payload": payload})
                answer = self._wait(self._role.time_limit(self._settings), should_stop, progress)
            except ProcessDied:
                self._kill()
                # `close` kills the process to interrupt its command, which must not look like a fault of the command.
                self._raise_if(None)
                raise
            except BaseException:
                # Whatever interrupted the exchange, its answer must not be taken for the next command's.
                self._kill()
                raise
        finally:
            self._turn.release()
        if "problem" in answer:
            raise Problem.of(answer["problem"])
        return answer["result"]

    @property
    def process_id(self) -> int | None:
        """Of the running process, if there is one."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def close(self) -> None:
        """Kill the process, interrupting a command that runs; no other command will run."""
        self._closed = True
        process = self._process
        if process is not None and process.poll() is None:
            process.kill()
        with self._turn:
            self._kill()
            self._spawner.close()

    def __enter__(self) -> "ChildProcess":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _start(self, should_stop: Callable[[], bool] | None) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        self._kill()
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = self._spawner.run(
                lambda: subprocess.Popen(  # noqa: S603 - our own module, nothing from outside
                    [sys.executable, "-m", "app.processes.child", str(theirs.fileno()), str(os.getpid())],
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                    stdout=sys.stderr.fileno() if _has_descriptor(sys.stderr) else subprocess.DEVNULL,
                    env=self._environment(),
                )
            )
        self._socket, self._received = ours, b""
        settings = self._settings.model_dump(mode="json", exclude=self._secrets())
        self._send({"role": asdict(self._role), "settings": settings})
        # What its libraries take to load is not the command's time.
        self._wait(None, should_stop)

    def _environment(self) -> dict[str, str]:
        threads = str(self._role.threads or thread_count(self._settings))
        withheld = set(map(variable, self._secrets()))
        inherited = {
            name: value
            for name, value in os.environ.items()
            # Credentials of the client of buckets come from either.
            if name not in withheld and not name.startswith(("AWS_", "FSSPEC_"))
        }
        return SLEEPING_THREADS | inherited | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}

    def _secrets(self) -> set[str]:
        """Settings that a child must not know: it reads what strangers send, and needs none of them."""
        secrets = {name for name, value in self._settings if isinstance(value, SecretStr)}
        # Without its credentials the shared storage is of no use: a child works on the folders of its host.
        return secrets | {"store_url"}

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._socket is not None  # noqa: S101 - set by _start
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            raise self._death() from None

    def _wait(
        self, limit: float | None, should_stop: Callable[[], bool] | None, progress: TellProgress | None = None
    ) -> dict[str, Any]:
        """The next message that is not progress."""
        deadline = None if limit is None else time.monotonic() + limit
        while True:
            for message in self._messages():
                if "progress" not in message:
                    return message
                if progress is not None:
                    progress(Progress.read(message["progress"]))
            self._raise_if(should_stop)
            if deadline is not None and time.monotonic() > deadline:
                raise self._overdue()

    def _overdue(self) -> TimeLimitExceeded:
        name = variable(self._role.time_setting or "")
        return TimeLimitExceeded(f"not done after {self._role.time_limit(self._settings):g} s ({name})")

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

    def _death(self) -> Problem:
        assert self._process is not None  # noqa: S101 - set by _start
        name = self._role.name
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return ProcessDied(f"the {name} closed its connection")
        if code >= 0:
            return ProcessDied(f"the {name} ended with exit code {code}; its log says why")
        if -code == signal.SIGXCPU and self._role.processor_setting is not None:
            limit = getattr(self._settings, self._role.processor_setting)
            name = variable(self._role.processor_setting)
            return TimeLimitExceeded(f"not done after {limit:g} s of the processor ({name})")
        hint = ": probably out of memory" + self._advice() if -code == signal.SIGKILL else ""
        return ProcessDied(f"the {name} was ended by signal {signal.Signals(-code).name}{hint}")

    def _advice(self) -> str:
        parts = [self._role.remedy] if self._role.remedy else []
        if (megabytes := memory_limit_megabytes(self._role, self._settings)) is not None:
            assert self._role.memory_setting is not None  # noqa: S101 - there is a limit
            parts.append(f"its limit is {megabytes:.0f} MB, {variable(self._role.memory_setting)}")
        return f" ({'; '.join(parts)})" if parts else ""

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._socket is not None:
            self._socket.close()
        self._process = self._socket = None

    def _raise_if(self, should_stop: Callable[[], bool] | None) -> None:
        if self._closed:
            raise Stopping(f"the {self._role.name} was closed")
        if should_stop is not None and should_stop():
            raise Stopped("the work was stopped")


class _Spawner:
    """A thread that starts processes and then stays.

    The parent-death signal on Linux comes when the *thread* that started the child ends, so a child started from a
    pool's thread would be killed with that thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: queue.SimpleQueue[tuple[Callable[[], Any], queue.SimpleQueue[Any]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def run(self, start: Callable[[], "subprocess.Popen[bytes]"]) -> "subprocess.Popen[bytes]":
        """Start a process from the thread; its exception, if any, is raised here."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name=f"{self._name} spawner", daemon=True)
            self._thread.start()
        answer: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._tasks.put((start, answer))
        outcome = answer.get()
        if isinstance(outcome, BaseException):
            raise outcome
        process: subprocess.Popen[bytes] = outcome
        return process

    def close(self) -> None:
        """End the thread."""
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


def _has_descriptor(stream: Any) -> bool:
    try:
        return bool(stream.fileno() >= 0)
    except (AttributeError, OSError, ValueError):
        return False
