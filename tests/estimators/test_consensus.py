"""One order from several, against brute force and by hand."""

from itertools import permutations

import numpy as np
import pytest

from estimators import CannotBeComputed
from estimators.comparison.consensus import LARGEST_EXACT, consensus


def contradictions(scores: np.ndarray, order: tuple[int, ...]) -> int:
    return sum(
        int(np.sum(scores[:, above] < scores[:, below]))
        for place, above in enumerate(order)
        for below in order[place + 1 :]
    )


@pytest.mark.parametrize("seed", range(5))
def test_kemeny_has_the_fewest_contradictions(seed: int) -> None:
    scores = np.random.default_rng(seed).normal(size=(4, 6))
    found = consensus(scores)
    fewest = min(contradictions(scores, order) for order in permutations(range(6)))
    assert found.method == "kemeny"
    assert contradictions(scores, found.order) == fewest


def test_metrics_that_agree_are_followed() -> None:
    found = consensus([[3.0, 1.0, 2.0], [30.0, 10.0, 20.0]])
    assert found.order == (0, 2, 1)
    assert found.mean_rank.tolist() == [1.0, 3.0, 2.0]
    assert found.mean_tau == pytest.approx(1.0)
    assert found.kendall_w == pytest.approx(1.0)


def test_metrics_that_contradict_each_other_disagree_fully() -> None:
    found = consensus([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    assert found.mean_tau == pytest.approx(-1.0)
    assert found.kendall_w == pytest.approx(0.0)


def test_equal_orders_follow_the_mean_ranks() -> None:
    """One metric each way leaves every order equally good; a third that ties two decides by mean rank."""
    found = consensus([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0], [5.0, 5.0, 1.0]])
    assert found.order == (0, 1, 2)


def test_many_models_are_ordered_by_borda() -> None:
    scores = np.random.default_rng(0).normal(size=(3, LARGEST_EXACT + 1))
    found = consensus(scores)
    assert found.method == "borda"
    assert list(found.order) == np.argsort(found.mean_rank, kind="stable").tolist()


def test_missing_scores_say_nothing() -> None:
    found = consensus([[3.0, 2.0, 1.0], [np.nan, 2.0, 1.0]])
    assert found.order == (0, 1, 2)
    assert found.kendall_w is None
    assert found.mean_rank[0] == 1.0


def test_models_without_any_score_are_left_out() -> None:
    found = consensus([[3.0, np.nan, 1.0]])
    assert found.order == (0, 2)
    assert np.isnan(found.mean_rank[1])
    assert found.mean_tau is None


def test_nothing_to_order() -> None:
    with pytest.raises(CannotBeComputed):
        consensus([[np.nan, np.nan]])
    with pytest.raises(ValueError, match="table"):
        consensus(np.zeros(3))
