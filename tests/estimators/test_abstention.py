"""A metric that cannot order a pool says so, and one that can does not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimators import METRICS, Evidence, Score
from estimators.comparison.abstention import abstentions, reason_to_abstain
from estimators.comparison.ties import levels
from tests.estimators.examples import classes_in_space, evidence


def scores(*values: float, **details: object) -> list[Score]:
    return [Score(value, details=details) for value in values]


def reason(name: str, pool: list[Score]) -> str | None:
    return reason_to_abstain(METRICS[name], pool)


@pytest.mark.parametrize("name", sorted(METRICS))
def test_models_that_differ_are_told_apart(name: str) -> None:
    pool = [METRICS[name].compute(evidence(separation=s, scale=5.0, seed=int(10 * s))) for s in (0.1, 0.3, 0.5)]
    assert reason(name, pool) is None


@pytest.mark.parametrize("name", ["sfda", "lda", "ped", "h_score"])
def test_discriminants_of_few_samples_are_saturated(name: str) -> None:
    pool = []
    for seed in range(3):
        features, labels = classes_in_space(samples=60, dimensions=200, scale=10.0, seed=seed)
        pool.append(METRICS[name].compute(Evidence(features, labels)))
    assert str(reason(name, pool)).startswith("saturated: 3 of 3 models")


def test_tmi_of_small_features_is_clipped() -> None:
    pool = [METRICS["tmi"].compute(evidence(scale=1e-3, seed=seed, dimensions=10 + seed)) for seed in range(3)]
    assert str(reason("tmi", pool)).startswith("clipped: for 3 of 3 models")


def test_most_models_at_the_top_are_no_order() -> None:
    assert str(reason("sfda", scores(*[1.0] * 8, 0.7))).startswith("saturated: 8 of 9")
    assert str(reason("logme", scores(*[2.5] * 8, 0.7))).startswith("tied: 8 of 9")
    assert str(reason("h_score", scores(9.0, 9.0 + 1e-14, 9.0 - 2e-14))).startswith("tied: 3 of 3")


def test_half_of_the_models_at_the_top_still_leave_an_order() -> None:
    assert reason("sfda", scores(1.0, 1.0, 0.7, 0.6)) is None
    assert reason("logme", scores(2.5, 2.5, 0.7, 0.6)) is None


def test_ties_at_the_bottom_still_name_the_best() -> None:
    assert reason("logme", scores(2.5, 0.7, 0.7, 0.7, 0.7)) is None


def test_one_model_or_none_is_no_reason() -> None:
    assert reason("sfda", scores(1.0)) is None
    assert reason("sfda", []) is None


def test_a_metric_of_a_pool_is_judged_by_its_parts() -> None:
    tied = [Score(0.5, details={"energy": energy}) for energy in (1.0, 2.0, 3.0)]
    assert reason("etran", tied) is None
    assert str(reason("etran", scores(0.5, 0.5, 0.5, energy=1.0))).startswith("tied: 3 of 3")


def test_the_metrics_that_abstain_are_named() -> None:
    pool = {"sfda": scores(1.0, 1.0, 1.0), "logme": scores(0.1, 0.2, 0.3)}
    assert set(abstentions(pool)) == {"sfda"}


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20))
def test_levels_follow_the_values(values: list[float]) -> None:
    array = np.asarray(values)
    found = levels(array)
    assert found.min() == 0
    assert (np.diff(found[np.argsort(array, kind="stable")]) >= 0).all()
    shaken = array + 1e-13 * np.maximum(1, np.abs(array)) * np.cos(np.arange(len(array)))
    if np.min(np.abs(np.diff(np.sort(array))), initial=1.0) > 1e-3:
        assert np.array_equal(levels(shaken), found)


def test_levels_tie_what_rounding_tells_apart() -> None:
    assert levels(np.array([1.0, 3.0, 1.0 + 1e-14, 2.0])).tolist() == [0, 2, 0, 1]
    assert levels(np.array([[1e9, 5.0], [1e9 + 0.1, 4.0]])).tolist() == [[0, 1], [0, 0]]
