"""Linear probes against scikit-learn on the plain features, and greedy selection against its definition."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimators import CannotBeComputed, InvalidEvidence
from estimators.arrays.sampling import stratified_folds
from estimators.ensembles.held_out import as_selection, probe_predictions, select_held_out
from tests.estimators.examples import classes_in_space


def predictions(models: int = 5, samples: int = 60, classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(M, N, C) probabilities that know more of the labels from model to model, and (N,) labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=samples)
    logits = rng.normal(size=(models, samples, classes))
    logits += np.linspace(0.2, 1.5, models)[:, None, None] * np.eye(classes)[labels]
    exponentials = np.exp(logits)
    return exponentials / exponentials.sum(axis=2, keepdims=True), labels


def names_of(table: np.ndarray) -> list[str]:
    return [f"model {index}" for index in range(len(table))]


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean([-np.log(row[label]) for row, label in zip(probabilities, labels, strict=True)]))


def accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean([np.argmax(row) == label for row, label in zip(probabilities, labels, strict=True)]))


@pytest.mark.parametrize("dimensions", [12, 300], ids=["fewer dimensions", "more dimensions than samples"])
def test_a_probe_is_a_logistic_regression_fitted_to_the_other_folds(dimensions: int) -> None:
    from sklearn.linear_model import LogisticRegression

    features, labels = classes_in_space(samples=120, dimensions=dimensions, classes=4)
    found = probe_predictions(features=features, labels=labels, folds=3, penalty=0.5, seed=4)
    folds = stratified_folds(labels, 3, seed=4)
    for fold in range(3):
        train = features[folds != fold]
        scaled = (features - train.mean(axis=0)) / train.std(axis=0) / np.sqrt(dimensions)
        probe = LogisticRegression(C=2.0, max_iter=5000, tol=1e-8).fit(scaled[folds != fold], labels[folds != fold])
        assert found[folds == fold] == pytest.approx(probe.predict_proba(scaled[folds == fold]), abs=2e-3)


def test_a_probe_learns_and_chance_does_not() -> None:
    features, labels = classes_in_space(samples=300, separation=3.0)
    assert accuracy(probe_predictions(features=features, labels=labels), labels) > 0.95
    shuffled = np.random.default_rng(0).permutation(labels)
    assert accuracy(probe_predictions(features=features, labels=shuffled), shuffled) < 0.5


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    samples=st.integers(30, 80),
    dimensions=st.integers(1, 120),
    classes=st.integers(2, 5),
    folds=st.integers(2, 5),
    seed=st.integers(0, 99),
)
def test_every_row_of_a_probe_is_a_distribution(
    samples: int, dimensions: int, classes: int, folds: int, seed: int
) -> None:
    features, labels = classes_in_space(samples=samples, dimensions=dimensions, classes=classes, seed=seed)
    found = probe_predictions(features=features, labels=labels, folds=folds, seed=seed)
    assert found.shape == (samples, classes)
    assert (found >= 0).all()
    assert found.sum(axis=1) == pytest.approx(np.ones(samples))
    again = probe_predictions(features=features, labels=labels * 7 - 3, folds=folds, seed=seed)
    assert np.array_equal(found, again), "names of classes, gaps and a second run change nothing"


@settings(max_examples=30, deadline=None, derandomize=True)
@given(labels=st.lists(st.integers(0, 4), min_size=10, max_size=60), folds=st.integers(2, 5), seed=st.integers(0, 99))
def test_folds_are_even_in_every_class_and_as_a_whole(labels: list[int], folds: int, seed: int) -> None:
    codes = np.unique(labels, return_inverse=True)[1]
    found = stratified_folds(codes, folds, seed=seed)
    for group in (found, *(found[codes == c] for c in range(codes.max() + 1))):
        sizes = np.bincount(group, minlength=folds)
        assert sizes.max() - sizes.min() <= 1


def test_a_class_of_one_sample_has_no_chance_where_it_is_held_out() -> None:
    features, labels = classes_in_space(samples=60, classes=3)
    labels[7] = 9
    found = probe_predictions(features=features, labels=labels)
    assert found[7, 3] == 0
    assert found[7].sum() == pytest.approx(1.0)


def test_constant_features_predict_the_frequencies() -> None:
    labels = np.repeat([0, 1], [40, 20])
    for dimensions in (3, 200):
        found = probe_predictions(features=np.ones((60, dimensions)), labels=labels)
        assert found == pytest.approx(np.tile([2 / 3, 1 / 3], (60, 1)), abs=0.02)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"labels": np.zeros(60)}, CannotBeComputed, "two classes"),
        ({"labels": np.arange(60) // 59}, CannotBeComputed, "two classes"),
        ({"features": np.ones((2, 3)), "labels": [0, 1]}, CannotBeComputed, "5 folds need"),
        ({"features": np.full((60, 3), np.nan)}, InvalidEvidence, "NaN"),
        ({"labels": np.zeros(59)}, InvalidEvidence, "60 samples, 59 labels"),
        ({"features": np.ones((0, 3)), "labels": []}, InvalidEvidence, "empty"),
        ({"folds": 1}, ValueError, "folds must be at least 2"),
        ({"penalty": 0}, ValueError, "penalty must be above 0"),
    ],
)
def test_probes_that_cannot_be_fitted_say_why(change: dict[str, Any], error: type[Exception], message: str) -> None:
    features, labels = classes_in_space(samples=60, classes=3)
    with pytest.raises(error, match=message):
        probe_predictions(**({"features": features, "labels": labels} | change))


@pytest.mark.parametrize("objective", ["log_loss", "accuracy"])
@pytest.mark.parametrize("seed", range(4))
def test_each_step_adds_the_model_that_improves_the_average_most(objective: str, seed: int) -> None:
    table, labels = predictions(seed=seed)
    found = select_held_out(
        names=names_of(table), probabilities=list(table), labels=labels, size=3, objective=objective
    )

    def key(members: tuple[int, ...]) -> tuple[float, float]:
        average = table[list(members)].mean(axis=0)
        loss, correct = log_loss(average, labels), accuracy(average, labels)
        return (loss, -correct) if objective == "log_loss" else (-correct, loss)

    members: tuple[int, ...] = ()
    for step in found.trace:
        members = min(((*members, index) for index in range(len(table)) if index not in members), key=key)
        assert step.added == f"model {members[-1]}"
        assert step.log_loss == pytest.approx(log_loss(table[list(members)].mean(axis=0), labels))
        assert step.accuracy == pytest.approx(accuracy(table[list(members)].mean(axis=0), labels))
    assert found.members == tuple(f"model {index}" for index in members)
    best = min(range(len(table)), key=lambda index: key((index,)))
    assert found.best_single.name == f"model {best}"
    assert found.log_loss_gain.value == pytest.approx(found.best_single.log_loss - found.log_loss)
    assert found.accuracy_gain.value == pytest.approx(found.accuracy - found.best_single.accuracy)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 999), size=st.integers(1, 4), samples=st.integers(1, 40))
def test_an_average_is_never_worse_than_the_mean_of_its_members(seed: int, size: int, samples: int) -> None:
    table, labels = predictions(models=4, samples=samples, seed=seed)
    found = select_held_out(names=names_of(table), probabilities=list(table), labels=labels, size=size, resamples=50)
    chosen = [table[int(name.split()[1])] for name in found.members]
    assert found.log_loss <= np.mean([log_loss(one, labels) for one in chosen]) + 1e-9
    assert len(set(found.members)) == size
    assert found.log_loss_gain.low <= found.log_loss_gain.high


def test_one_model_gains_nothing() -> None:
    table, labels = predictions()
    found = select_held_out(names=names_of(table), probabilities=list(table), labels=labels, size=1)
    assert found.members == (found.best_single.name,)
    for gain in (found.accuracy_gain, found.log_loss_gain):
        assert (gain.value, gain.low, gain.high) == (0.0, 0.0, 0.0)


def test_intervals_are_those_of_repeated_images() -> None:
    """The spread of the gain is that of a mean of paired differences."""
    table, labels = predictions(samples=400)
    found = select_held_out(
        names=names_of(table), probabilities=list(table), labels=labels, size=3, resamples=4000, level=0.9
    )
    members = [int(name.split()[1]) for name in found.members]
    single = table[int(found.best_single.name.split()[1])]
    rows = np.arange(len(labels))
    differences = np.log(table[members].mean(axis=0)[rows, labels]) - np.log(single[rows, labels])
    half = 1.645 * differences.std() / np.sqrt(len(labels))
    assert found.log_loss_gain.high - found.log_loss_gain.low == pytest.approx(2 * half, rel=0.1)


def test_copies_do_not_change_the_members_and_the_first_name_wins() -> None:
    table, labels = predictions(models=3)
    doubled = np.concatenate([table, table])
    found = select_held_out(names=names_of(doubled), probabilities=list(doubled), labels=labels, size=1)
    alone = select_held_out(names=names_of(table), probabilities=list(table), labels=labels, size=1)
    assert found.members == alone.members


def test_a_probability_of_zero_for_the_true_class_has_a_finite_loss() -> None:
    table = np.array([[[1.0, 0.0]], [[0.5, 0.5]]])
    found = select_held_out(names=["sure", "unsure"], probabilities=list(table), labels=[1], size=2)
    assert found.members == ("unsure", "sure")
    assert np.isfinite(found.trace[-1].log_loss)


@pytest.mark.parametrize("labels", ["names", "gaps", "columns"])
def test_labels_are_columns_or_name_them_in_order(labels: str) -> None:
    table, codes = predictions(samples=80)
    given_labels = {"names": np.array(list("abcd"))[codes], "gaps": codes * 10 + 5, "columns": codes}[labels]
    by_code, found = (
        select_held_out(names=names_of(table), probabilities=list(table), labels=one, size=2)
        for one in (codes, given_labels)
    )
    assert found == by_code


def test_labels_may_leave_columns_out() -> None:
    table, labels = predictions(samples=80)
    kept = labels != 1
    found = select_held_out(names=names_of(table), probabilities=list(table[:, kept]), labels=labels[kept], size=1)
    assert found.log_loss == pytest.approx(min(log_loss(one[kept], labels[kept]) for one in table))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"names": [], "probabilities": []}, InvalidEvidence, "at least one model"),
        ({"names": ["a"] * 5}, InvalidEvidence, "all different"),
        ({"labels": np.full(60, 7)}, InvalidEvidence, "columns of the probabilities, 0 to 3"),
        ({"labels": np.zeros(59, dtype=int)}, InvalidEvidence, "60 samples, 59 labels"),
        ({"probabilities": [np.ones((60, 4))] * 5}, InvalidEvidence, "sum to one"),
        ({"probabilities": [np.full((60, 4), np.nan)] * 5}, InvalidEvidence, "NaN"),
        ({"size": 6}, CannotBeComputed, "an ensemble of 6"),
        ({"size": 0}, ValueError, "size must be at least 1"),
        ({"objective": "regret"}, ValueError, "objective must be one of"),
        ({"level": 1.5}, ValueError, "level must be at most 1"),
    ],
)
def test_selections_that_cannot_be_made_say_why(change: dict[str, Any], error: type[Exception], message: str) -> None:
    table, labels = predictions()
    usual = {"names": names_of(table), "probabilities": list(table), "labels": labels, "size": 2}
    with pytest.raises(error, match=message):
        select_held_out(**(usual | change))


def test_models_of_different_images_or_classes_are_refused() -> None:
    table, labels = predictions()
    for other in (table[0, :-1], np.full((60, 3), 1 / 3)):
        with pytest.raises(InvalidEvidence, match="same classes of the same images"):
            select_held_out(names=["a", "b"], probabilities=[table[0], other], labels=labels, size=1)


def test_a_pair_is_the_best_that_holds_the_first_choice() -> None:
    table, labels = predictions(models=6, seed=3)
    found = select_held_out(names=names_of(table), probabilities=list(table), labels=labels, size=2)
    first = int(found.members[0].split()[1])
    pairs = [pair for pair in itertools.combinations(range(6), 2) if first in pair]
    assert found.log_loss == pytest.approx(min(log_loss(table[list(pair)].mean(axis=0), labels) for pair in pairs))


def test_told_like_other_ensembles_it_keeps_its_numbers() -> None:
    table, labels = predictions()
    names = names_of(table)
    found = select_held_out(names=names, probabilities=list(table), labels=labels, size=3)
    told = as_selection(found, names=names, probabilities=list(table), labels=labels, costs=[1.0, 2.0, 3.0, 4.0, 5.0])
    members = [names.index(name) for name in told.members]
    assert told.value == pytest.approx(-log_loss(table[members].mean(axis=0), labels))
    assert told.cost == sum(1.0 + member for member in members)
    assert [term.accuracy for term in told.member_terms] == [accuracy(table[m], labels) for m in members]
    assert told.best_single is not None
    single = table[names.index(told.best_single.name)]
    gain = accuracy(table[members].mean(axis=0), labels) - accuracy(single, labels)
    assert told.best_single.accuracy_gain.value == pytest.approx(gain)
    assert told.evaluated == 5 + 4 + 3


def test_without_all_costs_the_ensemble_has_none() -> None:
    table, labels = predictions()
    names = names_of(table)
    found = select_held_out(names=names, probabilities=list(table), labels=labels, size=2)
    told = as_selection(found, names=names, probabilities=list(table), labels=labels, costs=[None] * 5)
    assert told.cost is None
