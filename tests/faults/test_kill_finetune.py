"""kill -9 in the middle of a fine-tuning: runs that ended are not run again, and the rest is done."""

import os
import signal
from typing import Any

import pytest

from app.settings import Settings
from tests.conftest import NewDatabase
from tests.faults.test_kill_trial import entries
from tests.service import FINAL, Service, descendants, is_running, running, save_model, wait_for

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def database_url(new_sqlite: NewDatabase) -> str:
    """Of one kind; the drill that kills a trial takes the other."""
    return new_sqlite()


def submit(service: Service) -> dict[str, Any]:
    service.call("POST", "/v1/datasets", {"location": str(service.settings.data_roots[0] / "shapes")})
    service.call("POST", "/v1/models", save_model(service.settings.model_roots[0], "only", "test_resnet"))
    question = {"target": "shapes", "models": ["only"], "epochs": 25, "size": 64, "seeds": 3, "rate_multiples": [1.0]}
    row: dict[str, Any] = service.call("POST", "/v1/finetunes", question)
    return row


def runs(service: Service, row: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = service.call("GET", f"/v1/finetunes/{row['id']}")["models"][0]["runs"]
    return found


def in_the_middle(service: Service, row: dict[str, Any]) -> bool:
    """One seed is done, and another is in its steps."""
    present = runs(service, row)
    return any(run["accuracy"] is not None for run in present) and any(run["stage"] == "fine-tuning" for run in present)


def test_after_kill_of_everything_a_restart_goes_on_with_the_next_seed(settings: Settings) -> None:
    with running(settings) as service:
        row = submit(service)
        wait_for(lambda: in_the_middle(service, row), seconds=280)
        everyone = service.processes()
        for pid in (everyone[0], descendants(everyone[0])[0]):
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not any(is_running(pid) for pid in everyone), seconds=10, what="no orphan")
        before = entries(settings)
        assert before
    with running(settings) as service:
        wait_for(
            lambda: service.call("GET", f"/v1/finetunes/{row['id']}")["state"] in FINAL,
            seconds=280,
            what="the end of the fine-tuning",
        )
        done = runs(service, row)
        assert [(run["seed"], run["state"]) for run in done] == [(0, "succeeded"), (1, "succeeded"), (2, "succeeded")]
    after = entries(settings)
    assert len(after) == 3
    assert {key: after[key] for key in before} == before
