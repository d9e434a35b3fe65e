"""The prior from earlier fine-tunings: by hand, on made-up merits, and on a published table."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from estimators.comparison.evaluation import regret
from estimators.comparison.history import DEFAULT_SLOPE, KAPPA, prior

PUBLISHED = Path(__file__).parents[1] / "reference" / "published" / "tllib_benchmark.json"
with (PUBLISHED.parent / "torchvision_models.csv").open(newline="") as file:
    # Millions of parameters and top-1 accuracy on ImageNet-1k.
    TORCHVISION = {row["model"]: (float(row["million_parameters"]), float(row["top1"])) for row in csv.DictReader(file)}


def test_without_history_the_metadata_stand_alone() -> None:
    found = prior(np.empty((3, 0)), [[1.0], [2.0], [3.0]])
    np.testing.assert_allclose(found.merit, DEFAULT_SLOPE * np.array([-1, 0, 1]) * np.sqrt(1.5))
    assert found.targets.tolist() == [0, 0, 0]


def test_one_target_by_hand() -> None:
    # Without metadata the merit is the standardised accuracy, shrunk by n / (n + kappa).
    found = prior([[0.9], [0.7]], np.empty((2, 0)), kappa=1.0)
    np.testing.assert_allclose(found.merit, [0.5, -0.5], atol=1e-8)
    np.testing.assert_allclose(found.weight, [0.5, 0.5])


def test_a_longer_record_weighs_more() -> None:
    weights = [prior(np.tile([[0.9], [0.7]], targets), np.zeros((2, 1))).weight[0] for targets in (1, 3, 9)]
    np.testing.assert_allclose(weights, [n / (n + KAPPA) for n in (1, 3, 9)])


def test_an_easy_target_does_not_help_the_models_that_were_tried_on_it() -> None:
    rng = np.random.default_rng(0)
    merit = np.array([2.0, 1.0, 0.0, -1.0, -2.0])
    table = 0.5 + 0.02 * merit[:, None] + np.array([0.0, 0.4, 0.1, 0.3]) + 0.001 * rng.normal(size=(5, 4))
    table[:2, 1] = np.nan  # the good ones were not tried where all do well
    assert np.argsort(-prior(table, np.empty((5, 0))).merit).tolist() == [0, 1, 2, 3, 4]


def test_made_up_merits_are_recovered_better_with_every_target() -> None:
    rng = np.random.default_rng(0)
    errors = []
    merit = rng.normal(size=200)
    metadata = (merit + rng.normal(size=200))[:, None]
    for targets in (0, 2, 20):
        table = 0.8 + 0.03 * (merit[:, None] + rng.normal(size=(200, targets)))
        errors.append(1 - np.corrcoef(prior(table, metadata).merit, merit)[0, 1])
    assert errors[0] > errors[1] > errors[2]


def test_a_new_model_gets_what_its_metadata_promise() -> None:
    rng = np.random.default_rng(0)
    metadata = np.arange(20.0)[:, None]
    table = 0.8 + 0.01 * metadata + 0.001 * rng.normal(size=(20, 6))
    table[17] = np.nan
    found = prior(table, metadata)
    assert found.weight[17] == 0
    assert found.merit[16] < found.merit[17] < found.merit[18]


@pytest.mark.parametrize("table", [[[np.nan], [np.nan]], [[0.5], [0.5]], [[0.5], [np.nan]]])
def test_a_target_that_tells_nothing_apart_is_as_none(table: list[list[float]]) -> None:
    found = prior(table, [[0.0], [1.0]])
    assert found.targets.tolist() == [0, 0]
    assert np.isfinite(found.merit).all()


def test_tables_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        prior(np.zeros((2, 1)), np.zeros((3, 1)))


def test_on_a_published_table_history_of_the_other_targets_chooses_better_than_metadata() -> None:
    content = json.loads(PUBLISHED.read_text())
    table = np.array(
        [[content[target]["models"][model]["Finetuned Acc"] for target in content] for model in TORCHVISION]
    )
    metadata = np.array([(np.log10(parameters), top_1) for parameters, top_1 in TORCHVISION.values()])
    regrets: dict[str, list[float]] = {"history": [], "parameters": [], "source accuracy": []}
    for target, accuracies in enumerate(table.T):
        scores = {
            "history": prior(np.delete(table, target, axis=1), metadata).merit,
            "parameters": metadata[:, 0],
            "source accuracy": metadata[:, 1],
        }
        for name, values in scores.items():
            regrets[name].append(regret(scores=values, accuracies=accuracies))
    means = {name: np.mean(values) for name, values in regrets.items()}
    assert means["history"] < min(means["parameters"], means["source accuracy"]) - 0.2
