"""What people do on the pages, done by a real browser."""

import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.service import Service
from tests.web.conftest import FEW, HOSTILE, unreadable

SUM_SHIFTS = """new PerformanceObserver((list) => {
  for (const shift of list.getEntries()) {
    if (!shift.hadRecentInput) sessionStorage.shift = Number(sessionStorage.shift ?? 0) + shift.value;
  }
}).observe({ type: "layout-shift", buffered: true })"""


def test_a_ranking_from_the_form_to_its_end(page: Page, site: Service) -> None:
    page.add_init_script(SUM_SHIFTS)
    page.goto("/rankings/new")
    page.get_by_label("Data set", exact=True).select_option(site.call("GET", "/v1/datasets/shapes")["id"])
    page.get_by_label("Maximum number of images").fill(str(FEW))
    page.get_by_role("button", name="Show the cost first").click()
    expect(page.get_by_role("heading", name="What it will cost")).to_be_visible()
    page.get_by_label("Name", exact=True).fill("by hand")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page).to_have_url(re.compile(r"/rankings/rnk_"))
    expect(page.locator("[data-live=state] .badge")).to_have_text("succeeded", timeout=120_000)
    expect(page.get_by_role("heading", name="by hand")).to_be_visible()
    assert page.locator("tr[data-model]").count() == 3
    # Up to 0.1 is what people do not notice: https://web.dev/articles/cls.
    assert page.evaluate("Number(sessionStorage.shift ?? 0)") < 0.1


def test_the_table_sorts_filters_and_hides(page: Page, finished: dict[str, Any]) -> None:
    page.goto(f"/rankings/{finished['id']}")
    rows = page.locator("tr[data-model]")
    page.get_by_role("button", name="LEEP").click()
    column = page.locator("th[data-column=leep]").evaluate("head => head.cellIndex")
    cells = page.locator(f"tr[data-model] > :nth-child({column + 1})").all()
    values = [float(cell.get_attribute("data-value") or "nan") for cell in cells]
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


@pytest.mark.parametrize(
    "address",
    [
        "/rankings",
        "/rankings/new",
        "/rankings/new?target=shapes&zoo=everything",
        "/rankings/finished",
        "/compare",
        "/finetunes",
        "/finetunes/tuned",
        "/leaderboards",
        "/leaderboards/shapes",
        "/schedules",
        "/schedules/nightly",
        "/datasets",
        "/datasets/shapes",
        "/models",
        "/models/small",
        "/zoos",
        "/zoos/everything",
        "/workers",
        "/sign-in",
    ],
)
def test_a_page_is_readable(page: Page, repeated: dict[str, Any], tuned: dict[str, Any], address: str) -> None:
    page.goto(address)
    assert unreadable(page) == {}


def test_a_comparison_is_readable(
    page: Page, site: Service, finished: dict[str, Any], repeated: dict[str, Any]
) -> None:
    newest = site.call("GET", "/v1/rankings?state=succeeded&limit=1")["items"][0]["id"]
    page.goto(f"/compare?first=finished&second={newest}")
    expect(page.get_by_role("row")).to_have_count(4)
    assert unreadable(page) == {}
    address = page.locator("p.exports").get_by_role("link", name="JSON").get_attribute("href")
    assert address is not None
    assert len(site.call("GET", address)["models"]) == 3


def test_what_was_fine_tuned_is_shown_and_its_weights_are_had(page: Page, tuned: dict[str, Any]) -> None:
    page.goto("/finetunes/tuned")
    accuracy = f"{100 * tuned['models'][0]['accuracy']:.1f}"
    expect(page.get_by_role("region", name="Models").get_by_role("cell", name=accuracy)).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="safetensors").click()
    assert download.value.path().stat().st_size > 0


def test_what_a_ranking_advises_is_fine_tuned_from_its_page(page: Page, finished: dict[str, Any]) -> None:
    page.goto("/rankings/finished")
    page.get_by_role("button", name="Fine-tune what is advised").click()
    expect(page).to_have_url(re.compile(r"/finetunes/ftn_"))
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".badge").first).to_have_text("cancelled")


def test_the_first_page_is_light(page: Page, finished: dict[str, Any]) -> None:
    sizes: list[int] = []
    page.on("response", lambda response: sizes.append(len(response.body())))
    page.goto("/rankings")
    assert sum(sizes) < 200_000


