"""Where the documentation is, and what it lets in; `tests/web/test_documentation.py` opens it in a browser."""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from app.settings import Settings
from tests.conftest import NewDatabase, local_client


@pytest.fixture(scope="module")
def settings(new_sqlite: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Of one deployment for all tests here."""
    return Settings(home=tmp_path_factory.mktemp("home"), database_url=new_sqlite(), require_keys=True)


@pytest.fixture(scope="module")
def client(settings: Settings) -> Iterator[TestClient]:
    with local_client(settings) as client:
        yield client


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
