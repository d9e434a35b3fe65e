"""The spawned process that owns a device: ``python -m workers.processes.child ROLE FD PARENT``.

It imports its libraries once (as extractor: torch and timm) and answers commands, one JSON object a line, over an
inherited socket. It ends when its parent does, however that happens: the kernel's parent-death signal on Linux, and the
end of the socket everywhere.
"""

import ctypes
import json
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

PR_SET_PDEATHSIG = 1
PROGRESS_SECONDS = 0.2


def main() -> None:
    """Serve commands until the parent is gone."""
    role, descriptor, parent = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    _die_with(parent)
    connection = socket.socket(fileno=descriptor)
    # Ctrl-C reaches the whole terminal group; the parent decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    commands: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, commands), daemon=True).start()

    from app.settings import Settings

    settings = Settings(**commands.get())
    run = _commands(role, settings)

    def send(message: dict[str, Any]) -> None:
        connection.sendall(json.dumps(message).encode() + b"\n")

    send({"ready": True})
    while True:
        message = commands.get()
        send(_answer(run, message, _Throttled(lambda event: send({"progress": event}))))


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # The parent may have died before the signal was asked for.
    if os.getppid() != parent:
        os._exit(1)


def _receive(connection: socket.socket, commands: "queue.SimpleQueue[dict[str, Any]]") -> None:
    with connection.makefile("rb") as lines:
        for line in lines:
            commands.put(json.loads(line))
    os._exit(0)


def _commands(role: str, settings: Any) -> dict[str, Callable[[dict[str, Any], Callable[[dict[str, Any]], None]], Any]]:
    if role == "scorer":
        from workers.scoring.metrics import COMMANDS

        return {
            name: lambda payload, progress, compute=compute: {"value": compute(payload, settings, progress)}
            for name, compute in COMMANDS.items()
        }
    from workers.device import extraction
    from workers.device import loading as models

    extraction.configure_torch(settings)
    return {
        "inspect_model": lambda payload, progress: models.inspect_model(payload["model"], settings).as_dict(),
        "extract": lambda payload, progress: extraction.extract(payload, settings, progress),
        "publish_catalog": lambda payload, progress: {"models": models.publish_catalog()},
    }


def _answer(run: dict[str, Any], message: dict[str, Any], progress: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    from workers.errors import Problem

    try:
        return {"result": run[message["command"]](message["payload"], progress)}
    except Problem as problem:
        return {"result": {"problem": problem.as_dict()}}
    except Exception as error:  # a model must never sink the process
        detail = f"{type(error).__name__}: {error}"
        return {"result": {"problem": {"code": "internal-error", "detail": detail}}}


class _Throttled:
    """Pass on an event at once if its stage begins or ends, else a few times a second."""

    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        self._send = send
        self._stage = ""
        self._sent = 0.0

    def __call__(self, event: dict[str, Any]) -> None:
        now = time.monotonic()
        if event["stage"] == self._stage and event["done"] < event["total"] and now - self._sent < PROGRESS_SECONDS:
            return
        self._stage, self._sent = event["stage"], now
        self._send(event)


if __name__ == "__main__":
    main()
