"""What people do on the pages, done by a real browser."""

import re
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.service import Service
from tests.web.conftest import HOSTILE, serious_faults

PAGES = ["/rankings", "/rankings/new", "/datasets", "/models", "/zoos", "/workers", "/leaderboards", "/schedules"]


def test_a_ranking_from_the_form_to_its_end(page: Page, site: Service) -> None:
    page.goto("/rankings/new")
    page.get_by_label("Data set", exact=True).select_option(site.call("GET", "/v1/datasets/shapes")["id"])
    page.get_by_label("At most so many images").fill("40")
    page.get_by_role("button", name="Show the cost first").click()
    expect(page.get_by_role("heading", name="What it will cost")).to_be_visible()
    page.get_by_label("Name", exact=True).fill("by hand")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page).to_have_url(re.compile(r"/rankings/rnk_"))
    expect(page.locator("[data-live=state] .badge")).to_have_text("succeeded", timeout=120_000)
    expect(page.get_by_role("heading", name="by hand")).to_be_visible()
    assert page.locator("tr[data-model]").count() == 3


def test_the_table_sorts_filters_and_hides(page: Page, finished: dict[str, Any]) -> None:
    page.goto(f"/rankings/{finished['id']}")
    rows = page.locator("tr[data-model]")
    page.get_by_role("button", name="LEEP").click()
    values = [float(row.get_attribute("data-value") or "nan") for row in page.locator("tbody td:nth-child(4)").all()]
    assert values == sorted(values, reverse=True)
    page.get_by_label("Filter by name").fill("sec")
    expect(rows.filter(visible=True)).to_have_count(1)
    page.get_by_label("Filter by name").fill("")
    page.get_by_role("combobox", name="License").select_option("license-0")
    expect(rows.filter(visible=True)).to_have_count(1)
    page.get_by_role("combobox", name="License").select_option("")
    page.get_by_text("Columns").click()
    page.get_by_role("checkbox", name="NCE", exact=True).uncheck()
    expect(page.get_by_role("columnheader", name="NCE")).to_have_count(0)
    page.reload()
    expect(page.get_by_role("columnheader", name="NCE")).to_have_count(0)


def test_charts_are_drawn_without_evaluating_text(page: Page, finished: dict[str, Any]) -> None:
    page.goto(f"/rankings/{finished['id']}")
    expect(page.locator("[data-chart] canvas").first).to_be_visible()


def test_hostile_names_are_text(page: Page, finished: dict[str, Any]) -> None:
    page.goto(f"/rankings/{finished['id']}")
    expect(page.get_by_role("link", name=HOSTILE)).to_be_visible()
    page.goto("/datasets/shapes")
    expect(page.get_by_text("<b>bold class").first).to_be_visible()
    expect(page.get_by_text("<img src=x>.png")).to_be_visible()
    assert page.title() == "shapes · Forerank"


def test_an_archive_is_uploaded(page: Page, site: Service, tmp_path: Path) -> None:
    archive = tmp_path / "signs.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in (site.settings.data_roots[0] / "shapes").rglob("[0-9].png"):
            file.write(path, Path(path.parent.name) / path.name)
    page.goto("/datasets")
    page.get_by_label("Archive", exact=True).set_input_files(archive)
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("heading", name="signs")).to_be_visible()
    expect(page.locator(".badge").first).to_have_text("ready", timeout=60_000)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1600])
def test_every_page_is_readable(
    context: BrowserContext, page: Page, finished: dict[str, Any], width: int, scheme: Any
) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    faults = {}
    for address in [*PAGES, f"/rankings/{finished['id']}", "/datasets/shapes", "/models/small", "/zoos/everything"]:
        page.goto(address)
        found = serious_faults(page)
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            found.append("the page is wider than the window")
        if found:
            faults[address] = found
    assert faults == {}


def test_the_first_page_is_light_and_fast(page: Page, finished: dict[str, Any]) -> None:
    sizes: list[int] = []
    page.on("response", lambda response: sizes.append(len(response.body())))
    page.goto("/rankings")
    assert sum(sizes) < 200_000


def test_a_ranking_is_reached_by_keyboard_alone(page: Page, finished: dict[str, Any]) -> None:
    page.goto("/rankings")
    link = page.get_by_role("link", name="finished")
    deadline = time.monotonic() + 20
    while not link.evaluate("element => element === document.activeElement"):
        assert time.monotonic() < deadline
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="finished")).to_be_visible()


def test_what_does_not_exist_is_a_page_too(context: BrowserContext, site: Service) -> None:
    page = context.new_page()
    answer = page.goto("/rankings/none")
    assert answer is not None
    assert answer.status == 404
    expect(page.get_by_text("GET /v1/rankings lists them")).to_be_visible()
