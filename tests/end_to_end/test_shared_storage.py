"""An API and two workers with a home each, which share a PostgreSQL database and a bucket."""

import io
import shutil
import zipfile
from contextlib import ExitStack
from pathlib import Path

import pytest
import s3fs

from app.settings import Settings
from tests.conftest import NewDatabase
from tests.faults.conftest import worker_process
from tests.service import FAST, draw_images, running, save_model

MODELS = ("first", "second", "third", "fourth")


def zipped(folder: Path) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path in sorted(folder.rglob("*.png")):
            archive.write(path, path.relative_to(folder))
    return content.getvalue()


@pytest.mark.timeout(600)
def test_two_hosts_that_share_a_bucket_do_one_ranking(
    new_postgresql: NewDatabase, store_url: str, tmp_path: Path
) -> None:
    draw_images(tmp_path / "images")
    (tmp_path / "weights").mkdir()
    url = new_postgresql()

    def host(name: str) -> Settings:
        return Settings(
            home=tmp_path / name / "home",
            database_url=url,
            store_url=store_url,
            model_roots=(tmp_path / "weights",),
            models_in_flight_per_ranking=2,
            **FAST,
        )

    for name in ("api", "one", "two"):
        (tmp_path / name).mkdir()
    with ExitStack() as stack:
        service = stack.enter_context(running(host("api"), "--no-worker"))
        for name in ("one", "two"):
            stack.enter_context(worker_process(host(name)))
        answer = service.http.post(
            "/v1/datasets/upload",
            files={"file": ("shapes.zip", zipped(tmp_path / "images"))},
            data={"name": "shapes"},
        )
        assert answer.status_code == 202, answer.text
        dataset = service.until_ready(f"/v1/datasets/{answer.json()['id']}", seconds=240)
        assert (dataset["state"], dataset["image_count"]) == ("ready", 48)
        for seed, name in enumerate(MODELS):
            body = save_model(tmp_path / "weights", name, "test_resnet", num_classes=6, seed=seed)
            service.call("POST", "/v1/models", body)
        question = {"target": "shapes", "models": list(MODELS), "metrics": ["logme"], "ensembles": [{"size": 2}]}
        ranking = service.until_final(service.call("POST", "/v1/rankings", question), seconds=240)
        assert ranking["state"] == "succeeded", ranking
        rows = service.rows(ranking)
        assert {row["state"] for row in rows.values()} == {"succeeded"}
        # Their terms were written by the worker that concluded, in its own home.
        given = service.call(
            "POST",
            f"/v1/rankings/{ranking['id']}/ensembles/scores",
            {"given_ensembles": [["first", "second"]]},
            status=200,
        )
        assert given["ensembles"][0]["problem"] is None
        # A host that starts with nothing does the same again from what the bucket has.
        for name in ("one", "two"):
            shutil.rmtree(tmp_path / name / "home", ignore_errors=True)
        again = service.until_final(service.call("POST", "/v1/rankings", question | {"metrics": ["leep"]}), seconds=240)
        assert again["state"] == "succeeded", again
        assert {row["evidence_reused"] for row in service.rows(again).values()} == {True}
        bucket = s3fs.S3FileSystem(use_listings_cache=False)
        kinds = {
            path.removeprefix(store_url.removeprefix("s3://") + "/").split("/")[0] for path in bucket.find(store_url)
        }
        assert kinds == {"features", "images", "home"}
        for made in (ranking, again):
            service.call("DELETE", f"/v1/rankings/{made['id']}", status=204)
        service.call("DELETE", f"/v1/datasets/{dataset['id']}", status=204)
        assert bucket.find(f"{store_url}/home") == []
