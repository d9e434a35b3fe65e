"""A server of its own for one command: started on a free loopback port, ended with the command, even a killed one."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx2

from app.processes import lifeline
from app.settings import Settings

START_SECONDS = 120
STOP_SECONDS = 60
FORERANK = [sys.executable, "-m", "app.cli"]


@contextmanager
def server(settings: Settings, *, more: Mapping[str, str] | None = None) -> Iterator[str]:
    """The address of a running server with one worker, ready to work.

    Args:
        more: variables of its environment, such as ``FORERANK_DATA_ROOTS``.
    """
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(  # noqa: S603 - ourselves
        [*FORERANK, "serve"],
        stdin=subprocess.PIPE,
        env=os.environ | environment(settings, port) | {lifeline.VARIABLE: "1"} | dict(more or {}),
    )
    try:
        _wait_until_ready(url, process)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=STOP_SECONDS)


def environment(settings: Settings, port: int) -> dict[str, str]:
    """What makes the server quiet, local, and of the same home."""
    return {
        "FORERANK_HOME": str(settings.home),
        "FORERANK_HOST": "127.0.0.1",
        "FORERANK_PORT": str(port),
        "FORERANK_LOG_LEVEL": "warning",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx2.get(f"{url}/readyz", timeout=5).is_success:
                return
        except httpx2.HTTPError:
            pass
        time.sleep(0.3)
    raise RuntimeError("the server did not start; its messages stand above")
