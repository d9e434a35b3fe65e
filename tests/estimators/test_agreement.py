"""Rank correlations against their definitions, and the bootstrap over models."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimators import CannotBeComputed, InvalidEvidence
from estimators.comparison.agreement import STATISTICS, agreement, kendall, pearson, spearman, weighted_kendall

BY_NAME = {"weighted_kendall": weighted_kendall, "kendall": kendall, "spearman": spearman, "pearson": pearson}


def naive_kendall(scores: list[float], truth: list[float]) -> float:
    """τ-b from its definition."""
    pairs = list(itertools.combinations(range(len(scores)), 2))
    x = [np.sign(scores[a] - scores[b]) for a, b in pairs]
    y = [np.sign(truth[a] - truth[b]) for a, b in pairs]
    return float(np.dot(x, y) / np.sqrt(np.dot(x, x) * np.dot(y, y)))


def naive_weighted_kendall(scores: list[float], truth: list[float]) -> float:
    """Vigna's τ from its definition: pairs weighted by 1/(1 + rank) of both, once ranked by each, without ties."""
    values = []
    for ranked in (scores, truth):
        rank = np.argsort(np.argsort([-value for value in ranked]))
        pairs = list(itertools.combinations(range(len(scores)), 2))
        weight = [1 / (1 + rank[a]) + 1 / (1 + rank[b]) for a, b in pairs]
        agree = [np.sign(scores[a] - scores[b]) * np.sign(truth[a] - truth[b]) for a, b in pairs]
        values.append(np.dot(weight, agree) / np.sum(weight))
    return float(np.mean(values))


@pytest.mark.parametrize("statistic", STATISTICS)
def test_same_order_is_one_and_reversed_is_minus_one(statistic: str) -> None:
    scores = np.arange(8.0)
    assert BY_NAME[statistic](scores=scores, truth=2 * scores + 1) == pytest.approx(1.0)
    assert BY_NAME[statistic](scores=scores, truth=-scores) == pytest.approx(-1.0)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=3, max_size=12), st.integers(0, 1000))
def test_kendall_corrects_for_ties(scores: list[int], seed: int) -> None:
    truth = np.random.default_rng(seed).integers(0, 4, len(scores)).tolist()
    if len(set(scores)) > 1 and len(set(truth)) > 1:
        assert kendall(scores=scores, truth=truth) == pytest.approx(naive_kendall(scores, truth))


@settings(max_examples=50, deadline=None)
@given(st.integers(3, 15), st.integers(0, 1000))
def test_weighted_kendall_weighs_the_top(entries: int, seed: int) -> None:
    scores, truth = np.random.default_rng(seed).permuted(np.tile(np.arange(entries), (2, 1)), axis=1).tolist()
    assert weighted_kendall(scores=scores, truth=truth) == pytest.approx(naive_weighted_kendall(scores, truth))


def test_pearson_is_the_correlation_coefficient() -> None:
    scores, truth = np.random.default_rng(0).normal(size=(2, 30))
    assert pearson(scores=scores, truth=truth) == pytest.approx(np.corrcoef(scores, truth)[0, 1], rel=1e-12)


def test_the_interval_is_the_same_for_the_same_seed_and_holds_the_value() -> None:
    generator = np.random.default_rng(0)
    truth = generator.normal(size=20)
    scores = truth + generator.normal(size=20)
    first = agreement(scores=scores, truth=truth, resamples=200)
    assert first == agreement(scores=scores, truth=truth, resamples=200)
    assert first.low < first.value < first.high
    assert first.value == weighted_kendall(scores=scores, truth=truth)
    assert agreement(scores=scores, truth=truth, resamples=200, seed=1) != first


def test_ensembles_that_share_models_make_a_wider_interval_than_as_many_single_models() -> None:
    generator = np.random.default_rng(3)
    quality, noise = generator.normal(size=(2, 10))
    ensembles = list(itertools.combinations(range(10), 3))
    truth = [sum(quality[m] for m in ensemble) for ensemble in ensembles]
    scores = [sum(quality[m] + noise[m] for m in ensemble) for ensemble in ensembles]
    by_model = agreement(scores=scores, truth=truth, statistic="pearson", members=ensembles, resamples=300)
    by_ensemble = agreement(scores=scores, truth=truth, statistic="pearson", resamples=300)
    assert by_model.units == 10
    assert by_ensemble.units == len(ensembles)
    assert by_model.high - by_model.low > 2 * (by_ensemble.high - by_ensemble.low)


def test_an_ensemble_counts_as_often_as_the_product_over_its_members() -> None:
    # Two entries remain comparable only in draws that hold every model of both; each other draw has no value.
    result = agreement(
        scores=[1.0, 2.0], truth=[1.0, 2.0], statistic="kendall", members=[("a", "b"), ("b", "c")], resamples=400
    )
    assert result.value == result.low == result.high == 1.0
    # Three models drawn three times: all three appear in 3!/3³ of the draws.
    assert result.resamples / 400 == pytest.approx(6 / 27, abs=0.07)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_equal_scores_have_no_agreement(statistic: str) -> None:
    with pytest.raises(CannotBeComputed, match="are equal"):
        BY_NAME[statistic](scores=[1.0, 1.0, 1.0], truth=[1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("scores", "truth", "message"),
    [
        ([1.0, 2.0], [1.0, 2.0, 3.0], "equally long"),
        ([1.0, float("nan")], [1.0, 2.0], "finite"),
        ([1.0], [1.0], "at least two"),
    ],
)
def test_bad_input_is_named(scores: list[float], truth: list[float], message: str) -> None:
    with pytest.raises(InvalidEvidence, match=message):
        kendall(scores=scores, truth=truth)


def test_members_must_match_the_scores() -> None:
    with pytest.raises(InvalidEvidence, match="one entry a score"):
        agreement(scores=[1.0, 2.0], truth=[1.0, 2.0], members=[("a",)])


def test_confidence_is_a_share() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        agreement(scores=[1.0, 2.0], truth=[1.0, 2.0], confidence=95)
