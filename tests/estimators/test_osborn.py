"""OSBORN's terms and OTCE against closed forms, naive loops and recorded values, on both kinds of arrays."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import estimators
from estimators import CannotBeComputed, InvalidEvidence, disagreement, domain_difference, otce, task_difference
from estimators.arrays.transport import balanced_sample, transport
from estimators.ensembles import osborn
from tests.reference.oracles import inputs, oracles

Kind = Callable[[Any], Any]
both_kinds = pytest.mark.parametrize("kind", [np.asarray, torch.asarray], ids=["numpy", "torch"])


def naive_conditional_entropy(left: Sequence[Any], right: Sequence[Any]) -> float:
    """H(left | right) from counts, one cell at a time."""
    samples = len(left)
    marginal = Counter(right)
    total = 0.0
    for (_, b), count in Counter(zip(left, right, strict=True)).items():
        total -= count / samples * math.log(count / marginal[b])
    return total


def recorded(kind: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    (entry,) = oracles(kind)
    return entry["expected"], inputs(entry["input_file"])


def predictions() -> list[np.ndarray]:
    _, data = recorded("ens_derived")
    return [data[f"probs_{index}"].argmax(axis=1) for index in range(4)]


@both_kinds
def test_recorded_disagreement(kind: Kind) -> None:
    expected, _ = recorded("ens_derived")
    matrix = disagreement(source_labels=[kind(one) for one in predictions()])
    np.testing.assert_allclose(matrix, expected["condH_matrix_H_i_given_j"], rtol=1e-12, atol=1e-14)


@both_kinds
@pytest.mark.parametrize(
    ("direction", "key"),
    [
        ("predictions_given_labels", "W_T_H_pred_given_label"),
        ("labels_given_predictions", "NCEneg_H_label_given_pred"),
    ],
)
def test_recorded_task_difference(kind: Kind, direction: str, key: str) -> None:
    expected, data = recorded("ens_derived")
    found = [
        float(task_difference(source_labels=kind(one), labels=kind(data["labels"]), direction=direction))
        for one in predictions()
    ]
    assert found == pytest.approx(expected[key], rel=1e-12)


@both_kinds
def test_recorded_otce(kind: Kind) -> None:
    expected, data = recorded("otce")
    score = otce(
        source_features=kind(data["Xs"]),
        source_labels=kind(data["ys"]),
        features=kind(data["Xt"]),
        labels=kind(data["yt"]),
    )
    assert score.value == -score.details["conditional_entropy"]
    # The recorded run has costs in float32.
    assert score.details["transport_cost"] == pytest.approx(expected["W"], rel=1e-7)
    assert score.details["conditional_entropy"] == pytest.approx(expected["CE"], rel=1e-9)


@both_kinds
def test_the_recorded_joint_in_both_directions(kind: Kind) -> None:
    expected, data = recorded("ot_derived")
    evidence = {
        "source_features": kind(data["Xs"]),
        "source_labels": data["ys"],
        "features": kind(data["Xt"]),
        "labels": data["yt"],
    }
    assert float(domain_difference(source_features=evidence["source_features"], features=evidence["features"])) == (
        pytest.approx(expected["emd2_sqeuclidean"], rel=1e-12)
    )
    for direction, key in [
        ("labels_given_predictions", "OTCE_joint_H(Yt|Ys)"),
        ("predictions_given_labels", "OTCE_joint_H(Ys|Yt)"),
    ]:
        found = estimators.transported_task_difference(**evidence, direction=direction)
        assert float(found) == pytest.approx(expected[key], rel=1e-9)


def test_fitted_coefficients_combine_the_two_costs() -> None:
    _, data = recorded("otce")
    evidence = {"source_features": data["Xs"], "source_labels": data["ys"]}
    evidence |= {"features": data["Xt"], "labels": data["yt"]}
    plain = otce(**evidence)
    fitted = otce(**evidence, coefficients=(-0.01, -0.5, 0.9))
    terms = plain.details["transport_cost"], plain.details["conditional_entropy"]
    assert fitted.value == pytest.approx(-0.01 * terms[0] - 0.5 * terms[1] + 0.9)
    with pytest.raises(ValueError, match="three numbers"):
        otce(**evidence, coefficients=(1.0, 2.0))


def test_otce_of_separate_pairs_is_certain() -> None:
    # Two far clusters: the plan pairs source class 0 with target class "b" only, and 1 with "a".
    source = np.array([[0.0], [0.1], [10.0], [10.1]])
    score = otce(
        source_features=source, source_labels=[0, 0, 1, 1], features=source + 0.01, labels=["b", "b", "a", "a"]
    )
    assert score.value == 0.0
    assert score.details["transport_cost"] == pytest.approx(1e-4)


@both_kinds
def test_independent_predictions_leave_all_open(kind: Kind) -> None:
    # Every combination of 4 target labels and 3 predictions appears equally often.
    labels, predicted = kind(np.repeat(np.arange(4), 6)), kind(np.tile(np.arange(3), 8))
    assert float(task_difference(source_labels=predicted, labels=labels)) == pytest.approx(math.log(4))
    reverse = task_difference(source_labels=predicted, labels=labels, direction="predictions_given_labels")
    assert float(reverse) == pytest.approx(math.log(3))
    matrix = disagreement(source_labels=[labels, predicted])
    np.testing.assert_allclose(matrix, [[0, math.log(4)], [math.log(3), 0]], atol=1e-12)


@both_kinds
def test_identical_and_renamed_models_leave_nothing_open(kind: Kind) -> None:
    one = np.random.default_rng(0).integers(0, 7, 200)
    renamed = np.random.default_rng(1).permutation(1000)[one]
    matrix = disagreement(source_labels=[kind(one), kind(one.copy()), kind(renamed)])
    np.testing.assert_allclose(matrix, 0.0, atol=1e-12)
    assert (matrix >= 0).all()
    assert float(task_difference(source_labels=kind(renamed), labels=kind(one))) == pytest.approx(0.0, abs=1e-12)


def test_only_the_papers_direction_counts_splitting_against_a_model() -> None:
    labels, split = np.array([0, 0, 1, 1]), np.array([0, 1, 2, 3])
    assert float(task_difference(source_labels=split, labels=labels)) == 0.0
    paper = task_difference(source_labels=split, labels=labels, direction="predictions_given_labels")
    assert float(paper) == pytest.approx(math.log(2))


def test_only_the_papers_direction_calls_a_constant_model_perfect() -> None:
    labels, constant = np.array([0, 0, 1, 1]), np.zeros(4, dtype=int)
    default = task_difference(source_labels=constant, labels=labels)
    assert float(default) == pytest.approx(math.log(2))
    assert default.warnings[0].startswith("constant:")
    assert float(task_difference(source_labels=constant, labels=labels, direction="predictions_given_labels")) == 0.0


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(1, 40), st.integers(1, 12), st.integers(0, 10_000))
def test_fast_disagreement_is_the_double_loop(models: int, samples: int, classes: int, seed: int) -> None:
    rows = np.random.default_rng(seed).integers(0, classes, (models, samples))
    naive = [[naive_conditional_entropy(a.tolist(), b.tolist()) for b in rows] for a in rows]
    np.testing.assert_allclose(disagreement(source_labels=list(rows)), naive, atol=1e-12)
    np.testing.assert_allclose(disagreement(source_labels=[torch.asarray(row) for row in rows]), naive, atol=1e-12)


@both_kinds
def test_blocks_do_not_change_the_matrix(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [kind(row) for row in np.random.default_rng(0).integers(0, 50, (9, 100))]
    whole = disagreement(source_labels=rows)
    monkeypatch.setattr(osborn, "BLOCK", 250)
    np.testing.assert_array_equal(disagreement(source_labels=rows), whole)


def test_pair_codes_of_many_classes_do_not_overflow() -> None:
    rows = [np.random.default_rng(seed).permutation(50_000) for seed in (0, 1)]
    np.testing.assert_allclose(disagreement(source_labels=rows), np.zeros((2, 2)), atol=1e-9)


def test_names_of_labels_do_not_matter() -> None:
    one, other = np.random.default_rng(0).integers(0, 4, (2, 50))
    named = [[f"class {value}" for value in one], other * 1000 - 7]
    np.testing.assert_array_equal(disagreement(source_labels=named), disagreement(source_labels=[one, other]))


def test_equal_predictions_are_counted_by_name() -> None:
    share = osborn.same_predictions(source_labels=[[1, 2, 3, 4], [1, 2, 3, 9], [9, 9, 9, 9]])
    np.testing.assert_allclose(share, [[1, 0.75, 0], [0.75, 1, 0.25], [0, 0.25, 1]])


def test_shared_information_finds_renamed_copies_in_other_label_spaces() -> None:
    rows = [[0, 0, 1, 1], [7, 7, 3, 3], [0, 1, 0, 1], [5, 5, 5, 5]]
    share = osborn.mutual_information_share(
        disagreement=disagreement(source_labels=rows), entropy=osborn.prediction_entropy(source_labels=rows)
    )
    expected = [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(share, expected, atol=1e-12)


@both_kinds
def test_large_sets_are_sampled_class_balanced_and_the_same_every_time(kind: Kind) -> None:
    generator = np.random.default_rng(0)
    source, target = generator.normal(size=(60, 3)), generator.normal(size=(80, 3)) + 1
    source_labels, labels = np.arange(60) % 3, (np.arange(80) % 40 == 0).astype(int)
    arguments = {"source_labels": source_labels, "labels": labels}
    sampled = domain_difference(source_features=kind(source), features=kind(target), **arguments, sample=20)
    rows, columns = balanced_sample(labels=source_labels, size=20), balanced_sample(labels=labels, size=20)
    assert sampled.value == pytest.approx(
        transport(source_features=source[rows], features=target[columns]).cost, rel=1e-12
    )
    assert sampled.details["source_samples"] == sampled.details["samples"] == 20
    everything = domain_difference(source_features=kind(source), features=kind(target), **arguments, sample=None)
    assert everything.details["samples"] == 80


def test_a_difference_is_never_negative_and_zero_on_the_source_itself() -> None:
    features = np.random.default_rng(0).normal(size=(30, 5))
    assert float(domain_difference(source_features=features, features=features)) == pytest.approx(0.0, abs=1e-10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: disagreement(source_labels=[]), "at least one model"),
        (lambda: disagreement(source_labels=[[1, 2], [1]]), r"source_labels\[1\]"),
        (lambda: task_difference(source_labels=[1, 2], labels=[1, 2, 3]), "3 samples, 2 labels"),
        (lambda: domain_difference(source_features=np.ones((2, 2)), features=np.ones((2, 3))), "one model"),
    ],
)
def test_bad_evidence_is_named(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(InvalidEvidence, match=message):
        call()


def test_an_unknown_direction_lists_the_known() -> None:
    with pytest.raises(ValueError, match="labels_given_predictions"):
        task_difference(source_labels=[1], labels=[1], direction="both")


@both_kinds
@pytest.mark.parametrize("scale", ["source", "rows"])
def test_a_domain_difference_free_of_scale_equals_that_of_rescaled_features(kind: Kind, scale: str) -> None:
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(40, 6)) + 3, rng.normal(size=(50, 6)) * 2
    found = domain_difference(source_features=kind(source), features=kind(target), scale=scale)
    spread = np.sqrt(np.mean(np.sum((source - source.mean(axis=0)) ** 2, axis=1)))
    lengths = [np.linalg.norm(one, axis=1, keepdims=True) if scale == "rows" else spread for one in (source, target)]
    plain = domain_difference(source_features=source / lengths[0], features=target / lengths[1])
    assert float(found) == pytest.approx(float(plain), rel=1e-9)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(factor=st.floats(0.01, 100), scale=st.sampled_from(["source", "rows"]), seed=st.integers(0, 99))
def test_the_scale_of_the_features_is_no_domain_difference(factor: float, scale: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    source, target = rng.normal(size=(20, 3)), rng.normal(size=(15, 3)) + 1
    one, other = (
        float(domain_difference(source_features=f * source, features=f * target, scale=scale)) for f in (1.0, factor)
    )
    assert other == pytest.approx(one, rel=1e-7)


def test_a_source_sample_without_spread_has_no_scale() -> None:
    with pytest.raises(CannotBeComputed, match="no spread"):
        domain_difference(source_features=np.ones((5, 3)), features=np.eye(3), scale="source")
    with pytest.raises(ValueError, match="scale must be one of"):
        domain_difference(source_features=np.eye(3), features=np.eye(3), scale="target")
