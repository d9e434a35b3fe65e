"""The child's side: ``python -m app.processes.child FD PARENT``.

It imports its libraries once and answers commands, one JSON object a line, over an inherited socket. It ends when its
parent does, however that happens: by the kernel's parent-death signal on Linux, by the end of the socket everywhere.
"""

import ctypes
import importlib
import json
import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from typing import Any

from app.contracts.progress import Progress, TellProgress
from app.processes.errors import Problem
from app.processes.limits import limit_memory, limit_processor
from app.processes.role import Commands, Role
from app.settings import Settings

PR_SET_PDEATHSIG = 1
PROGRESS_SECONDS = 0.2


def main() -> None:
    """Serve commands until the parent is gone."""
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    _die_with(parent)
    connection = socket.socket(fileno=descriptor)
    # Ctrl-C reaches the whole terminal group, and a service manager may ask all processes to end: the parent decides.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    messages: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, messages), daemon=True).start()

    first = messages.get()
    role, settings = Role(**first["role"]), Settings(**first["settings"])
    # Before any library starts threads: on Linux this is of the calling thread and of those that it starts.
    os.nice(role.niceness)
    commands: Commands = importlib.import_module(role.module).commands(settings)
    limit_memory(role, settings)

    def send(message: dict[str, Any]) -> None:
        connection.sendall(json.dumps(message).encode() + b"\n")

    send({"ready": True})
    while True:
        message = messages.get()
        limit_processor(role, settings)
        send(_answer(commands, message, _Throttled(lambda event: send({"progress": event.plain()}))))


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # The parent may have died before the signal was asked for.
    if os.getppid() != parent:
        os._exit(1)


def _receive(connection: socket.socket, messages: "queue.SimpleQueue[dict[str, Any]]") -> None:
    with connection.makefile("rb") as lines:
        for line in lines:
            messages.put(json.loads(line))
    os._exit(0)


def _answer(commands: Commands, message: dict[str, Any], progress: TellProgress) -> dict[str, Any]:
    try:
        return {"result": commands[message["command"]](message["payload"], progress)}
    except Problem as problem:
        return {"problem": problem.as_dict()}
    except Exception as error:  # what is wrong with one item must not end the process
        traceback.print_exc()
        return {"problem": {"code": "internal-error", "detail": f"{type(error).__name__}: {error}"}}


class _Throttled:
    """Pass on an event at once if its stage begins or ends; otherwise a few times a second."""

    def __init__(self, send: TellProgress) -> None:
        self._send = send
        self._stage = ""
        self._sent = 0.0

    def __call__(self, event: Progress) -> None:
        now = time.monotonic()
        within = event.stage == self._stage and 0 < event.done < event.total
        if within and now - self._sent < PROGRESS_SECONDS:
            return
        self._stage, self._sent = event.stage, now
        self._send(event)


if __name__ == "__main__":
    main()
