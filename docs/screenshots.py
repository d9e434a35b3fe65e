"""Takes the pictures of the documentation: `python -m docs.screenshots`, some minutes on two cores.

Starts a server of its own, has it rank the offline zoo for scikit-learn's digits, and opens the pages in the system's
Chromium. With ``--every FOLDER`` it takes each page, wide and narrow, light and dark, for people to judge.
"""

import argparse
import io
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from app.client import FINAL, Client
from app.embedded import FORERANK, server
from app.settings import Settings

PICTURES = Path(__file__).parent / "pictures"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SAMPLE = 400
METRICS = ["nce", "logme", "tmi", "leep", "regularized_h_score"]
WIDE, NARROW = 1600, 360
PICTURE_WIDTH = 1440
# Pages that the documentation shows -> pixels from their top.
HEIGHTS = {
    "rankings": 400,
    "new": 720,
    "ranking": 1500,
    "compare": 640,
    "leaderboard": 900,
    "schedule": 560,
    "finetune": 640,
    "dataset": 900,
    "models": 560,
    "zoo": 560,
    "workers": 300,
}
LIVE_MILLISECONDS = 300_000


def fill(client: Client, models: Path) -> dict[str, str]:
    """Have something on every page; addresses of the pages by name."""
    digits = client.dataset("builtin:digits")
    _until(client, f"/v1/datasets/{digits['id']}")
    _add_models(client, models)
    full = {
        "name": "digits, everything",
        "metrics": METRICS,
        "sample": {"max_samples": SAMPLE},
        "layers": "stages",
        "ensembles": [{"size": 2, "method": "osborn"}, {"size": 2}],
        "trial": {"models": 2, "budget_seconds": 300},
    }
    everything = _rank(client, full)
    accuracies = {"tf_efficientnet_lite0.in1k": 0.969, "mobilenetv2_100.tv_in1k": 0.966}
    client.call("POST", f"/v1/rankings/{everything}/evaluations", {"accuracies": accuracies})
    _rank(client, {"name": "digits, fewer images", "metrics": METRICS, "sample": {"max_samples": 200}})
    cancelled = client.call("POST", "/v1/rankings", _question({"name": "cancelled"}))["id"]
    client.call("POST", f"/v1/rankings/{cancelled}/cancel")
    (models / "lost.safetensors").unlink()
    pool = {"zoo": None, "models": ["lost", "mobilenetv2_100.tv_in1k"], "sample": {"max_samples": 100}}
    failed = _rank(client, {"name": "with a lost file", **pool})
    schedule = _run_twice(client)
    tuned = _fine_tune(client, everything)
    return {
        "rankings": "/rankings",
        "new": f"/rankings/new?target={digits['id']}&zoo=offline&max_samples=1000&ensemble=2&trial=3",
        "ranking": f"/rankings/{everything}",
        "ranking-failed": f"/rankings/{failed}",
        "ranking-cancelled": f"/rankings/{cancelled}",
        "finetunes": "/finetunes",
        "finetune": f"/finetunes/{tuned}",
        "compare": "/compare?first=digits, fewer images&second=digits, everything",
        "leaderboards": "/leaderboards",
        "leaderboard": f"/leaderboards/{digits['id']}",
        "schedules": "/schedules",
        "schedule": f"/schedules/{schedule}",
        "datasets": "/datasets",
        "dataset": f"/datasets/{digits['id']}",
        "models": "/models",
        "model": "/models/tf_efficientnet_lite0.in1k",
        "zoos": "/zoos",
        "zoo": "/zoos/offline",
        "workers": "/workers",
        "error": "/rankings/none",
        "sign-in": "/sign-in",
    }


def _question(more: Mapping[str, Any]) -> dict[str, Any]:
    question = {"target": "digits", "zoo": "offline"} | dict(more)
    return {name: value for name, value in question.items() if value is not None}


def _rank(client: Client, more: Mapping[str, Any]) -> str:
    """The id of a ranking that has ended."""
    ranking = client.call("POST", "/v1/rankings", _question(more))
    while client.call("GET", f"/v1/rankings/{ranking['id']}")["state"] not in FINAL:
        time.sleep(1)
    return str(ranking["id"])


def _until(client: Client, path: str) -> None:
    while client.call("GET", path)["state"] == "pending":
        time.sleep(0.5)


def _add_models(client: Client, models: Path) -> None:
    """The same network at another size, and one whose file will be lost."""
    spec = client.call("GET", "/v1/models/mobilenetv2_100.tv_in1k")["spec"]
    shutil.copy(spec["path"], models / "small.safetensors")
    shutil.copy(spec["path"], models / "lost.safetensors")
    for name, side in (("mobilenetv2_100.at_160px", 160), ("lost", 224)):
        body = {
            "name": name,
            "weights": str(models / ("lost.safetensors" if name == "lost" else "small.safetensors")),
            "architecture": spec["architecture"],
            "arguments": spec["arguments"],
            "source_dataset": "imagenet-1k",
            "license": "Apache-2.0",
            "input": spec["input"] | {"input_size": [3, side, side]},
        }
        client.call("POST", "/v1/models", body)
        _until(client, f"/v1/models/{name}")


