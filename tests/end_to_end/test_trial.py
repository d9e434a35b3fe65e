"""A ranking with a trial, as a user asks for it: progress, budget, cancellation, advice."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app.cli import app
from app.settings import Settings
from tests.service import FAST, Service, draw_images, running, save_model, wait_for

pytestmark = pytest.mark.timeout(600)
MODELS = {"slim": "test_resnet", "wide": "test_efficientnet", "patches": "test_vit"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("trial")
    (folder / "weights").mkdir()
    for name, side in (("shapes", 64), ("squares", 48)):
        draw_images(folder / "images" / name, each=12, side=side)
    settings = Settings(
        home=folder / "home",
        data_roots=(folder / "images",),
        model_roots=(folder / "weights",),
        **FAST,
    )
    with running(settings) as service:
        for name in ("shapes", "squares"):
            service.call("POST", "/v1/datasets", {"location": str(folder / "images" / name)})
        for seed, (name, architecture) in enumerate(MODELS.items()):
            service.call(
                "POST", "/v1/models", save_model(folder / "weights", name, architecture, seed=seed, num_classes=7)
            )
        yield service


def ended_one(service: Service, ranking: dict[str, Any]) -> dict[str, Any]:
    """The ranking when it has ended; the trainer is started within it, which takes long on a busy machine."""
    return service.until_final(ranking, seconds=280)


def ask(service: Service, **trial: Any) -> dict[str, Any]:
    question = {"target": "shapes", "models": list(MODELS), "trial": {"epochs": 2, "size": 64, "folds": 2, **trial}}
    ranking: dict[str, Any] = service.call("POST", "/v1/rankings", question)
    return ranking


def test_the_advice_rests_on_three_rungs_and_says_what_to_fine_tune(service: Service) -> None:
    ended = ended_one(service, ask(service, winners=3))
    advice = ended["recommendation"]
    assert set(advice["evidence"]) == {"known", "metrics", "trial"}
    assert {model["name"] for model in advice["order"]} == set(MODELS)
    assert 2 <= len(advice["fine_tune"]) <= 3
    assert [model["fine_tune"] for model in advice["order"]] == [
        model["model_id"] in advice["fine_tune"] for model in advice["order"]
    ]
    assert advice["order"][0]["name"] in advice["text"]
    assert advice["chances_from"] is None
    assert "not known" in advice["text"]
    regrets = [each["points"] for each in advice["expected_regret"]]
    assert regrets == sorted(regrets, reverse=True)
    assert 2 <= len(advice["ensemble"]["members"]) <= 3
    assert advice["ensemble"]["low"] <= advice["ensemble"]["accuracy_gain_points"] <= advice["ensemble"]["high"]
    rows = service.rows(ended)
    for row in rows.values():
        assert (row["trial"]["state"], row["trial"]["folds_done"], row["trial"]["image_side"]) == ("succeeded", 2, 64)
        assert 0 <= row["trial"]["accuracy"] <= 1
        assert row["trial"]["log_loss"] > 0
    assert list(rows) == [model["name"] for model in advice["order"]]


def test_predictions_that_are_there_are_used_again(service: Service) -> None:
    first = ended_one(service, ask(service, winners=3))
    started = time.monotonic()
    again = ended_one(service, ask(service, winners=3))
    assert time.monotonic() - started < 60
    taken = {name: row["trial"]["log_loss"] for name, row in service.rows(again).items()}
    assert taken == {name: row["trial"]["log_loss"] for name, row in service.rows(first).items()}


def test_only_the_most_promising_are_tried_if_so_many_are_asked_for(service: Service) -> None:
    ended = ended_one(service, ask(service, models=2, seed=5))
    assert sum(row["trial"] is not None for row in service.rows(ended).values()) == 2
    assert ended["recommendation"]["evidence"]["trial"].startswith("short fine-tuning of 2 models,")


def test_a_budget_is_kept_and_said(service: Service) -> None:
    ended = ended_one(service, ask(service, epochs=50, seed=6, budget_seconds=0.5))
    trials = [row["trial"] for row in service.rows(ended).values()]
    assert {trial["state"] for trial in trials} == {"cut_off"}
    assert all("budget of 0.5 s" in trial["reason"] for trial in trials)
    assert ended["state"] == "succeeded"
    assert "trial" not in ended["recommendation"]["evidence"]


def test_a_running_fold_tells_its_time_and_stops_within_five_seconds_of_a_cancellation(
    service: Service,
) -> None:
    ranking = ask(service, epochs=50, seed=7)

    def estimated() -> bool:
        trials = [row["trial"] for row in service.rows(ranking).values() if row["trial"]]
        return any(trial["seconds_left"] is not None for trial in trials)

    wait_for(estimated, seconds=250, what="an estimate of the time left")
    wait_for(service.busy_children, seconds=30, what="a child process that computes")
    service.call("POST", f"/v1/rankings/{ranking['id']}/cancel")
    wait_for(lambda: not service.busy_children(), seconds=5, what="the end of the work")
    other = ask(service, models=1, epochs=1, seed=8)

    def next_is_tried() -> bool:
        trials = [row["trial"] for row in service.rows(other).values() if row["trial"]]
        return any(trial["stage"] not in (None, "waiting") or trial["folds_done"] for trial in trials)

    wait_for(next_is_tried, seconds=250, what="the trial of the next ranking")
    assert ended_one(service, other)["state"] == "succeeded"
    assert service.call("GET", f"/v1/rankings/{ranking['id']}")["state"] == "cancelled"


@pytest.mark.parametrize(
    ("trial", "pointer"),
    [({"folds": 1}, "/trial/folds"), ({"size": 8}, "/trial/size"), ({"budget_seconds": 0}, "/trial/budget_seconds")],
)
def test_a_trial_that_cannot_be_is_refused_with_its_place(service: Service, trial: Any, pointer: str) -> None:
    question = {"target": "shapes", "models": list(MODELS), "trial": trial}
    answer = service.call("POST", "/v1/rankings", question, status=422)
    assert [error["pointer"] for error in answer["errors"]] == [pointer]


def test_without_a_trial_the_advice_says_what_is_not_known(service: Service) -> None:
    ended = ended_one(service, service.call("POST", "/v1/rankings", {"target": "shapes", "models": list(MODELS)}))
    advice = ended["recommendation"]
    assert set(advice["evidence"]) == {"known", "metrics"}
    assert advice["expected_regret"] == []
    assert "not known without a trial" in advice["text"]


def test_evaluations_judge_every_score_as_the_command_line_does_and_are_remembered(
    service: Service, tmp_path: Path
) -> None:
    question = {"target": "shapes", "models": list(MODELS)}
    ended = ended_one(service, service.call("POST", "/v1/rankings", question))
    path = f"/v1/rankings/{ended['id']}/evaluations"
    accuracies = {"slim": 0.6, "wide": 0.7, "patches": 0.95}
    evaluation = service.call("POST", path, {"accuracies": accuracies, "resamples": 200}, status=201)
    assert {"nce", "logme", "tmi", "consensus", "recommendation", "parameters", "random"} <= set(evaluation["scores"])
    assert service.call("GET", path)["items"] == [evaluation]

    rows = service.rows(ended)
    table = tmp_path / "table.csv"
    lines = [f"{name},{accuracies[name]},{rows[name]['scores']['tmi']['value']!r}" for name in MODELS]
    table.write_text("\n".join(["model,accuracy,tmi", *lines]))
    answer = CliRunner().invoke(app, ["evaluate", str(table), "--resamples", "200", "--json"])
    by_command = json.loads(answer.stdout)["targets"][""]["tmi"]
    assert evaluation["scores"]["tmi"] == by_command

    other = question | {"target": "squares"}
    informed = ended_one(service, service.call("POST", "/v1/rankings", other))["recommendation"]
    naive = ended_one(service, service.call("POST", "/v1/rankings", other | {"history": False}))["recommendation"]
    assert "1 other target" in informed["evidence"]["known"]
    assert "other target" not in naive["evidence"]["known"]
    known = [{m["name"]: m["places"]["known"] for m in advice["order"]} for advice in (informed, naive)]
    assert known[0]["patches"] == max(known[0].values())
    same_target = ended_one(service, service.call("POST", "/v1/rankings", question))["recommendation"]
    assert "other target" not in same_target["evidence"]["known"]


@pytest.mark.parametrize(
    ("accuracies", "pointer"),
    [
        ({"slim": 0.5, "nobody": 0.5}, "/accuracies/nobody"),
        ({"slim": 0.5, "wide": 97.0}, "/accuracies/wide"),
        ({"slim": 0.5}, "/accuracies"),
    ],
)
def test_accuracies_that_cannot_be_are_refused_with_their_place(
    service: Service, accuracies: dict[str, float], pointer: str
) -> None:
    rankings = service.call("GET", "/v1/rankings?state=succeeded")["items"]
    path = f"/v1/rankings/{rankings[0]['id']}/evaluations"
    answer = service.call("POST", path, {"accuracies": accuracies}, status=422)
    assert [error["pointer"] for error in answer["errors"]] == [pointer]
