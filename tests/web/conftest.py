"""A real browser on pages of a real server; without Chromium (`apt-get install chromium`) the tests are skipped."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, sync_playwright

from app.db.session import Database
from app.services import keys
from app.settings import Settings
from tests.conftest import NewDatabase
from tests.service import FAST, Service, draw_images, running, save_model, wait_for

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FEW = 40
"""Images of rankings here: the same evidence serves all of them."""
HOSTILE = "<script>document.title='owned'</script>"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Every other host is unreachable: a page that needs one shows it.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium as the system has it."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium; install it with: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory, new_sqlite: NewDatabase) -> Iterator[Service]:
    """A server with a worker, data sets and models, some of whose names are hostile."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "weights").mkdir()
    draw_images(folder / "images" / "shapes")
    (folder / "images" / "shapes" / "class-0").rename(folder / "images" / "shapes" / "<b>bold class")
    (folder / "images" / "shapes" / "class-1" / "<img src=x>.png").write_bytes(b"not an image")
    settings = Settings(
        home=folder / "home",
        database_url=new_sqlite(),
        data_roots=(folder / "images",),
        model_roots=(folder / "weights",),
        unreadable_share_limit=0.5,
        **FAST,
    )
    with running(settings) as service:
        service.call("POST", "/v1/datasets", {"location": str(folder / "images" / "shapes")})
        for seed, name in enumerate(["small", "second", HOSTILE]):
            body = save_model(folder / "weights", f"model-{seed}", "mobilenetv2_035", num_classes=5, seed=seed)
            service.call("POST", "/v1/models", body | {"name": name, "license": f"license-{seed}"})
        service.until_ready("/v1/datasets/shapes")
        models = [item["id"] for item in service.call("GET", "/v1/models")["items"]]
        service.call("POST", "/v1/zoos", {"name": "everything", "models": models}, status=201)
        yield service


@pytest.fixture(scope="package")
def finished(site: Service) -> dict[str, str]:
    """A ranking that has ended."""
    question = {
        "name": "finished",
        "target": "shapes",
        "zoo": "everything",
        "metrics": ["leep", "tmi", "nce"],
        "sample": {"max_samples": FEW},
        "ensembles": [{"size": 2}],
    }
    ranking: dict[str, str] = site.until_final(site.call("POST", "/v1/rankings", question))
    assert ranking["state"] == "succeeded"
    accuracies = {"small": 0.9, "second": 0.8}
    site.call("POST", f"/v1/rankings/{ranking['id']}/evaluations", {"accuracies": accuracies}, status=201)
    return ranking


@pytest.fixture(scope="package")
def repeated(site: Service, finished: dict[str, str]) -> dict[str, str]:
    """A schedule that has run once."""
    body = {"name": "nightly", "cron": "0 2 * * *", "zoo": "everything", "targets": ["shapes"], "metrics": ["leep"]}
    body |= {"sample": {"max_samples": FEW}}
    schedule: dict[str, str] = site.call("POST", "/v1/schedules", body, status=201)
    run = site.call("POST", "/v1/schedules/nightly/runs")
    address = f"/v1/schedules/nightly/runs/{run['id']}"
    wait_for(lambda: site.call("GET", address)["state"] == "succeeded", what="the end of the run")
    return schedule


@pytest.fixture(scope="package")
def tuned(site: Service) -> dict[str, Any]:
    """A fine-tuning that has ended."""
    few = {"sample": {"max_samples": FEW}, "epochs": 1, "rate_multiples": [1.0], "weights": True}
    body = {"name": "tuned", "target": "shapes", "models": ["small"], **few}
    address = site.call("POST", "/v1/finetunes", body)["links"]["self"]
    wait_for(lambda: site.call("GET", address)["state"] == "succeeded", what="the end of the fine-tuning")
    ended: dict[str, Any] = site.call("GET", address)
    return ended


Guarded = tuple[Service, dict[str, str]]


@pytest.fixture(scope="package")
def guarded(tmp_path_factory: pytest.TempPathFactory, new_sqlite: NewDatabase) -> Iterator[Guarded]:
    """A server that asks for keys, with two owners and a reader."""
    folder = tmp_path_factory.mktemp("guarded")
    draw_images(folder / "images" / "shapes", each=2)
    settings = Settings(
        home=folder / "home",
        database_url=new_sqlite(),
        data_roots=(folder / "images",),
        require_keys=True,
        **FAST,
    )
    database = Database(settings.url)
    secrets = {}
    with database.transaction() as session:
        for name, scope in (("owner", "submit"), ("stranger", "submit"), ("reader", "read")):
            secrets[name] = keys.create(session, name=name, scopes=[scope])[1]
    database.close()
    with running(settings, "--no-worker") as service:
        service.http.headers["X-API-Key"] = secrets["owner"]
        service.call("POST", "/v1/datasets", {"location": str(folder / "images" / "shapes")})
        yield service, secrets


class Watch:
    """What a page complained of."""

    def __init__(self, page: Page) -> None:
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._console)
        page.on("dialog", lambda dialog: self.errors.append(f"dialog: {dialog.message}") or dialog.dismiss())
        page.on("requestfailed", self._failed)

    def _failed(self, request: Request) -> None:
        # A stream of events ends when its page is left.
        if request.failure != "net::ERR_ABORTED":
            self.errors.append(f"failed: {request.url}")

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)


@pytest.fixture
def context(browser: Browser, site: Service) -> Iterator[BrowserContext]:
    """A fresh browser profile."""
    context = browser.new_context(base_url=str(site.http.base_url))
    context.set_default_timeout(20_000)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A page that must not complain."""
    page = context.new_page()
    watch = Watch(page)
    yield page
    assert watch.errors == []


AXE = (Path(__file__).parent / "axe.min.js").read_text()


def unreadable(page: Page) -> dict[str, list[str]]:
    """What is wrong with the page that is shown: narrow and wide, light and dark."""
    faults = {}
    page.evaluate(AXE)
    for width in (360, 1600):
        page.set_viewport_size({"width": width, "height": 900})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            found = _serious_faults(page)
            if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                found.append("the page is wider than the window")
            if found:
                faults[f"{width} px, {scheme}"] = found
    return faults


def _serious_faults(page: Page) -> list[str]:
    """What axe-core calls serious or critical."""
    found = page.evaluate("async () => (await axe.run(document, {resultTypes: ['violations']})).violations")
    return [
        f"{fault['id']}: {node['html'][:200]}"
        for fault in found
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]
