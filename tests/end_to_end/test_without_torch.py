"""The API needs none of the worker's libraries: its image is small, and its processes stay light."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.settings import Settings
from tests.conftest import NewDatabase
from tests.service import FAST, Service, running

ABSENT = """
import importlib.abc, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "timm"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""


@pytest.fixture
def service(new_sqlite: NewDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(ABSENT)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    (tmp_path / "weights").mkdir()
    settings = Settings(home=tmp_path / "home", database_url=new_sqlite(), model_roots=(tmp_path / "weights",), **FAST)
    with running(settings, "--no-worker") as service:
        yield service


def test_a_ranking_is_accepted(service: Service) -> None:
    (service.settings.model_roots[0] / "m.safetensors").touch()
    weights = str(service.settings.model_roots[0] / "m.safetensors")
    service.call("POST", "/v1/datasets", {"location": "builtin:digits"})
    service.call("POST", "/v1/models", {"name": "m", "weights": weights, "architecture": "test_resnet"})
    ranking = service.call("POST", "/v1/rankings", {"target": "digits", "models": ["m"]})
    assert ranking["state"] == "queued"


def test_every_metric_is_listed(service: Service) -> None:
    assert "leep" in {metric["name"] for metric in service.call("GET", "/v1/metrics")}


def test_it_is_not_ready_without_a_worker(service: Service) -> None:
    assert service.http.get("/readyz").status_code == 503
