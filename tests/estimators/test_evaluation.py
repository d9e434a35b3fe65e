"""Measures of advice against SciPy, hand-made cases and a published table; tests over targets on made-up data."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from estimators import InvalidEvidence
from estimators.comparison.evaluation import (
    MEASURES,
    against,
    evaluate,
    over_targets,
    paired_difference,
    paired_test,
    regret,
    relative_accuracy,
)

PUBLISHED = Path(__file__).parents[1] / "reference" / "published" / "tllib_benchmark.json"
ACCURACIES = [0.9, 0.8, 0.95, 0.7]


def test_correlations_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    scores, accuracies = rng.normal(size=9), rng.normal(size=9).round(1)
    found = evaluate(scores=scores, accuracies=accuracies, resamples=0)
    expected = {
        "weighted_kendall": stats.weightedtau(scores, accuracies).statistic,
        "kendall": stats.kendalltau(scores, accuracies).statistic,
        "spearman": stats.spearmanr(scores, accuracies).statistic,
        "pearson": stats.pearsonr(scores, accuracies).statistic,
    }
    assert {name: found[name].value for name in expected} == pytest.approx(expected)


def test_regret_and_relative_accuracy_by_hand() -> None:
    scores = [3.0, 2.0, 1.0, 0.0]
    assert regret(scores=scores, accuracies=ACCURACIES) == pytest.approx(0.05)
    assert regret(scores=scores, accuracies=ACCURACIES, k=2) == pytest.approx(0.05)
    assert regret(scores=scores, accuracies=ACCURACIES, k=3) == 0.0
    assert relative_accuracy(scores=scores, accuracies=ACCURACIES) == pytest.approx(0.9 / 0.95)


@given(
    scores=st.lists(st.integers(0, 3), min_size=2, max_size=6),
    k=st.integers(1, 6),
    seed=st.integers(0, 100),
)
def test_ties_count_as_the_mean_over_all_choices(scores: list[int], k: int, seed: int) -> None:
    accuracies = np.random.default_rng(seed).random(len(scores))
    k = min(k, len(scores))
    border = sorted(scores)[-k]
    choices = [
        team
        for team in itertools.combinations(range(len(scores)), k)
        if all(scores[i] >= border for i in team) and all(i in team for i, score in enumerate(scores) if score > border)
    ]
    expected = accuracies.max() - np.mean([max(accuracies[list(team)]) for team in choices])
    assert regret(scores=scores, accuracies=accuracies, k=k) == pytest.approx(expected)


def test_scores_that_are_all_equal_choose_at_random_and_have_no_correlation() -> None:
    found = evaluate(scores=[1.0] * 4, accuracies=ACCURACIES)
    assert found["weighted_kendall"].value is None
    assert found["regret_1"].value == pytest.approx(0.95 - np.mean(ACCURACIES))


def test_intervals_hold_the_value_and_come_back_by_seed() -> None:
    rng = np.random.default_rng(1)
    accuracies = rng.random(12)
    scores = accuracies + 0.2 * rng.normal(size=12)
    first, second = (evaluate(scores=scores, accuracies=accuracies, seed=3) for _ in range(2))
    assert first == second
    assert set(first) == set(MEASURES)
    tau = first["weighted_kendall"]
    assert tau.low is not None
    assert tau.high is not None
    assert tau.low < tau.value < tau.high


@pytest.mark.parametrize(("scores", "accuracies"), [([1.0], [1.0]), ([1.0, np.nan], [1.0, 2.0]), ([1.0, 2.0], [1.0])])
def test_bad_input_is_named(scores: list[float], accuracies: list[float]) -> None:
    with pytest.raises(InvalidEvidence, match="scores and truth"):
        evaluate(scores=scores, accuracies=accuracies)


def test_two_scores_on_one_target_are_compared_model_by_model() -> None:
    accuracies = np.arange(20.0)
    good, bad = accuracies + 0.1, np.random.default_rng(0).permutation(20).astype(float)
    found = paired_difference(first=good, second=bad, accuracies=accuracies, measure="weighted_kendall")
    assert found is not None
    assert found.difference > 0.3
    assert found.p_value < 0.05
    same = paired_difference(first=good, second=accuracies, accuracies=accuracies, measure="regret_1")
    assert same is not None
    assert (same.difference, same.p_value) == (0.0, 1.0)
    flat = paired_difference(first=np.ones(20), second=bad, accuracies=accuracies, measure="kendall")
    assert flat is None


def test_the_sign_flip_test_by_hand() -> None:
    # Of the eight sign patterns of (1, 2, 3), two have a sum of 6 or more in size.
    found = paired_test([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    assert found.difference == pytest.approx(2.0)
    assert found.p_value == pytest.approx(2 / 8)
    assert found.targets == 3


def test_the_sign_flip_test_keeps_its_level() -> None:
    rng = np.random.default_rng(0)
    rejected = [paired_test(list(rng.normal(size=8)), [0.0] * 8).p_value <= 0.1 for _ in range(400)]
    assert np.mean(rejected) == pytest.approx(0.1, abs=0.045)


def test_many_targets_are_tested_by_drawn_signs() -> None:
    rng = np.random.default_rng(0)
    assert paired_test(list(rng.normal(1.0, 1.0, 40)), [0.0] * 40).p_value < 0.001
    assert paired_test(list(rng.normal(0.0, 1.0, 40)), [0.0] * 40).p_value > 0.05


def test_a_target_without_a_value_is_left_out() -> None:
    assert paired_test([1.0, float("nan"), 1.0], [0.0, 0.0, 0.0]).targets == 2
    assert over_targets([1.0, float("nan"), 3.0]).value == 2.0
    assert over_targets([float("nan")]).value is None
    with pytest.raises(ValueError, match="no target"):
        paired_test([float("nan")], [0.0])


def test_less_regret_is_in_favour_of_a_score() -> None:
    table = {"random": [3.0, 2.0, 4.0], "good": [0.0, 1.0, 0.0]}
    assert against(table, "random", higher_is_better=False)["good"].difference == pytest.approx(8 / 3)


def _published() -> list[tuple[str, str, list[float], list[float], float]]:
    found = []
    for target, content in json.loads(PUBLISHED.read_text()).items():
        models = content["models"].values()
        accuracies = [model["Finetuned Acc"] for model in models]
        for metric, stated in content["Weighted Tau"].items():
            found.append((target, metric, [model[metric] for model in models], accuracies, stated))
    return found


def _taus(scores: list[float], accuracies: list[float]) -> set[float]:
    """The weighted tau to three decimals under every order of scores that the table prints as equal."""
    values = sorted(set(scores))
    gap = min(b - a for a, b in itertools.pairwise(values))
    groups = [[i for i, score in enumerate(scores) if score == value] for value in values]
    taus = set()
    for orders in itertools.product(*(itertools.permutations(group) for group in groups)):
        moved = list(scores)
        for order in orders:
            for place, i in enumerate(order):
                moved[i] += gap * place / (10 * len(order))
        taus.add(_tau(moved, accuracies))
    return taus | {_tau(scores, accuracies)}


def _tau(scores: list[float], accuracies: list[float]) -> float:
    measure: Any = evaluate(scores=scores, accuracies=accuracies, resamples=0)["weighted_kendall"].value
    return round(float(measure), 3)


# Where the correlations that the authors state do not belong to the accuracies and scores that they print.
CONTRADICTORY = {
    *(("Aircraft", metric) for metric in ("HScore", "LEEP", "LogME", "NCE")),
    *(("OxfordIIITPets", metric) for metric in ("HScore", "LEEP", "LogME", "NCE")),
    ("DTD", "NCE"),
}


@pytest.mark.parametrize("row", _published(), ids=lambda row: f"{row[0]}-{row[1]}")
def test_the_published_weighted_tau_comes_out_wherever_the_table_agrees_with_itself(row: Any) -> None:
    target, metric, scores, accuracies, stated = row
    assert (stated in _taus(scores, accuracies)) == ((target, metric) not in CONTRADICTORY)
