"""A full fine-tuning, as a user asks for it: learning rates, seeds, weights, failures, cancellation, memory."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
from safetensors.torch import load, load_file, save_file
from typer.testing import CliRunner

from app.cli import app
from app.settings import Settings
from tests.service import FAST, FINAL, Service, draw_images, running, save_model, wait_for

pytestmark = pytest.mark.timeout(600)
MODELS = {"slim": "test_resnet", "wide": "test_efficientnet"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("finetune")
    (folder / "weights").mkdir()
    for name, side in (("shapes", 64), ("squares", 48)):
        draw_images(folder / "images" / name, each=12, side=side)
    settings = Settings(
        home=folder / "home", data_roots=(folder / "images",), model_roots=(folder / "weights",), **FAST
    )
    with running(settings) as service:
        for name in ("shapes", "squares"):
            service.call("POST", "/v1/datasets", {"location": str(folder / "images" / name)})
        for seed, (name, architecture) in enumerate(MODELS.items()):
            body = save_model(folder / "weights", name, architecture, seed=seed, num_classes=7)
            service.call("POST", "/v1/models", body)
        yield service


def ask(service: Service, **changes: Any) -> dict[str, Any]:
    question = {"target": "shapes", "models": list(MODELS), "epochs": 2, "size": 64, **changes}
    found: dict[str, Any] = service.call("POST", "/v1/finetunes", question)
    return found


def ended(service: Service, row: dict[str, Any]) -> dict[str, Any]:
    def final() -> dict[str, Any] | None:
        present = service.call("GET", f"/v1/finetunes/{row['id']}")
        return present if present["state"] in FINAL else None

    found: dict[str, Any] = wait_for(final, seconds=280, what="the end of the fine-tuning")
    return found


def test_rates_are_tried_then_every_seed_is_tested_with_the_best(service: Service) -> None:
    done = ended(service, ask(service, seeds=2, rate_multiples=[1.0, 0.1]))
    assert done["state"] == "succeeded"
    assert (done["split"]["train"], done["split"]["test"], done["split"]["classes"]) == (36, 12, 4)
    for model in done["models"]:
        tried = [run for run in model["runs"] if run["purpose"] == "rate"]
        tested = [run for run in model["runs"] if run["purpose"] == "test"]
        assert ([run["rate_multiple"] for run in tried], [run["seed"] for run in tested]) == ([1.0, 0.1], [0, 1])
        assert [run["images"] for run in (*tried, *tested)] == [9, 9, 12, 12]
        best = max(tried, key=lambda run: (run["accuracy"], -run["log_loss"]))
        assert model["recommended_rate_multiple"] == best["rate_multiple"]
        assert model["recommended_rate"] == best["body_rate"]
        assert model["accuracy"] == pytest.approx(sum(run["accuracy"] for run in tested) / 2)
        assert model["accuracy_spread"] is not None
    accuracies = [model["accuracy"] for model in done["models"]]
    assert accuracies == sorted(accuracies, reverse=True)


def test_the_time_is_known_beforehand_to_a_factor_of_ten(service: Service) -> None:
    # A forward pass tells the speed.
    service.until_final(service.call("POST", "/v1/rankings", {"target": "shapes", "models": ["wide"]}), seconds=200)
    question = {"models": ["wide"], "rate_multiples": [1.0], "epochs": 40, "seed": 12}
    done = ended(service, ask(service, **question))
    (run,) = done["models"][0]["runs"]
    assert done["seconds_expected"] / 10 < run["seconds"] < done["seconds_expected"] * 10


def test_the_weights_are_those_that_were_tested(service: Service) -> None:
    done = ended(service, ask(service, models=["slim"], rate_multiples=[1.0], weights=True))
    (run,) = done["models"][0]["runs"]
    content = service.http.get(run["weights"])
    assert content.status_code == 200
    state = load(content.content)
    timm.create_model("test_resnet", num_classes=4).load_state_dict(state, strict=True)
    source = load_file(service.settings.model_roots[0] / "slim.safetensors")
    filters = next(name for name, values in source.items() if values.ndim == 4)
    assert not state[filters].equal(source[filters])


def test_one_failure_is_its_own_row(service: Service) -> None:
    folder = service.settings.model_roots[0]
    body = save_model(folder, "broken", "test_resnet", num_classes=7)
    state = load_file(folder / "broken.safetensors")
    # Finite for the blank image of an inspection, and beyond all numbers for others.
    state[next(name for name, values in state.items() if values.ndim == 4)] *= 1e38
    save_file(state, folder / "broken.safetensors")
    service.call("POST", "/v1/models", body)
    done = ended(service, ask(service, models=["broken", "slim"], seed=3))
    assert done["state"] == "succeeded"
    models = {model["model"]: model for model in done["models"]}
    assert (models["slim"]["state"], models["broken"]["state"]) == ("succeeded", "failed")
    assert models["broken"]["accuracy"] is None
    problems = [run["problem"] for run in models["broken"]["runs"]]
    assert problems
    assert all("not finite" in problem["detail"] for problem in problems)


def test_a_sample_that_leaves_one_class_to_train_on_fails_and_says_so(service: Service) -> None:
    done = ended(service, ask(service, sample={"max_samples": 2}))
    assert done["state"] == "failed"
    assert "fewer than two classes" in done["problem"]["detail"]
    assert {model["state"] for model in done["models"]} == {"failed"}


def test_it_is_remembered_and_informs_rankings_of_other_targets(service: Service) -> None:
    ended(service, ask(service, rate_multiples=[1.0], seed=4))
    question = {"target": "squares", "models": list(MODELS)}
    ranking = service.until_final(service.call("POST", "/v1/rankings", question), seconds=280)
    assert "1 other target" in ranking["recommendation"]["evidence"]["known"]
    # That forward pass measured the models' speed.
    estimate = service.call("POST", "/v1/finetunes/estimates", {**question, "epochs": 4}, status=200)
    assert estimate["seconds"] > 0
    assert estimate["unmeasured"] == []


def test_a_running_one_tells_its_time_and_stops_within_five_seconds_of_a_cancellation(
    service: Service,
) -> None:
    row = ask(service, models=["wide"], epochs=400, rate_multiples=[1.0], seed=5)

    def estimated() -> bool:
        runs = service.call("GET", f"/v1/finetunes/{row['id']}")["models"][0]["runs"]
        return any(run["seconds_left"] is not None for run in runs)

    wait_for(estimated, seconds=200, what="an estimate of the time left")
    wait_for(service.busy_children, seconds=30, what="a child process that computes")
    service.call("POST", f"/v1/finetunes/{row['id']}/cancel")
    wait_for(lambda: not service.busy_children(), seconds=5, what="the end of the work")
    other = ask(service, models=["slim"], epochs=1, rate_multiples=[1.0], seed=6)

    def begun() -> bool:
        runs = service.call("GET", f"/v1/finetunes/{other['id']}")["models"][0]["runs"]
        return any(run["stage"] not in (None, "waiting") or run["accuracy"] is not None for run in runs)

    wait_for(begun, seconds=60, what="the next run")
    assert ended(service, other)["state"] == "succeeded"
    found = service.call("GET", f"/v1/finetunes/{row['id']}")
    assert (found["state"], found["models"][0]["state"]) == ("cancelled", "cut_off")


def test_the_command_line_asks_follows_and_prints(service: Service) -> None:
    url = str(service.http.base_url)
    arguments = ["finetune", "shapes", "--model", "slim", "--epochs", "1", "--size", "64", "--rate", "1", "--url", url]
    answer = CliRunner().invoke(app, [*arguments, "-o", "json"])
    assert answer.exit_code == 0, answer.output
    printed = json.loads(answer.stdout)
    assert printed["models"][0]["accuracy"] is not None
    assert "slim, seed 0" in answer.stderr
    estimate = CliRunner().invoke(app, [*arguments, "--estimate"])
    assert json.loads(estimate.stdout)["runs"] == 1


def test_a_model_that_fails_within_a_trial_is_its_own_row(service: Service, tmp_path: Path) -> None:
    question = {"target": "shapes", "models": ["gone", "slim", "wide"]}
    folder = service.settings.model_roots[0]
    service.call("POST", "/v1/models", save_model(folder, "gone", "test_resnet", num_classes=7, seed=9))
    service.until_final(service.call("POST", "/v1/rankings", question), seconds=280)
    # Its evidence is stored, so that only the trial needs the weights.
    (folder / "gone.safetensors").unlink()
    trial = {"epochs": 1, "size": 64, "folds": 2, "winners": 3}
    tried = service.until_final(service.call("POST", "/v1/rankings", {**question, "trial": trial}), seconds=280)
    assert tried["state"] == "succeeded"
    rows = service.rows(tried)
    states = {name: row["trial"]["state"] for name, row in rows.items()}
    assert states == {"gone": "failed", "slim": "succeeded", "wide": "succeeded"}
    assert "gone.safetensors" in rows["gone"]["trial"]["problem"]["detail"]
    assert rows["gone"]["scores"]["tmi"]["value"] is not None
