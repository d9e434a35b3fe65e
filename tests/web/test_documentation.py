"""Swagger and ReDoc in a real browser that reaches no other host, on a server that asks for keys."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.web.conftest import Guarded, Watch


@pytest.fixture
def page(browser: Browser, guarded: Guarded) -> Iterator[Page]:
    """A page that complains of nothing and asks no other host."""
    context = browser.new_context(
        base_url=str(guarded[0].http.base_url), viewport={"width": 1200, "height": 1600}, reduced_motion="reduce"
    )
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    watch = Watch(page)
    yield page
    context.close()
    assert watch.errors == []
    own = (str(guarded[0].http.base_url), "data:", "blob:")
    assert [address for address in asked if not address.startswith(own)] == []


def try_out(page: Page, operation: str, **fields: str) -> Locator:
    """Execute an operation with its example and these fields; the status and text of the answer."""
    block = page.locator(f"#operations-{operation}")
    block.locator(".opblock-summary-control").click()
    block.get_by_role("button", name="Try it out").click()
    for name, value in fields.items():
        block.get_by_placeholder(name).fill(value)
    block.get_by_role("button", name="Execute").click()
    return block.locator(".live-responses-table .response").first


def test_swagger_tries_three_routes_out_with_a_key(page: Page, guarded: Guarded) -> None:
    page.goto("/docs")
    page.get_by_role("button", name="Authorize").first.click()
    page.get_by_label("Value:").fill(guarded[1]["owner"])
    page.locator(".modal-ux").get_by_role("button", name="Apply credentials").click()
    page.locator(".modal-ux").get_by_role("button", name="Close").click()
    metric = try_out(page, "metrics-get_metric", metric="leep")
    expect(metric).to_contain_text("200")
    expect(metric).to_contain_text('"leep"')
    listed = try_out(page, "datasets-list_datasets")
    expect(listed).to_contain_text('"shapes"')
    made = try_out(page, "models-create_model")
    expect(made).to_contain_text("202")


def test_redoc_shows_operations(page: Page) -> None:
    page.goto("/redoc")
    page.wait_for_selector('[data-section-id*="create_ranking"]')
    assert page.locator('[data-section-id*="operation/"]').count() > 20
    # The footer appears last; its picture is our own.
    expect(page.get_by_alt_text("redocly logo")).to_have_attribute("src", "docs/assets/favicon.png")
