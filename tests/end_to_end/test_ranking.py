"""The main job through HTTP, a durable job, a worker, a forward pass, the store and the database."""

import csv
import io
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from scipy.special import digamma

import estimators
from app.settings import Settings
from tests.conftest import NewDatabase
from tests.service import FAST, Service, draw_images, running, save_model

METRICS = ["leep", "nce", "tmi", "logme", "h_score"]
MODELS = ("resnet", "vit", "headless", "one-logit", "untrained")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    make: NewDatabase = request.getfixturevalue(f"new_{request.param}")
    root = tmp_path_factory.mktemp("service")
    (root / "weights").mkdir()
    draw_images(root / "images" / "shapes")
    (root / "images" / "shapes" / "class-0" / "broken.png").write_bytes(b"not an image")
    settings = Settings(
        home=root / "home",
        database_url=make(),
        data_roots=(root / "images",),
        model_roots=(root / "weights",),
        **FAST,
    )
    with running(settings) as service:
        register(service, root / "weights")
        yield service


def register(service: Service, folder: Path) -> None:
    service.call("POST", "/v1/datasets", {"location": str(service.settings.data_roots[0] / "shapes")})
    bodies = [
        save_model(folder, "resnet", "test_resnet", num_classes=12),
        save_model(folder, "vit", "test_vit", num_classes=9),
        save_model(folder, "headless", "test_resnet", num_classes=0, seed=1),
        save_model(folder, "one-logit", "test_resnet", num_classes=1, seed=2),
        save_model(folder, "untrained", "test_resnet", num_classes=12),
    ]
    weights = folder / "untrained.safetensors"
    save_file({key: value for key, value in load_file(weights).items() if "layer3" not in key}, weights)
    for body in bodies:
        service.call("POST", "/v1/models", body)


@pytest.fixture(scope="module")
def ranking(service: Service) -> dict[str, Any]:
    """Submitted while data set and models are still being inspected; its job waits for them."""
    submitted = service.call("POST", "/v1/rankings", {"target": "shapes", "models": list(MODELS), "metrics": METRICS})
    return service.until_final(submitted)


def test_it_succeeds_although_one_model_is_refused(ranking: dict[str, Any]) -> None:
    assert (ranking["state"], ranking["models_by_state"]) == ("succeeded", {"succeeded": 4, "failed": 1})


def test_a_model_that_lacks_weights_says_which(service: Service, ranking: dict[str, Any]) -> None:
    assert "layer3" in service.rows(ranking)["untrained"]["problem"]["detail"]


def test_an_unreadable_file_is_named(service: Service, ranking: dict[str, Any]) -> None:
    dataset = service.call("GET", "/v1/datasets/shapes")
    assert [item["path"] for item in dataset["unreadable"]] == ["class-0/broken.png"]


def test_a_model_without_classifier_has_no_leep_but_a_tmi(service: Service, ranking: dict[str, Any]) -> None:
    scores = service.rows(ranking)["headless"]["scores"]
    assert "this model has no classifier" in scores["leep"]["problem"]["detail"]
    assert scores["tmi"]["value"] is not None


def test_ranks_follow_the_scores(service: Service, ranking: dict[str, Any]) -> None:
    rows = service.rows(ranking)
    values = {name: row["scores"]["logme"]["value"] for name, row in rows.items() if row["scores"]}
    ranks = {name: rows[name]["scores"]["logme"]["rank"] for name in values}
    assert sorted(values, key=lambda name: -values[name]) == sorted(ranks, key=lambda name: ranks[name])


def test_every_score_has_an_interval_around_it(service: Service, ranking: dict[str, Any]) -> None:
    for row in service.rows(ranking).values():
        for score in row["scores"].values():
            if score["value"] is not None:
                assert score["interval"]["low"] - 1e-9 <= score["value"] <= score["interval"]["high"] + 1e-9


def test_each_image_was_decoded_once_for_all_models(ranking: dict[str, Any]) -> None:
    assert (ranking["counters"]["images_decoded"], ranking["counters"]["models_loaded"]) == (48, 4)


