"""What a key stores: counted, shown, bounded, and freed by deleting."""

import threading
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from app.contracts.datasets import BuiltinSpec
from app.contracts.models import TimmSpec
from app.contracts.states import ResourceState, RunPurpose, TrialState
from app.db.fine_tuning_tables import FineTuningRun
from app.db.repositories.datasets import Datasets
from app.db.repositories.finetunes import FineTunings
from app.db.session import Database
from app.db.tables import Dataset, Model
from app.errors import QuotaExceeded
from app.paths import upload_folder
from app.services import usage
from app.settings import Settings
from tests.app.test_frame import problem
from tests.app.test_keys import make_key
from tests.app.test_uploads import GOOD, left_on_disk, send, zipped
from tests.conftest import local_client

STORED = sum(map(len, GOOD.values()))


def bounded(settings: Settings, *, number: float) -> Settings:
    """Room for so many uploads of `GOOD`."""
    return settings.model_copy(update={"owner_quota_gigabytes": number * STORED / 1e9})


def test_uploads_are_counted_and_free_their_bytes_when_deleted(app_client: TestClient) -> None:
    stored = send(app_client, zipped(GOOD)).json()
    assert stored["stored_bytes"] == STORED
    assert app_client.get("/v1/usage").json() == {
        "owner": "local",
        "used_bytes": STORED,
        "quota_bytes": None,
        "free_bytes": None,
        "largest": [{"kind": "dataset", "id": stored["id"], "name": stored["name"], "bytes": STORED}],
    }
    assert app_client.delete(f"/v1/datasets/{stored['id']}").status_code == 204
    assert app_client.get("/v1/usage").json()["used_bytes"] == 0


def test_upload_over_the_quota_is_refused_with_what_could_be_deleted(settings: Settings) -> None:
    with local_client(bounded(settings, number=1.5)) as client:
        first = send(client, zipped(GOOD)).json()
        before = left_on_disk(settings)
        document = problem(send(client, zipped(GOOD), file_name="again.zip"), 507)
        assert document["type"] == "urn:forerank:problem:quota-exceeded"
        assert "FORERANK_OWNER_QUOTA_GIGABYTES" in document["detail"]
        assert first["id"] in document["detail"]
        assert left_on_disk(settings) == before
        assert client.get("/v1/usage").json()["free_bytes"] == int(1.5 * STORED) - STORED
        client.delete(f"/v1/datasets/{first['id']}")
        assert send(client, zipped(GOOD), file_name="again.zip").status_code == 202


def test_quota_is_of_each_key(settings: Settings, database: Database) -> None:
    keys = [{"X-API-Key": make_key(database, "read", "submit", name=name)} for name in ("a", "b")]
    with local_client(bounded(settings, number=1.5)) as client:
        assert [send(client, zipped(GOOD), headers=key).status_code for key in keys] == [202, 202]
        problem(send(client, zipped(GOOD), headers=keys[0], file_name="again.zip"), 507)


def test_archive_that_cannot_fit_is_refused_by_its_length(settings: Settings, database: Database) -> None:
    small = bounded(settings, number=1)
    usage.check_before(database, small, "local", sent=1_000_000)
    with pytest.raises(QuotaExceeded):
        usage.check_before(database, small, "local", sent=2_000_000)


def test_retry_of_an_upload_gets_its_answer_though_nothing_more_fits(settings: Settings) -> None:
    headers = {"Idempotency-Key": "up-1"}
    with local_client(bounded(settings, number=1)) as client:
        first, again = (send(client, zipped(GOOD), headers=headers) for _ in range(2))
    assert (first.status_code, again.json()) == (202, first.json())


def test_of_two_uploads_at_once_one_is_refused(settings: Settings, database: Database) -> None:
    small = bounded(settings, number=1.5)
    meeting = threading.Barrier(2)
    outcomes: list[str] = []

    def store(name: str) -> None:
        meeting.wait()
        try:
            with database.transaction() as session:
                usage.check(session, small, "local", adding=STORED)
                spec = {"kind": "folder", "path": f"/{name}", "uploaded": True}
                Datasets(session).add(Dataset(name=name, spec=spec, stored_bytes=STORED))
            outcomes.append("stored")
        except QuotaExceeded:
            outcomes.append("refused")

    threads = [threading.Thread(target=store, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["refused", "stored"]


def test_what_another_key_stores_is_for_admins(app_client: TestClient, database: Database) -> None:
    key = {"X-API-Key": make_key(database, "read")}
    problem(app_client.get("/v1/usage?owner=local", headers=key), 403)
    assert app_client.get("/v1/usage?owner=key_1").json()["owner"] == "key_1"


def test_uploads_of_an_older_version_are_counted_at_the_start(settings: Settings, database: Database) -> None:
    with database.transaction() as session:
        spec = {"kind": "folder", "path": "/", "uploaded": True}
        identifier = Datasets(session).add(Dataset(name="old", spec=spec)).id
    image: Path = upload_folder(settings, identifier) / "cats" / "1.png"
    image.parent.mkdir(parents=True)
    image.write_bytes(bytes(1234))
    with local_client(settings) as client:
        assert client.get("/v1/usage").json()["used_bytes"] == 1234


def test_fine_tuned_weights_count_and_are_refused_where_they_do_not_fit(settings: Settings, database: Database) -> None:
    with database.transaction() as session:
        spec = BuiltinSpec(name="digits")
        counts = {"a": 200, "b": 200}
        target = Dataset(name="t", spec=spec, state=ResourceState.READY, class_counts=counts, image_count=400)
        model = Model(name="m", spec=TimmSpec(name="m"), state=ResourceState.READY, weight_bytes=1000)
        session.add_all([target, model])
        session.flush()
    body = {"target": "t", "models": ["m"], "weights": True}
    with local_client(settings.model_copy(update={"owner_quota_gigabytes": 1500 / 1e9})) as client:
        kept = client.post("/v1/finetunes", json=body)
        assert kept.status_code == 202, kept.text
        weights = settings.fine_tunings_folder / kept.json()["id"] / "1.safetensors"
        weights.parent.mkdir(parents=True)
        weights.write_bytes(bytes(1000))
        with database.transaction() as session:
            run = FineTuningRun(
                fine_tuning_id=kept.json()["id"],
                number=1,
                model_id="m",
                purpose=RunPurpose.TEST,
                rate_multiple=1.0,
                seed=0,
                state=TrialState.SUCCEEDED,
                weights=f"{weights.parent.name}/{weights.name}",
            )
            FineTunings(session).start([run])
        assert client.get("/v1/usage").json()["used_bytes"] == 1000
        document = problem(client.post("/v1/finetunes", json=body), 507)
        assert f"/v1/finetunes/{kept.json()['id']}" in document["detail"]
        assert client.post("/v1/finetunes", json={**body, "weights": False}).status_code == 202
