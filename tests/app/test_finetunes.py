"""What may be asked of a fine-tuning, that a row and its job come together, and how one ends; without a worker."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import func, select, text
from starlette.testclient import TestClient

from app.contracts.advice import AdvisedModel, Recommendation
from app.contracts.datasets import BuiltinSpec
from app.contracts.models import TimmSpec
from app.contracts.problems import failure
from app.contracts.states import RankingState, ResourceState, RunPurpose, TrialState
from app.contracts.summary import Summary
from app.db.fine_tuning_tables import FineTuning, FineTuningRun
from app.db.repositories.unfinished import Unfinished
from app.db.session import Database
from app.db.tables import Dataset, Model, Ranking
from app.settings import Settings
from tests.app.test_submission import jobs_of, pointers

Ask = Callable[..., Any]


@pytest.fixture
def models(database: Database) -> dict[str, str]:
    """Name -> id of two models, one of known speed, beside the target ``target`` of 400 images."""
    with database.transaction() as session:
        session.add(
            Dataset(
                name="target",
                state=ResourceState.READY,
                spec=BuiltinSpec(name="digits"),
                class_counts={"a": 200, "b": 200},
                image_count=400,
            )
        )
        rows = [
            Model(
                name="fast", state=ResourceState.READY, spec=TimmSpec(name="a"), images_per_second=100, input_size=192
            ),
            Model(name="unknown", state=ResourceState.READY, spec=TimmSpec(name="b")),
        ]
        session.add_all(rows)
        session.flush()
        return {row.name: row.id for row in rows}


@pytest.fixture
def ask(app_client: TestClient, models: dict[str, str]) -> Ask:
    def post(path: str = "", **changes: Any) -> Any:
        body = {"target": "target", "models": list(models)} | changes
        return app_client.post(
            f"/v1/finetunes{path}", json={key: value for key, value in body.items() if value is not None}
        )

    return post


def test_it_is_accepted_with_its_address_and_its_job(ask: Ask, app_client: TestClient, database: Database) -> None:
    answer = ask()
    assert answer.status_code == 202
    assert jobs_of(database) == 1
    found = app_client.get(answer.headers["location"]).json()
    assert (found["state"], [model["model"] for model in found["models"]]) == ("queued", ["fast", "unknown"])
    assert found["request"]["rate_multiples"] == [1.0, 0.3]


def test_without_a_job_there_is_no_row(ask: Ask, database: Database) -> None:
    schema = "" if database.is_sqlite else "dbos."
    with database.transaction() as session:
        session.execute(text(f"ALTER TABLE {schema}workflow_status RENAME TO away"))
    assert ask().status_code >= 500
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(FineTuning)) == 0


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"target": "nothing"}, "/target"),
        ({"models": ["fast", "nothing"]}, "/models/1"),
        ({"models": ["fast", "fast"]}, "/models/1"),
        ({"models": []}, "/models"),
        ({"models": None}, ""),
        ({"target": None}, ""),
        ({"ranking": "nothing"}, "/ranking"),
        ({"epochs": 0}, "/epochs"),
        ({"test_share": 0.99}, "/test_share"),
        ({"rate_multiples": [1.0, 1.0]}, ""),
        ({"rate_multiples": [1.0, 0.5, 0.2, 0.1]}, "/rate_multiples"),
        ({"rate_multiples": [0.0]}, "/rate_multiples/0"),
        ({"seeds": 21}, "/seeds"),
        ({"size": 8}, "/size"),
    ],
)
def test_a_mistake_is_named(ask: Ask, changes: dict[str, Any], pointer: str) -> None:
    assert pointers(ask(**changes)) == [pointer]


def test_a_second_one_of_the_same_name_is_a_conflict(ask: Ask) -> None:
    assert [ask(name="truth").status_code for _ in range(2)] == [202, 409]


def test_the_estimate_follows_the_measured_speed_and_makes_nothing(ask: Ask, database: Database) -> None:
    answer = ask("/estimates", epochs=10, seeds=2, size=96, test_share=0.25)
    assert answer.status_code == 200
    # 300 images to train on; four passes a step; two rates on three quarters of them; a quarter of the area.
    passes = 4 * 400 + 4 * 10 * 300 * (2 * 0.75 + 2)
    assert answer.json()["seconds"] == pytest.approx(passes / 4 / 100)
    assert (answer.json()["unmeasured"], answer.json()["runs"], answer.json()["images"]) == (["unknown"], 4, 400)
    assert jobs_of(database) == 0


def test_the_estimate_is_null_where_nothing_was_measured(ask: Ask) -> None:
    assert ask("/estimates", models=["unknown"]).json()["seconds"] is None
    assert ask(models=["unknown"]).json()["seconds_expected"] is None


def test_the_advice_of_a_ranking_says_what_is_fine_tuned(
    app_client: TestClient, models: dict[str, str], database: Database
) -> None:
    advised = Recommendation(
        order=tuple(
            AdvisedModel(model_id=key, name=name, score=1, places={}, fine_tune=True) for name, key in models.items()
        ),
        fine_tune=(models["unknown"], models["fast"], "mdl_deleted"),
        evidence={},
        text="",
    )
    with database.transaction() as session:
        target = session.scalars(select(Dataset.id)).one()
        request = {"target": "target", "zoo": None, "metrics": [], "sample": {}, "priority": "normal", "layers": []}
        request |= {"reference": None, "sources": {}, "intervals": None, "ensembles": [], "given_ensembles": []}
        summary = Summary(order=(), recommendation=advised)
        session.add(
            Ranking(
                name="nightly",
                target_id=target,
                request=request,
                priority=1,
                state=RankingState.SUCCEEDED,
                summary=summary,
            )
        )
    answer = app_client.post("/v1/finetunes", json={"ranking": "nightly"})
    assert answer.status_code == 202, answer.text
    assert answer.json()["request"]["names"] == ["unknown", "fast"]
    assert answer.json()["request"]["target"] == "target"


def test_cancelled_it_has_ended_and_can_be_forgotten_with_its_weights(
    ask: Ask, app_client: TestClient, database: Database, settings: Settings
) -> None:
    row = ask().json()
    run = FineTuningRun(
        fine_tuning_id=row["id"],
        number=0,
        model_id=row["request"]["models"][0],
        purpose=RunPurpose.TEST,
        rate_multiple=1.0,
        seed=0,
        weights=f"{row['id']}/0.safetensors",
        state=TrialState.SUCCEEDED,
        accuracy=0.5,
    )
    waiting = FineTuningRun(
        fine_tuning_id=row["id"],
        number=1,
        model_id=row["request"]["models"][1],
        purpose=RunPurpose.TEST,
        rate_multiple=1.0,
        seed=0,
    )
    with database.transaction() as session:
        session.add_all([run, waiting])
    file = settings.fine_tunings_folder / row["id"] / "0.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"numbers")
    path = f"/v1/finetunes/{row['id']}"
    assert app_client.delete(path).status_code == 409
    assert app_client.get(f"{path}/runs/0/weights").content == b"numbers"
    assert app_client.get(f"{path}/runs/1/weights").status_code == 404
    assert app_client.get(f"{path}/runs/7/weights").status_code == 404
    cancelled = app_client.post(f"{path}/cancel").json()
    assert cancelled["state"] == "cancelled"
    assert [model["state"] for model in cancelled["models"]] == ["succeeded", "cut_off"]
    assert app_client.post(f"{path}/cancel").status_code == 409
    assert app_client.delete(path).status_code == 204
    assert not file.exists()
    assert app_client.get(path).status_code == 404


def test_a_job_that_the_engine_lost_ends_as_failed(ask: Ask, app_client: TestClient, database: Database) -> None:
    row = ask().json()
    with database.transaction() as session:
        table, identifier = Unfinished(session).jobs()[row["id"]]
        Unfinished(session).close(table, identifier, failure("internal-error", "lost"))
    found = app_client.get(f"/v1/finetunes/{row['id']}").json()
    assert (found["state"], found["problem"]["detail"]) == ("failed", "lost")
    assert {model["state"] for model in found["models"]} == {"failed"}


def test_the_list_is_by_state_and_in_pages(ask: Ask, app_client: TestClient) -> None:
    first, second = ask().json()["id"], ask().json()["id"]
    app_client.post(f"/v1/finetunes/{first}/cancel")
    queued = app_client.get("/v1/finetunes?state=queued").json()
    assert [item["id"] for item in queued["items"]] == [second]
    page = app_client.get("/v1/finetunes?limit=1").json()
    assert [item["id"] for item in page["items"]] == [second]
    after = app_client.get(f"/v1/finetunes?limit=1&cursor={page['next_cursor']}").json()
    assert ([item["id"] for item in after["items"]], after["next_cursor"]) == ([first], None)