def test_the_csv_has_the_same_numbers(service: Service, ranking: dict[str, Any]) -> None:
    text = service.http.get(f"/v1/rankings/{ranking['id']}/results.csv").text
    table = {row["model"]: row for row in csv.DictReader(io.StringIO(text))}
    assert {name: float(row["tmi"]) for name, row in table.items() if row["tmi"]} == {
        name: row["scores"]["tmi"]["value"] for name, row in service.rows(ranking).items() if row["scores"]
    }


def test_the_csv_has_the_same_intervals(service: Service, ranking: dict[str, Any]) -> None:
    text = service.http.get(f"/v1/rankings/{ranking['id']}/results.csv").text
    table = {row["model"]: row for row in csv.DictReader(io.StringIO(text))}
    intervals = {name: row["scores"]["tmi"]["interval"] for name, row in service.rows(ranking).items() if row["scores"]}
    assert {name: (float(table[name]["tmi_low"]), float(table[name]["tmi_high"])) for name in intervals} == {
        name: (interval["low"], interval["high"]) for name, interval in intervals.items()
    }


def test_another_metric_decodes_no_image_and_loads_no_model(service: Service, ranking: dict[str, Any]) -> None:
    again = service.until_final(
        service.call("POST", "/v1/rankings", {"target": "shapes", "models": list(MODELS), "metrics": ["leep", "sfda"]})
    )
    counters = again["counters"]
    assert (counters["images_decoded"], counters["models_loaded"], counters["evidence_computed"]) == (0, 0, 0)
    assert (counters["scores_reused"], counters["scores_computed"]) == (4, 4)


def test_a_resumed_one_computes_only_what_failed(service: Service, ranking: dict[str, Any]) -> None:
    again = service.until_final(service.call("POST", f"/v1/rankings/{ranking['id']}/resume"))
    assert again["models_by_state"] == ranking["models_by_state"]
    counters = again["counters"]
    assert (counters["models_loaded"], counters["evidence_computed"], counters["scores_computed"]) == (0, 0, 0)


def evidence_of(service: Service, name: str) -> tuple[Any, Any, Any]:
    """Features, probabilities and labels by timm's own pipeline, one image at a time."""
    card = service.call("GET", f"/v1/models/{name}")
    model = timm.create_model(card["architecture"], num_classes=card["source_classes"]).eval()
    model.load_state_dict(load_file(card["spec"]["path"]))
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=model), is_training=False)
    features, probabilities, labels = [], [], []
    for folder in sorted((service.settings.data_roots[0] / "shapes").iterdir()):
        for path in sorted(folder.glob("[0-9]*.png")):
            with torch.inference_mode(), Image.open(path) as image:
                maps = model.forward_features(transform(image.convert("RGB"))[None])
                features.append(model.forward_head(maps, pre_logits=True)[0].numpy())
                probabilities.append(torch.softmax(model.forward_head(maps).double(), dim=1)[0].numpy())
            labels.append(int(folder.name.removeprefix("class-")))
    return np.array(features, dtype=np.float64), np.array(probabilities), np.array(labels)


@pytest.mark.parametrize("name", ["resnet", "vit"])
def test_leep_equals_its_formula_on_timms_own_output(service: Service, ranking: dict[str, Any], name: str) -> None:
    _, probabilities, labels = evidence_of(service, name)
    joint = np.array([probabilities[labels == label].sum(axis=0) for label in range(4)]) / len(labels)
    given = joint / joint.sum(axis=0)
    leep = np.mean([math.log(p @ given[label]) for p, label in zip(probabilities, labels, strict=True)])
    assert service.rows(ranking)[name]["scores"]["leep"]["value"] == pytest.approx(leep, abs=1e-5)


@pytest.mark.parametrize("name", ["resnet", "vit"])
def test_tmi_equals_its_formula_on_timms_own_output(service: Service, ranking: dict[str, Any], name: str) -> None:
    features, _, labels = evidence_of(service, name)
    tmi = 0.0
    for label in range(4):
        rows = features[labels == label]
        distances = np.abs(rows[:, None] - rows[None]).max(axis=2)
        third = np.sort(distances, axis=1)[:, 3]
        entropy = digamma(len(rows)) - digamma(3) + rows.shape[1] * np.mean(np.log(2 * np.maximum(third, 1.0)))
        tmi += len(rows) / len(features) * entropy
    assert service.rows(ranking)[name]["scores"]["tmi"]["value"] == pytest.approx(tmi, rel=1e-5)


