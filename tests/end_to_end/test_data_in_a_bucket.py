"""A folder in a bucket, from its registration to a ranking, while no child process has the credentials."""

from pathlib import Path

import pytest
import s3fs

from app.settings import Settings
from tests.conftest import NewDatabase
from tests.service import FAST, command_line, draw_images, running, save_model


@pytest.mark.timeout(300)
def test_a_ranking_on_a_data_set_in_a_bucket(new_sqlite: NewDatabase, store_url: str, tmp_path: Path) -> None:
    draw_images(tmp_path / "images")
    (tmp_path / "weights").mkdir()
    s3fs.S3FileSystem().put(str(tmp_path / "images"), f"{store_url}/shapes", recursive=True)
    settings = Settings(
        home=tmp_path / "home",
        database_url=new_sqlite(),
        data_urls=(store_url,),
        model_roots=(tmp_path / "weights",),
        **FAST,
    )
    with running(settings) as service:
        made = service.call("POST", "/v1/datasets", {"location": f"{store_url}/shapes"})
        dataset = service.until_ready(f"/v1/datasets/{made['id']}", seconds=120)
        assert (dataset["state"], dataset["image_count"]) == ("ready", 48), dataset
        service.call("POST", "/v1/models", save_model(tmp_path / "weights", "m", "test_resnet", num_classes=6))
        question = {"target": "shapes", "models": ["m"], "metrics": ["logme"]}
        ranking = service.until_final(service.call("POST", "/v1/rankings", question), seconds=120)
        assert (ranking["state"], service.rows(ranking)["m"]["state"]) == ("succeeded", "succeeded"), ranking
        children = [pid for pid in service.processes() if b"app.processes.child" in command_line(pid)]
        environments = [Path(f"/proc/{pid}/environ").read_bytes() for pid in children]
        assert environments
        assert not any(b"AWS_" in environment for environment in environments)