def test_the_chart_shows_the_axes_that_are_asked_for(page: Page, finished: dict[str, Any]) -> None:
    page.goto("/rankings/finished")
    page.get_by_label("Score", exact=True).select_option("tmi")
    page.get_by_label("Against", exact=True).select_option("images_per_second")
    page.get_by_role("button", name="Draw").click()
    expect(page.get_by_label("Against", exact=True)).to_have_value("images_per_second")
    expect(page.get_by_text("Up and to the right is better.")).to_be_visible()


def test_a_table_is_saved_as_csv_as_it_is_shown(page: Page, finished: dict[str, Any]) -> None:
    page.goto("/models")
    page.get_by_label("Filter").fill("second")
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    lines = download.value.path().read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["Name", "second"]


def test_models_are_ranked_for_a_data_set_from_its_page(page: Page, finished: dict[str, Any]) -> None:
    page.goto("/datasets/shapes")
    page.get_by_role("link", name="Rank models for it").click()
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.get_by_label("Data set", exact=True).locator("option:checked")).to_contain_text("shapes")
    expect(page.get_by_label("Zoo").locator("option:checked")).to_contain_text("everything")


def test_a_zoo_that_is_gone_is_told_in_the_form(page: Page, finished: dict[str, Any]) -> None:
    page.goto("/rankings/new?target=shapes&zoo=gone")
    expect(page.get_by_role("alert")).to_contain_text("there is no zoo 'gone'")


def test_the_form_asks_the_same_again(page: Page, finished: dict[str, Any]) -> None:
    page.goto("/rankings/finished")
    page.get_by_role("link", name="Ask again").click()
    expect(page.get_by_role("heading", name="What it will cost")).to_be_visible()
    expect(page.get_by_label("Choose the best ensemble of")).to_have_value("2")
    expect(page.get_by_role("checkbox", name="TMI")).to_be_checked()


def test_a_schedule_is_paused_where_its_zoo_is_shown(page: Page, repeated: dict[str, Any]) -> None:
    page.goto("/zoos/everything")
    expect(page.get_by_role("row", name="nightly")).to_contain_text("succeeded")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("None: it is paused.")).to_be_visible()
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()


def test_a_target_without_a_ranking_has_an_empty_leaderboard(page: Page, site: Service) -> None:
    site.call("POST", "/v1/datasets", {"location": "builtin:digits"})
    page.goto("/leaderboards/digits")
    expect(page.get_by_text("No ranking of it has succeeded yet.")).to_be_visible()


def test_a_ranking_is_asked_for_by_keyboard_alone(page: Page, site: Service, finished: dict[str, Any]) -> None:
    page.goto("/rankings")
    press_until_focused(page, page.get_by_role("link", name="New ranking"))
    page.keyboard.press("Enter")
    press_until_focused(page, page.get_by_label("Data set", exact=True))
    page.keyboard.type("shapes")
    press_until_focused(page, page.get_by_label("Zoo"))
    page.keyboard.type("everything")
    press_until_focused(page, page.get_by_label("Maximum number of images"))
    page.keyboard.press("Control+a")
    page.keyboard.type("30")
    press_until_focused(page, page.get_by_label("Name", exact=True))
    page.keyboard.type("by keys")
    press_until_focused(page, page.get_by_role("button", name="Start", exact=True))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="by keys")).to_be_visible()
    press_until_focused(page, page.get_by_role("button", name="Cancel"))
    page.keyboard.press("Enter")
    expect(page.locator("[data-live=state] .badge")).to_have_text("cancelled")
    sample = site.call("GET", "/v1/rankings/by keys")["target"]
    assert sample["name"] == "shapes"


def press_until_focused(page: Page, wanted: Locator) -> None:
    """Press Tab until it reaches this element."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if wanted.evaluate("element => element === document.activeElement"):
            return
    raise AssertionError(f"Tab does not reach {wanted}")


def test_what_does_not_exist_is_a_page_too(context: BrowserContext, site: Service) -> None:
    page = context.new_page()
    answer = page.goto("/rankings/none")
    assert answer is not None
    assert answer.status == 404
    expect(page.get_by_text("GET /v1/rankings lists them")).to_be_visible()