def test_layers_are_ranked_inside_each_model(service: Service, ranking: dict[str, Any]) -> None:
    asked = {"target": "shapes", "models": ["resnet"], "metrics": ["tmi", "leep"], "layers": "stages"}
    row = service.rows(service.until_final(service.call("POST", "/v1/rankings", asked)))["resnet"]
    stages = service.call("GET", "/v1/models/resnet")["layers"]
    assert set(row["layers"]) == {"head", *stages}
    scores = [layer["tmi"] for layer in row["layers"].values()]
    assert max(scores, key=lambda score: score["value"])["rank"] == 1
    for score in scores:
        assert score["interval"]["low"] - 1e-9 <= score["value"] <= score["interval"]["high"] + 1e-9


def test_all_metrics_of_the_catalog_have_intervals_and_chances(service: Service, ranking: dict[str, Any]) -> None:
    names = sorted(metric["name"] for metric in service.call("GET", "/v1/metrics"))
    asked = {"target": "shapes", "models": ["resnet", "vit"], "metrics": names}
    ended = service.until_final(service.call("POST", "/v1/rankings", asked))
    results = service.call("GET", f"/v1/rankings/{ended['id']}/results")
    for row in results["models"]:
        assert sorted(row["scores"]) == names
        for name, score in row["scores"].items():
            assert score["problem"] is None, name
            assert score["interval"]["low"] - 1e-9 <= score["value"] <= score["interval"]["high"] + 1e-9, name
    for name in names:
        assert sum(results["summary"]["metrics"][name]["chance_first_on_another_sample"].values()) == pytest.approx(
            1.0
        ), name


def entry_of_vit(service: Service) -> Path:
    """The folder in which the store keeps what its one forward pass left: it alone has nine source classes."""
    files = service.settings.features_folder.glob("??/??/*/source_probabilities.npy")
    (entry,) = (path.parent for path in files if np.load(path).shape[1] == 9)
    return entry


def test_a_flipped_byte_in_the_store_costs_a_forward_pass_and_no_score(
    service: Service, ranking: dict[str, Any]
) -> None:
    entry = entry_of_vit(service)
    features, labels = np.load(entry / "features.npy"), np.load(entry / "labels.npy")
    stored = (entry / "features.npy").read_bytes()
    middle = len(stored) // 2
    (entry / "features.npy").write_bytes(stored[:middle] + bytes([stored[middle] ^ 0xFF]) + stored[middle + 1 :])
    # A parameter that no other test asks for: a score that is known needs no evidence.
    metric = {"name": "tmi", "parameters": {"neighbors": 4}}
    asked = {"target": "shapes", "models": ["resnet", "vit"], "metrics": [metric]}
    ended = service.until_final(service.call("POST", "/v1/rankings", asked))
    row = service.rows(ended)["vit"]
    assert row["scores"]["tmi"]["value"] == estimators.tmi(features=features, labels=labels, neighbors=4).value
    assert ended["counters"]["models_loaded"] == 1
    assert (entry / "features.npy").read_bytes() == stored
    quarantined = list((service.settings.features_folder / ".quarantine").iterdir())
    assert [path.name.split("-")[0] for path in quarantined] == [entry.name]


def test_the_workers_lines_name_the_request_that_asked(service: Service, ranking: dict[str, Any]) -> None:
    logs = (path.read_text() for path in service.settings.home.parent.glob("serve-*.log"))
    lines = [line for log in logs for line in log.splitlines()]
    (ended,) = (line for line in lines if "ranking ended" in line and ranking["id"] in line)
    named = re.search(r"request_id=req_\w+", ended)
    assert named is not None
    (asked,) = (line for line in lines if "path=/v1/rankings " in line and named[0] in line)
    assert "method=POST" in asked
