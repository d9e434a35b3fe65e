"""A table of 300 models: how much of it the browser has to lay out."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from app.db.session import Database
from app.settings import Settings
from benchmarks.pages import MODELS, make_ranking
from tests.conftest import NewDatabase, running_api


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, new_sqlite: NewDatabase) -> Iterator[str]:
    """Of the ranking's page."""
    settings = Settings(home=tmp_path_factory.mktemp("home"), database_url=new_sqlite())
    database = Database(settings.url)
    ranking = make_ranking(database)
    database.close()
    with running_api(settings) as url:
        yield f"{url}/rankings/{ranking}"


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1600, "height": 900})
    page = context.new_page()
    page.goto(address)
    yield page
    context.close()


COUNT_ROWS = """() => {
  window.moved = 0;
  new MutationObserver((records) => {
    for (const record of records) moved += record.addedNodes.length + record.removedNodes.length;
  }).observe(document.querySelector("table[data-table] tbody"), { childList: true });
}"""


def test_few_of_many_rows_are_moved_to_sort_and_to_filter(page: Page) -> None:
    page.evaluate(COUNT_ROWS)
    page.get_by_role("button", name="LogME").click()
    assert 0 < page.evaluate("moved") < MODELS
    page.get_by_label("Filter by name").fill("_1")
    expect(page.get_by_text(f"100 of {MODELS} shown")).to_be_visible()
    assert page.evaluate("moved") < 2 * MODELS


def test_all_rows_come_as_the_table_is_scrolled(page: Page) -> None:
    box = page.get_by_role("region", name="Models", exact=True)
    box.focus()
    for _ in range(MODELS):
        if page.locator("tr[data-model]").count() == MODELS:
            break
        page.keyboard.press("End")
    expect(page.locator("tr[data-model]")).to_have_count(MODELS)


def test_what_is_sorted_and_filtered_is_all_rows(page: Page) -> None:
    page.get_by_label("Filter by name").fill("architecture_29")
    expect(page.get_by_text(f"10 of {MODELS} shown")).to_be_visible()
    page.get_by_role("button", name="Images/s").click()
    first = page.locator("tr[data-model]").first
    expect(first).to_contain_text("architecture_299")
