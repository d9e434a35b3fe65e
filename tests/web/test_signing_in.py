"""Signing in where keys are asked: what may not be seen is not seen, and no other site can send a form."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from app.db.session import Database
from app.services import keys
from tests.service import Service
from tests.web.conftest import Guarded, unreadable


@pytest.fixture
def page(browser: Browser, guarded: Guarded) -> Iterator[Page]:
    """A fresh browser profile."""
    context: BrowserContext = browser.new_context(base_url=str(guarded[0].http.base_url))
    yield context.new_page()
    context.close()


def sign_in(page: Page, secret: str) -> None:
    page.goto("/datasets")
    expect(page).to_have_url(re.compile("/sign-in"))
    page.get_by_label("API key").fill(secret)
    page.get_by_role("button", name="Sign in").click()


def test_a_wrong_key_is_refused(page: Page) -> None:
    sign_in(page, "frk_wrong")
    expect(page.get_by_role("alert")).to_contain_text("not known")


def test_the_key_leads_back_and_signing_out_ends_it(page: Page, guarded: Guarded) -> None:
    sign_in(page, guarded[1]["owner"])
    expect(page).to_have_url(re.compile("/datasets$"))
    expect(page.get_by_role("link", name="shapes")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    page.goto("/datasets")
    expect(page).to_have_url(re.compile("/sign-in"))


def test_what_belongs_to_another_is_not_seen(page: Page, guarded: Guarded) -> None:
    sign_in(page, guarded[1]["stranger"])
    expect(page.get_by_text("No data set is registered yet.")).to_be_visible()
    answer = page.goto("/datasets/shapes")
    assert answer is not None
    assert answer.status == 404


def test_what_a_scope_may_not_do_is_not_offered(page: Page, guarded: Guarded) -> None:
    sign_in(page, guarded[1]["reader"])
    expect(page.get_by_role("heading", name="Data sets")).to_be_visible()
    expect(page.get_by_role("button", name="Upload")).to_have_count(0)
    answer = page.goto("/rankings/new")
    assert answer is not None
    assert answer.status == 403


def test_what_is_shown_to_people_who_signed_in_is_readable(page: Page, guarded: Guarded) -> None:
    sign_in(page, guarded[1]["owner"])
    expect(page.get_by_role("link", name="shapes")).to_be_visible()
    assert unreadable(page) == {}


def test_the_cookie_is_out_of_reach_of_scripts(page: Page, guarded: Guarded) -> None:
    sign_in(page, guarded[1]["owner"])
    expect(page.get_by_role("heading", name="Data sets")).to_be_visible()
    assert page.evaluate("document.cookie") == ""
    cookie = next(cookie for cookie in page.context.cookies() if cookie["name"] == "forerank_session")
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Lax")
    assert guarded[1]["owner"] not in cookie["value"]


@contextmanager
def signed_in(service: Service, secret: str) -> Iterator[httpx2.Client]:
    """A client that holds the cookie of this key."""
    with httpx2.Client(base_url=service.http.base_url) as client:
        assert client.post("/sign-in", data={"token": form_token(client), "key": secret}).status_code == 303
        yield client


def form_token(client: httpx2.Client) -> str:
    """Of the sign-in page's form."""
    token = re.search(r'name="token" value="([^"]+)"', client.get("/sign-in").text)
    assert token is not None
    return token[1]


def test_a_form_without_the_token_of_its_session_is_refused(guarded: Guarded) -> None:
    service, secrets = guarded
    with signed_in(service, secrets["owner"]) as client:
        answer = client.post("/datasets", data={"location": "builtin:digits", "token": ""})
        assert answer.status_code == 403


def test_the_api_takes_the_cookie_for_reading_only(guarded: Guarded) -> None:
    service, secrets = guarded
    with signed_in(service, secrets["owner"]) as client:
        assert client.get("/v1/datasets").status_code == 200
        assert client.post("/v1/datasets", json={"location": "builtin:digits"}).status_code == 403


def test_a_revoked_key_ends_the_session(guarded: Guarded, tmp_path: Path) -> None:
    service, _ = guarded
    database = Database(service.settings.url)
    with database.transaction() as session:
        secret = keys.create(session, name="fleeting", scopes=["read"])[1]
    with signed_in(service, secret) as client:
        assert client.get("/datasets").status_code == 200
        with database.transaction() as session:
            keys.revoke(session, "fleeting")
        assert client.get("/datasets").status_code == 303
    database.close()


@pytest.mark.parametrize("address", ["https://elsewhere.example/", "//elsewhere.example", "/\\elsewhere.example"])
def test_signing_in_leads_nowhere_else(guarded: Guarded, address: str) -> None:
    service, secrets = guarded
    with httpx2.Client(base_url=service.http.base_url) as client:
        form = {"token": form_token(client), "key": secrets["owner"], "next": address}
        answer = client.post("/sign-in", data=form)
        assert answer.headers["location"] == "/rankings"
