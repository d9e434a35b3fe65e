"""Intervals against what fresh samples really do, and the draws' promises."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from estimators import METRICS, CannotBeComputed, Evidence, energy
from estimators.comparison.resampling import (
    bootstrap_weights,
    combine_resamples,
    default_resamples,
    interval,
    method,
    pool_summary,
    resample,
)
from estimators.metrics.energy import score_and_values
from tests.estimators.examples import classes_in_space, evidence

EVIDENCE = evidence(samples=300, dimensions=10)
NAMES = sorted(METRICS)


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_has_resamples_around_its_score(name: str) -> None:
    found = resample(name, EVIDENCE, resamples=12, seed=3)
    assert found.score == METRICS[name].compute(EVIDENCE)
    assert found.values.shape == (12,)
    assert np.mean(found.values) == pytest.approx(found.score.value)
    assert np.ptp(found.values) > 0
    low, high = interval(found)
    assert low <= found.score.value <= high


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides_the_draws(name: str) -> None:
    one, same, other = (resample(name, EVIDENCE, resamples=4, seed=seed).values for seed in (1, 1, 2))
    assert one.tolist() == same.tolist()
    assert one.tolist() != other.tolist()


def fresh(seed: int, samples: int = 400) -> Evidence:
    """New samples of one and the same model and data set."""
    centres = np.random.default_rng(99).normal(size=(4, 6))
    rng = np.random.default_rng(seed)
    labels = np.arange(samples) % 4
    features = centres[labels] + rng.normal(size=(samples, 6))
    logits = features[:, :5] * 1.5
    exponentials = np.exp(logits)
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    return Evidence(features, labels, probabilities, np.random.default_rng(0).normal(size=(50, 6)))


@pytest.mark.parametrize(
    "name", [n for n in NAMES if n not in ("nleep", "linear_probe", "ncti", "parc", "etran", "energy")]
)
def test_the_spread_is_that_of_fresh_samples(name: str) -> None:
    true = np.std([float(METRICS[name].compute(fresh(seed))) for seed in range(60)], ddof=1)
    claimed = np.mean([np.std(resample(name, fresh(seed), resamples=60).values, ddof=1) for seed in range(4)])
    assert claimed / true == pytest.approx(1.0, abs=0.35)


@pytest.mark.parametrize("name", ["leep", "nce"])
def test_reweighting_equals_computing_on_repeated_samples(name: str) -> None:
    weights = bootstrap_weights(EVIDENCE.labels, 5, seed=0)
    repeated = []
    for row in weights.astype(int):
        drawn = np.repeat(np.arange(300), row)
        given = Evidence(None, EVIDENCE.labels[drawn], EVIDENCE.source_probabilities[drawn])
        repeated.append(float(METRICS[name].compute(given)))
    found = resample(name, EVIDENCE, resamples=5, seed=0)
    assert found.values == pytest.approx(found.score.value + np.asarray(repeated) - np.mean(repeated), rel=1e-9)


@pytest.mark.parametrize("tail", ["lowest", "highest"])
def test_the_energy_of_reweighted_samples_is_that_of_repeated_ones(tail: str) -> None:
    features = EVIDENCE.features
    weights = bootstrap_weights(EVIDENCE.labels, 5, seed=0)
    repeated = [
        float(energy(features=np.repeat(features, row, axis=0), percent=4, tail=tail)) for row in weights.astype(int)
    ]
    _, values = score_and_values(features=features, weights=weights, percent=4, tail=tail)
    assert values == pytest.approx(repeated, rel=1e-12)


POOL = [evidence(samples=300, dimensions=dimensions) for dimensions in (10, 20, 30)]


@pytest.mark.parametrize("name", ["etran", "ncti"])
def test_resamples_of_a_pool_lie_around_its_final_values(name: str) -> None:
    drawn = [resample(name, model, resamples=12, seed=3) for model in POOL]
    finals = METRICS[name].combine([model.score for model in drawn])
    joined = combine_resamples(name, drawn)
    assert [model.score.value for model in joined] == finals
    low, high = METRICS[name].range
    for model, final in zip(joined, finals, strict=True):
        assert model.values.shape == (12,)
        assert low <= model.values.min() <= final <= model.values.max() <= high
    assert any(np.ptp(model.values) > 0 for model in joined)


@pytest.mark.parametrize("name", ["etran", "ncti"])
def test_parts_are_drawn_around_what_they_are(name: str) -> None:
    drawn = resample(name, EVIDENCE, resamples=12, seed=3)
    assert set(drawn.parts) == set(METRICS[name].pool_parts)
    for part, values in drawn.parts.items():
        assert np.mean(values) == pytest.approx(drawn.score.details[part])
        assert np.ptp(values) > 0


def test_a_metric_that_needs_no_pool_cannot_be_joined_over_one() -> None:
    with pytest.raises(ValueError, match="needs no pool"):
        combine_resamples("leep", [resample("leep", EVIDENCE, resamples=4)])


@pytest.mark.parametrize("name", ["logme", "h_score", "regularized_h_score"])
def test_the_share_of_a_sample_is_its_derivative(name: str) -> None:
    """Replacing a sample by another of its class changes the score by the difference of their shares."""
    features, labels = classes_in_space(samples=4000, relu=True)
    score, shares = METRICS[name].resampling.shares(features=features, labels=labels)
    for c in range(5):
        out, twice = np.flatnonzero(labels == c)[:2]
        changed = features.copy()
        changed[out] = features[twice]
        change = float(METRICS[name].compute(Evidence(changed, labels))) - score.value
        assert change == pytest.approx(shares[twice] - shares[out], rel=0.1, abs=2e-5)


def test_draws_keep_the_size_of_every_class() -> None:
    weights = bootstrap_weights(EVIDENCE.labels, 7, seed=0)
    for c in range(5):
        assert (weights[:, EVIDENCE.labels == c].sum(axis=1) == np.sum(EVIDENCE.labels == c)).all()


def test_models_are_compared_on_the_same_draws() -> None:
    """A model that is a little better on every sample is surely better, however wide both intervals are."""
    pool = [Evidence(scale * EVIDENCE.features, EVIDENCE.labels) for scale in (1.0, 1.001)]
    values = [resample("tmi", model, floor=0.0).values for model in pool]
    assert np.ptp(values[0]) > 10 * abs(np.mean(values[1]) - np.mean(values[0]))
    assert pool_summary(values).chance_first_on_another_sample.tolist() == [0.0, 1.0]


def test_pool_summary_shares_ties() -> None:
    summary = pool_summary(np.array([[1.0, 3.0], [1.0, 2.0], [0.0, 4.0]]))
    assert summary.chance_first_on_another_sample.tolist() == [0.25, 0.25, 0.5]
    assert summary.expected_rank.tolist() == [1.75, 2.25, 2.0]


def test_models_tied_but_for_rounding_share_the_chance_to_be_first() -> None:
    """A saturated H-score is the number of classes less one whatever the labels, with rounding of its own."""
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 4
    pool = [Evidence(rng.normal(size=(40, dimensions)), labels) for dimensions in (100, 150, 200, 250)]
    drawn = [resample("h_score", model, seed=1) for model in pool]
    assert len({model.score.value for model in drawn}) > 1
    summary = pool_summary([model.values for model in drawn])
    assert summary.chance_first_on_another_sample == pytest.approx(np.full(4, 0.25))
    assert summary.expected_rank == pytest.approx(np.full(4, 2.5))


def test_heavy_methods_draw_fewer() -> None:
    assert default_resamples("leep") > default_resamples("transrate")
    assert method("ped") == "linear"
    assert method("ped", base="logme") == "subsample"


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: resample("leep", EVIDENCE, resamples=1),
        lambda: resample("leep", EVIDENCE, neighbors=3),
        lambda: pool_summary([]),
        lambda: interval(resample("leep", EVIDENCE), level=2.0),
    ],
    ids=["one resample", "unknown parameter", "no models", "level above one"],
)
def test_impossible_requests_are_refused(wrong: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=r"must|no parameter"):
        wrong()


def test_missing_evidence_is_said() -> None:
    with pytest.raises(CannotBeComputed, match="no classifier"):
        resample("leep", Evidence(EVIDENCE.features, EVIDENCE.labels))
    with pytest.raises(CannotBeComputed, match="stratified by class"):
        resample("logme", Evidence(EVIDENCE.features, targets=EVIDENCE.labels))
