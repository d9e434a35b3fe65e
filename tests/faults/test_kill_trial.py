"""kill -9 in the middle of a trial: folds that were predicted are not predicted again, and the advice comes."""

import os
import signal
from typing import Any

import pytest

from app.settings import Settings
from tests.conftest import NewDatabase
from tests.service import Service, descendants, is_running, running, save_model, wait_for

pytestmark = pytest.mark.timeout(900)
MODELS = ["first", "second"]


@pytest.fixture
def database_url(new_postgresql: NewDatabase) -> str:
    """Of one kind; the drill that kills a fine-tuning takes the other."""
    return new_postgresql()


def submit(service: Service) -> dict[str, Any]:
    service.call("POST", "/v1/datasets", {"location": str(service.settings.data_roots[0] / "shapes")})
    for seed, name in enumerate(MODELS):
        body = save_model(service.settings.model_roots[0], name, "test_resnet", num_classes=10, seed=seed)
        service.call("POST", "/v1/models", body)
    trial = {"folds": 3, "epochs": 25, "size": 64, "winners": 2}
    ranking: dict[str, Any] = service.call(
        "POST", "/v1/rankings", {"target": "shapes", "models": MODELS, "trial": trial}
    )
    return ranking


def in_the_middle(service: Service, ranking: dict[str, Any]) -> bool:
    """Both models have a fold, and another fold is in its steps."""
    trials = [row["trial"] for row in service.rows(ranking).values() if row["trial"]]
    done = [trial["folds_done"] for trial in trials]
    return len(done) == 2 and min(done) >= 1 and any(trial["stage"] == "fine-tuning" for trial in trials)


def entries(settings: Settings) -> dict[str, float]:
    """When each stored entry was written."""
    return {path.parent.name: path.stat().st_mtime for path in settings.features_folder.glob("??/??/*/rows.npy")}


def test_after_kill_of_everything_a_restart_goes_on_with_the_next_fold(settings: Settings) -> None:
    with running(settings) as service:
        ranking = submit(service)
        wait_for(lambda: in_the_middle(service, ranking), seconds=280)
        everyone = service.processes()
        for pid in (everyone[0], descendants(everyone[0])[0]):
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not any(is_running(pid) for pid in everyone), seconds=10, what="no orphan")
        before = entries(settings)
        assert len(before) >= 2
    with running(settings) as service:
        ended = service.until_final(ranking, seconds=280)
        assert ended["state"] == "succeeded"
        trials = [row["trial"] for row in service.rows(ranking).values()]
        assert [trial["folds_done"] for trial in trials] == [3, 3]
        assert {trial["state"] for trial in trials} == {"succeeded"}
        assert "trial" in ended["recommendation"]["evidence"]
    after = entries(settings)
    assert len(after) == 6
    assert {key: after[key] for key in before} == before
