"""The running server against its own OpenAPI document, with every check that schemathesis has."""

import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from app.db.repositories.rankings import Rankings
from app.db.repositories.workers import Workers
from app.db.session import Database
from app.db.tables import RankingState
from app.settings import Settings
from tests.app.test_keys import make_key
from tests.conftest import running_api

EXAMPLES = 5
CONFIGURATION = """
# A request may be right by its schema and wrong by the facts: a model that does not exist, an archive that is none.
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "304", "400", "401", "403", "404", "409", "413", "422", "429"]
"""


def _check(
    address: str,
    key: str,
    folder: Path,
    *options: str,
    phases: str = "examples,coverage,fuzzing",
    configuration: str = CONFIGURATION,
) -> None:
    (folder / "schemathesis.toml").write_text(configuration)
    answer = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            *("--config-file", str(folder / "schemathesis.toml")),
            *("run", f"{address}/openapi.json", "--checks", "all", "--phases", phases),
            *("--max-examples", str(EXAMPLES), "--seed", "1", "--request-timeout", "20", "--warnings", "off"),
            *("--continue-on-failure", "--header", f"X-API-Key: {key}", *options),
        ],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert answer.returncode == 0, answer.stdout


@pytest.fixture
def key(database: Database) -> str:
    """An admin's key, on a deployment whose worker seems to live."""
    with database.transaction() as session:
        workers = Workers(session)
        workers.register(identifier="w", host="h", boot="b", pid=1, device="cpu")
    return make_key(database, "admin")


def test_server_does_what_its_document_says(settings: Settings, key: str, tmp_path: Path) -> None:
    patient = settings.model_copy(
        update={
            "require_keys": True,
            "rate_limit": "100000/minute",
            "submission_limit": "100000/minute",
            "heartbeat_limit_seconds": 3600,
        }
    )
    with running_api(patient) as address:
        _check(address, key, tmp_path)


def test_finished_ranking_is_as_the_document_says(
    settings: Settings, database: Database, key: str, tmp_path: Path
) -> None:
    guarded = settings.model_copy(update={"require_keys": True, "rate_limit": "100000/minute"})
    with running_api(guarded) as address:
        with httpx2.Client(base_url=address, headers={"X-API-Key": key}) as client:
            client.post("/v1/datasets", json={"location": "builtin:digits"})
            client.post("/v1/models", json={"model": "resnet18.a1_in1k"})
            body = {"target": "digits", "models": ["resnet18.a1_in1k"], "name": "done"}
            ranking = client.post("/v1/rankings", json=body).json()["id"]
        with database.transaction() as session:
            Rankings(session).move(ranking, RankingState.SUCCEEDED)
        _check(
            address,
            key,
            tmp_path,
            *("--include-path-regex", "^/v1/rankings/", "--include-method", "GET"),
            phases="examples,coverage",
            configuration=f'[parameters]\nranking = "{ranking}"\n{CONFIGURATION}',
        )
