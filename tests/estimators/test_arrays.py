"""The same code on NumPy and torch arrays of either precision; swapped, malformed and mutated inputs."""

from typing import Any

import numpy as np
import pytest
import torch

import estimators
from estimators import METRICS, CannotBeComputed, Evidence, InvalidEvidence
from tests.estimators.examples import evidence

EVIDENCE = evidence(samples=300, dimensions=20, relu=True)
NAMES = sorted(METRICS)


def converted(convert: Any) -> Evidence:
    return Evidence(
        features=convert(EVIDENCE.features),
        labels=convert(EVIDENCE.labels),
        source_probabilities=convert(EVIDENCE.source_probabilities),
        reference_features=convert(EVIDENCE.reference_features),
    )


@pytest.mark.parametrize("name", NAMES)
def test_torch_gives_the_number_of_numpy(name: str) -> None:
    expected = float(METRICS[name].compute(EVIDENCE))
    assert float(METRICS[name].compute(converted(torch.asarray))) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_single_precision_input_is_computed_in_double(name: str, library: str) -> None:
    def single(array: np.ndarray) -> Any:
        array = array.astype(np.float32) if array.dtype.kind == "f" else array
        return array if library == "numpy" else torch.asarray(array)

    def rounded(array: np.ndarray) -> Any:
        return array.astype(np.float32).astype(np.float64) if array.dtype.kind == "f" else array

    expected = float(METRICS[name].compute(converted(rounded)))
    assert float(METRICS[name].compute(converted(single))) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_mutated_inputs(name: str) -> None:
    """The authors' SFDA writes into the features it is given; no metric here may."""
    copies = converted(lambda array: array.copy())
    for array in (copies.features, copies.labels, copies.source_probabilities, copies.reference_features):
        array.flags.writeable = False
    METRICS[name].compute(copies)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_input_gives_the_same_number(name: str) -> None:
    assert float(METRICS[name].compute(EVIDENCE)) == float(METRICS[name].compute(EVIDENCE))


@pytest.mark.parametrize("name", NAMES)
def test_arguments_are_named(name: str) -> None:
    with pytest.raises(TypeError):
        getattr(estimators, name)(EVIDENCE.features, EVIDENCE.labels)


@pytest.mark.parametrize(
    "name",
    [n for n in NAMES if METRICS[n].required_evidence >= {"features", "labels"}],
)
def test_swapped_arguments_are_refused(name: str) -> None:
    with pytest.raises(InvalidEvidence):
        getattr(estimators, name)(features=EVIDENCE.labels, labels=EVIDENCE.features)


def test_swapped_arguments_of_leep_are_refused() -> None:
    with pytest.raises(InvalidEvidence):
        estimators.leep(source_probabilities=EVIDENCE.labels, labels=EVIDENCE.source_probabilities)


@pytest.mark.parametrize("name", [n for n in NAMES if "features" in METRICS[n].required_evidence])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused_by_row(name: str, value: float) -> None:
    features = EVIDENCE.features.copy()
    features[17, 3] = value
    with pytest.raises(InvalidEvidence, match="row 17"):
        METRICS[name].compute(Evidence(features=features, labels=EVIDENCE.labels))


@pytest.mark.parametrize("name", [n for n in NAMES if METRICS[n].required_evidence == {"features", "labels"}])
@pytest.mark.parametrize(
    ("features", "labels"),
    [
        (np.zeros((0, 3)), np.zeros(0, dtype=int)),
        (np.zeros((4, 0)), np.arange(4)),
        (np.zeros((4, 3, 2)), np.arange(4)),
        (np.eye(4), np.arange(3)),
        (np.eye(4), np.array([0.0, 0.5, 1.0, 1.0])),
    ],
    ids=["no samples", "no dimensions", "three axes", "other length", "labels that are not whole"],
)
def test_malformed_evidence_is_refused(name: str, features: np.ndarray, labels: np.ndarray) -> None:
    with pytest.raises(InvalidEvidence):
        METRICS[name].compute(Evidence(features=features, labels=labels))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.__setitem__((5, 0), -0.1), "row 5"),
        (lambda p: p.__setitem__((6, 0), np.nan), "row 6"),
        (lambda p: p.__setitem__(7, 0.5), "row 7 sums to"),
    ],
    ids=["negative", "not a number", "no distribution"],
)
def test_malformed_probabilities_are_refused_by_row(change: Any, message: str) -> None:
    probabilities = EVIDENCE.source_probabilities.copy()
    change(probabilities)
    with pytest.raises(InvalidEvidence, match=message):
        estimators.leep(source_probabilities=probabilities, labels=EVIDENCE.labels)


@pytest.mark.parametrize("name", [n for n in NAMES if "source_probabilities" in METRICS[n].required_evidence])
def test_a_model_without_classifier_is_told_apart_from_an_error(name: str) -> None:
    with pytest.raises(CannotBeComputed, match="not available: this model has no classifier"):
        METRICS[name].compute(Evidence(features=EVIDENCE.features, labels=EVIDENCE.labels))


@pytest.mark.parametrize("name", [n for n in NAMES if "compat" in METRICS[n].parameters])
def test_an_unknown_compat_names_the_choices(name: str) -> None:
    with pytest.raises(ValueError, match="'author'"):
        METRICS[name].compute(EVIDENCE, compat="tllib")


@pytest.mark.parametrize("name", [n for n in NAMES if "labels" in METRICS[n].required_evidence])
def test_labels_may_be_words(name: str) -> None:
    words = np.array(["ant", "bee", "cow", "dog", "eel"])[EVIDENCE.labels]
    given = Evidence(EVIDENCE.features, words, EVIDENCE.source_probabilities, EVIDENCE.reference_features)
    assert float(METRICS[name].compute(given)) == float(METRICS[name].compute(EVIDENCE))


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_explains_itself(name: str) -> None:
    score = METRICS[name].compute(EVIDENCE)
    assert score.details["samples"] == 300
    assert np.isfinite(score.value)
    assert all(": " in warning and warning[0].islower() for warning in score.warnings)
