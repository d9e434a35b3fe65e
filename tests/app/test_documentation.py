"""The documentation in a real browser that reaches no other host."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.settings import Settings
from tests.conftest import NewDatabase, local_client, running_api

CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="module")
def settings(new_sqlite: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Of one deployment for all tests here."""
    return Settings(home=tmp_path_factory.mktemp("home"), database_url=new_sqlite(), require_keys=True)


@pytest.fixture(scope="module")
def client(settings: Settings) -> Iterator[TestClient]:
    with local_client(settings) as client:
        yield client


@pytest.fixture
def page(settings: Settings) -> Iterator[Any]:
    """A page of Chromium, for which no name resolves and nothing but the API can be reached."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"there is no {CHROMIUM}: apt-get install chromium")
    open_settings = settings.model_copy(update={"require_keys": False})
    with running_api(open_settings) as address, playwright.sync_playwright() as running:
        browser = running.chromium.launch(
            executable_path=str(CHROMIUM),
            args=["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"],
        )
        page = browser.new_page(base_url=address, viewport={"width": 1200, "height": 1600})
        page.set_default_timeout(60_000)
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        yield page
        if "FORERANK_SCREENSHOTS" in os.environ:
            page.screenshot(path=f"{os.environ['FORERANK_SCREENSHOTS']}/{page.url.rsplit('/', 1)[1][:5]}.png")
        browser.close()


def test_swagger_shows_operations_and_tries_them_out(page: Any) -> None:
    page.goto("/docs")
    page.wait_for_selector(".opblock")
    assert page.locator(".opblock").count() > 20
    block = page.locator("#operations-metrics-get_metric")
    block.locator(".opblock-summary-control").click()
    block.get_by_text("Try it out").click()
    block.get_by_placeholder("metric").fill("leep")
    block.get_by_role("button", name="Execute").click()
    block.locator(".live-responses-table .response-col_status").get_by_text("200").wait_for()
    assert '"leep"' in block.locator(".live-responses-table .highlight-code").first.inner_text()
    assert page.errors == []


def test_redoc_shows_operations(page: Any) -> None:
    page.goto("/redoc")
    page.wait_for_selector('[data-section-id*="create_ranking"]')
    assert page.locator('[data-section-id*="operation/"]').count() > 20
    assert page.errors == []


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_page_lets_no_other_host_in(client: TestClient, path: str) -> None:
    answer = client.get(path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "://" not in answer.text.replace("http://www.w3.org", "")


@pytest.mark.parametrize("path", ["/", "/docs", "/redoc", "/openapi.json", "/docs/assets/swagger-ui-bundle.js"])
def test_documentation_needs_no_key(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 200
    assert client.get("/v1/metrics").status_code == 401


def test_browsers_are_sent_to_the_documentation_and_programs_get_links(client: TestClient) -> None:
    browser = client.get("/", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert (browser.status_code, browser.headers["location"]) == (307, "rankings")
    for accept in ("application/json", "*/*"):
        links = client.get("/", headers={"Accept": accept}).json()["links"]
        assert {client.get(link).status_code for link in links.values()} <= {200, 401, 503}
