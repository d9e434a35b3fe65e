"""What the log tells of errors: enough to find the line, no secret, and not much of it."""

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import structlog

from app.db.session import Database
from app.logging import CHARACTERS, configure
from app.settings import Settings
from tests.app.test_keys import make_key
from tests.conftest import NewDatabase
from tests.service import running, wait_for

PASSWORD = "correct-horse-battery-staple"
SECRET = "frk_" + "s3cr3t-" * 6
SIGNING_SECRET = "whsec_" + "q7Zr+/k2" * 4


@pytest.fixture(params=["console", "json"])
def log(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """Logging as it is configured for a deployment; gives what was written."""
    sink = io.StringIO()
    monkeypatch.setattr(sys, "stderr", sink)
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    configure(Settings(log_format=request.param))
    yield sink.getvalue
    structlog.reset_defaults()
    root.handlers = handlers
    root.setLevel(level)


def fail(secret: str) -> None:
    arrays = ["x" * 1000] * 1000
    if len(arrays) == 1000:
        raise RuntimeError("it broke here")


@pytest.mark.parametrize("library", [False, True], ids=["ours", "of a library"])
def test_traceback_names_the_line_and_no_variable(log: Callable[[], str], library: bool) -> None:
    try:
        fail(SECRET)
    except RuntimeError:
        logger = logging.getLogger("library") if library else structlog.stdlib.get_logger("ours")
        logger.exception("failed")
    assert "it broke here" in log()
    assert "in fail" in log()
    assert SECRET not in log()
    assert len(log()) < 3000


def test_deep_recursion_and_long_chains_are_cut(log: Callable[[], str]) -> None:
    def deep(number: int) -> None:
        try:
            if number == 0:
                raise ValueError("m" * 1_000_000)
            deep(number - 1)
        except ValueError as error:
            raise ValueError("m" * 1_000_000) from error

    try:
        deep(100)
    except ValueError:
        structlog.stdlib.get_logger("ours").exception("failed")
    assert len(log()) < 2 * CHARACTERS


@pytest.mark.parametrize(
    "text",
    [
        f"the header was {SECRET}",
        f"signed with {SIGNING_SECRET}",
        f"cannot reach postgresql+psycopg://forerank:{PASSWORD}@host/database",
        f"connection to host=h user=u password={PASSWORD} dbname=d failed",
        f"connect(password='{PASSWORD}')",
        f'{{"password": "{PASSWORD}"}}',
    ],
)
def test_secret_in_a_message_is_taken_out(log: Callable[[], str], text: str) -> None:
    structlog.stdlib.get_logger("ours").warning(text, detail=text, nested={"inside": text})
    try:
        raise RuntimeError(text)
    except RuntimeError:
        logging.getLogger("library").exception("failed")
    assert PASSWORD not in log()
    assert SECRET not in log()
    assert SIGNING_SECRET not in log()
    assert "***" in log()


def test_json_lines_stay_json(log: Callable[[], str]) -> None:
    structlog.stdlib.get_logger("ours").warning('password="x" ' + '"' * 2 * CHARACTERS, other=SECRET)
    if log().startswith("{"):
        assert json.loads(log())["other"] == "frk_***"


def test_settings_show_no_password() -> None:
    settings = Settings(database_url=f"postgresql://forerank:{PASSWORD}@host/database")
    for shown in (repr(settings), str(settings), settings.model_dump_json(), str(settings.url), repr(settings.url)):
        assert PASSWORD not in shown
    assert settings.environment()["FORERANK_DATABASE_URL"].count(PASSWORD) == 1


@pytest.mark.parametrize("url", [f"postgresql//forerank:{PASSWORD}@host", f"postgresql://forerank:{PASSWORD}@host:x/d"])
def test_refused_settings_do_not_quote_the_url(url: str) -> None:
    with pytest.raises(ValueError, match="database_url") as caught:
        Settings(database_url=url)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_service_whose_database_breaks_writes_no_secret(
    log_format: str, new_postgresql: NewDatabase, tmp_path: Path
) -> None:
    """API and worker lose a table, then the whole database; then all that they wrote is searched."""
    url = new_postgresql()
    head, _, options = url.partition("?")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS forerank")
        connection.execute(f"CREATE ROLE forerank SUPERUSER LOGIN PASSWORD '{PASSWORD}'")
    name = head.rsplit("/", 1)[1]
    settings = Settings(
        home=tmp_path / "home",
        database_url=f"postgresql://forerank:{PASSWORD}@/{name}?{options}",
        require_keys=True,
        log_format=log_format,
        heartbeat_seconds=0.2,
        heartbeat_limit_seconds=2,
        polling_seconds=0.1,
    )
    database = Database(settings.url)
    secret = make_key(database, "admin")
    database.close()
    with running(settings) as service:
        service.http.headers["X-API-Key"] = secret
        assert service.http.get("/v1/datasets").status_code == 200
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("ALTER TABLE api_keys RENAME TO gone_keys")
            connection.execute("ALTER TABLE workers RENAME TO gone_workers")
        assert service.http.get("/v1/datasets").status_code == 500
        (log,) = tmp_path.glob("serve-*.log")
        wait_for(lambda: log.read_text().count("workers") > 3, what="the worker's complaint")
        with psycopg.connect(url.replace(f"/{name}?", "/postgres?"), autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        assert service.http.get("/v1/datasets").status_code == 503
        with psycopg.connect(url.replace(f"/{name}?", "/postgres?"), autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    written = log.read_text()
    assert "Traceback" in written
    assert PASSWORD not in written
    assert secret not in written
    assert max(len(line) for line in written.splitlines()) < 2 * CHARACTERS
