"""What classification says of targets, samples and metrics."""

from dataclasses import replace

import numpy as np
import pytest

from app.contracts.question import SampleChoice
from app.contracts.rankings import RankingRequest
from app.tasks.catalog import TASKS
from app.tasks.task import applies
from estimators.catalog import METRICS
from estimators.metric import Evidence

CLASSIFICATION = TASKS["classification"]


@pytest.mark.parametrize(("counts", "usable"), [({}, False), ({"a": 9}, False), ({"a": 1, "b": 1}, True)])
def test_a_target_has_at_least_two_classes(counts: dict[str, int], usable: bool) -> None:
    assert (CLASSIFICATION.why_unusable("x", counts) is None) is usable


def test_a_sample_keeps_the_shares_of_the_classes_and_says_how_large_they_are() -> None:
    labels = np.array([0] * 60 + [2] * 30 + [5] * 10)
    chosen = CLASSIFICATION.sample(labels, SampleChoice(max_samples=20))
    assert CLASSIFICATION.describe(labels[chosen]) == {"classes": 3, "smallest_class": 2, "largest_class": 12}


def test_folds_and_held_out_images_keep_the_shares_of_the_classes() -> None:
    labels = np.array([0] * 60 + [2] * 30 + [5] * 10)
    folds = CLASSIFICATION.folds(labels, 5, seed=3)
    held_out = CLASSIFICATION.held_out(labels, 0.2, seed=3)
    assert [np.bincount(labels[folds == fold])[[0, 2, 5]].tolist() for fold in range(5)] == [[12, 6, 2]] * 5
    assert np.bincount(labels[held_out])[[0, 2, 5]].tolist() == [12, 6, 2]
    assert CLASSIFICATION.held_out(labels, 0.0, seed=3).size == 1


def test_all_metrics_of_labels_apply_and_those_of_other_targets_do_not() -> None:
    assert all(applies(metric, CLASSIFICATION) for metric in METRICS.values())
    regression = replace(METRICS["gbc"], required_evidence=frozenset({"features", "targets"}))
    assert not applies(regression, CLASSIFICATION)


def test_rows_are_evidence() -> None:
    labels = np.array([1, 0])
    assert Evidence(**CLASSIFICATION.rows(labels)).labels is labels


def test_a_stored_question_without_a_task_is_one_of_classification() -> None:
    stored = {
        "target": "d", "zoo": None, "metrics": [], "sample": {}, "priority": "normal", "layers": [], "reference": None,
        "sources": {}, "intervals": None, "ensembles": [], "given_ensembles": [],
    }  # fmt: skip
    assert RankingRequest.read(stored).task == "classification"
