"""The command line as a client of a running API, and its exit codes."""

import json
import threading
import time
from collections.abc import Callable, Iterator

import httpx2
import pytest
from sqlalchemy import select
from typer.testing import CliRunner, Result

from app.cli import app as commands
from app.contracts.retention import Kind, Removal, Rule
from app.contracts.states import ResourceState, RunState
from app.db.repositories.models import Models
from app.db.retention_tables import RetentionRun
from app.db.session import Database
from app.db.tables import Model
from app.settings import Settings
from tests.conftest import NewDatabase, running_api
from tests.service import free_port

Invoke = Callable[..., Result]


@pytest.fixture(scope="module")
def served(new_sqlite: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Of an API that knows one model."""
    settings = Settings(home=tmp_path_factory.mktemp("cli"), database_url=new_sqlite())
    database = Database(settings.url)
    with database.transaction() as session:
        Models(session).add(Model(name="m", spec={"kind": "timm", "name": "m"}, state=ResourceState.READY))
    database.close()
    return settings


@pytest.fixture(scope="module")
def address(served: Settings) -> Iterator[str]:
    """An API that knows one model and one data set."""
    with running_api(served) as address:
        httpx2.post(f"{address}/v1/datasets", json={"location": "builtin:digits"}).raise_for_status()
        yield address


@pytest.fixture
def invoke(address: str) -> Invoke:
    return lambda *arguments: CliRunner().invoke(commands, [*arguments, "--url", address])


def test_zoo_is_made_and_tells_what_cannot_be_had(invoke: Invoke) -> None:
    made = invoke("zoo", "create", "z", "m", "hf-hub:not a name")
    assert made.exit_code == 0, made.output
    assert "hf-hub:not a name" in made.stderr
    (listed,) = json.loads(invoke("zoo", "list", "-o", "json").stdout)
    assert listed["name"] == "z"
    table = invoke("zoo", "list", "-o", "csv").stdout.splitlines()
    assert table == [
        "name,models,unavailable,id",
        f"z,{len(listed['models'])},{len(listed['unavailable'])},{listed['id']}",
    ]


def test_schedule_lives_from_creation_to_deletion(invoke: Invoke) -> None:
    invoke("zoo", "create", "zs", "m")
    made = invoke("schedule", "create", "nightly", "--cron", "0 2 * * *", "--target", "digits", "--zoo", "zs")
    assert made.exit_code == 0, made.output
    listed = invoke("schedule", "list", "-o", "csv").stdout.splitlines()
    assert listed[0] == "name,state,cron,time_zone,next_run_at,id"
    assert listed[1].startswith("nightly,active,0 2 * * *,UTC,")
    assert "paused" in invoke("schedule", "pause", "nightly").stdout
    assert "active" in invoke("schedule", "resume", "nightly").stdout
    assert invoke("schedule", "delete", "nightly").exit_code == 0
    assert json.loads(invoke("schedule", "list", "-o", "json").stdout) == []


def test_refusal_is_exit_code_3_with_its_reason(invoke: Invoke) -> None:
    refused = invoke("leaderboard", "digits")
    assert (refused.exit_code, "no ranking" in refused.stderr) == (3, True)


def test_no_server_is_exit_code_4() -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    assert CliRunner().invoke(commands, ["zoo", "list", "--url", nowhere]).exit_code == 4


def test_wrong_usage_is_exit_code_2(invoke: Invoke) -> None:
    assert invoke("zoo", "create", "q", "--query", "{not json").exit_code == 2


@pytest.mark.parametrize(("state", "code"), [(RunState.SUCCEEDED, 0), (RunState.FAILED, 1)])
def test_retention_is_asked_for_and_what_would_go_is_printed(
    invoke: Invoke, served: Settings, state: RunState, code: int
) -> None:
    database = Database(served.url)

    def work() -> None:
        """As a worker ends the run that the command waits for."""
        removal = Removal(kind=Kind.RANKINGS, rule=Rule(days=30), removed=2, bytes=1000)
        while True:
            with database.transaction() as session:
                run = session.scalars(select(RetentionRun).where(RetentionRun.state == RunState.QUEUED)).first()
                if run is not None:
                    assert run.dry_run
                    run.state, run.removals = state, (removal,)
                    return
            time.sleep(0.05)

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    printed = invoke("retention", "--dry-run", "-o", "csv")
    worker.join(timeout=10)
    database.close()
    assert printed.exit_code == code, printed.output
    assert printed.stdout.splitlines() == ["kind,days,newest,removed,bytes,kept", "rankings,30.0,,2,1000,0"]