def _run_twice(client: Client) -> str:
    """The id of a schedule whose zoo has grown between its two runs."""
    light = {"name": "light", "query": {"search": "lite"}}
    client.call("POST", "/v1/zoos", light)
    body = {
        "name": "nightly",
        "cron": "0 2 * * *",
        "time_zone": "Europe/Berlin",
        "zoo": "light",
        "targets": ["digits"],
        "metrics": METRICS,
        "sample": {"max_samples": SAMPLE},
    }
    schedule = client.call("POST", "/v1/schedules", body)["id"]
    for zoo in ("light", "offline"):
        client.call("PUT", f"/v1/schedules/{schedule}", body | {"zoo": zoo})
        run = client.call("POST", f"/v1/schedules/{schedule}/runs")
        while client.call("GET", f"/v1/schedules/{schedule}/runs/{run['id']}")["state"] in ("queued", "running"):
            time.sleep(1)
    return str(schedule)


def _fine_tune(client: Client, ranking: str) -> str:
    """The id of a fine-tuning, which has ended, of what a ranking advises."""
    few = {"sample": {"max_samples": 200}, "epochs": 2, "rate_multiples": [1.0], "weights": True}
    tuned = client.call("POST", "/v1/finetunes", {"name": "digits, in full", "ranking": ranking, **few})["id"]
    while client.call("GET", f"/v1/finetunes/{tuned}")["state"] not in FINAL:
        time.sleep(1)
    return str(tuned)


@contextmanager
def page_of(browser: Browser, url: str, *, width: int, scheme: Any, height: int = 900) -> Iterator[Page]:
    """A page of this size and colour scheme."""
    context = browser.new_context(
        base_url=url, viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
    )
    yield context.new_page()
    context.close()


def open_page(page: Page, address: str) -> None:
    """Go there, and wait until the charts are drawn and the images are there."""
    page.goto(address, wait_until="networkidle")
    for figure in page.locator("[data-chart]").all():
        figure.locator("canvas").first.wait_for()


def take_pictures(browser: Browser, url: str, pages: Mapping[str, str]) -> None:
    """Those that the documentation shows: as much of each page as says what it is."""
    PICTURES.mkdir(exist_ok=True)
    for name, height in HEIGHTS.items():
        with page_of(browser, url, width=PICTURE_WIDTH, scheme="light", height=height) as page:
            open_page(page, pages[name])
            save(page, name)


def take_live_picture(browser: Browser, url: str, client: Client) -> None:
    """A ranking as it runs, with one model done and another under way."""
    question = _question({"name": "as it runs", "metrics": METRICS, "sample": {"max_samples": 500}})
    ranking = client.call("POST", "/v1/rankings", question)
    with page_of(browser, url, width=PICTURE_WIDTH, scheme="light", height=760) as page:
        page.goto(f"/rankings/{ranking['id']}")
        page.get_by_text("1 of 4 models done").first.wait_for(timeout=LIVE_MILLISECONDS)
        page.locator("tr", has_text="s left").first.wait_for(timeout=LIVE_MILLISECONDS)
        save(page, "live")
    client.call("POST", f"/v1/rankings/{ranking['id']}/cancel")


def save(page: Page, name: str) -> None:
    """What the window shows, in a file of some ten kilobytes."""
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.save(PICTURES / f"{name}.webp", quality=80, method=6)


def take_every(browser: Browser, url: str, pages: Mapping[str, str], into: Path) -> None:
    """All pages from top to bottom, wide and narrow, light and dark."""
    into.mkdir(parents=True, exist_ok=True)
    for width in (WIDE, NARROW):
        for scheme in ("light", "dark"):
            with page_of(browser, url, width=width, scheme=scheme) as page:
                for name, address in pages.items():
                    open_page(page, address)
                    page.screenshot(path=into / f"{name}-{width}-{scheme}.png", full_page=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=Path, metavar="FOLDER", help="take all pages into this folder, for judging")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder) / "home")
        models = Path(folder) / "models"
        models.mkdir()
        environment = {"FORERANK_HOME": str(settings.home)}
        subprocess.run([*FORERANK, "zoo", "install", "offline"], env=os.environ | environment, check=True)  # noqa: S603
        with (
            server(settings, more={"FORERANK_MODEL_ROOTS": str(models)}) as url,
            Client(url) as client,
            sync_playwright() as playwright,
        ):
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            pages = fill(client, models)
            if chosen.every:
                take_every(browser, url, pages, chosen.every)
            else:
                take_pictures(browser, url, pages)
                take_live_picture(browser, url, client)
            browser.close()


if __name__ == "__main__":
    main()
