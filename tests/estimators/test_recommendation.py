"""The recommended order, successive halving and expected regret, by hand and on made-up trials."""

from typing import Any

import numpy as np
import pytest

from estimators.comparison.recommendation import mean_losses, recommend, still_in_race

NAN = float("nan")


def _trial(quality: list[float], images: int, seed: int = 0) -> tuple[Any, Any]:
    """Losses and hits of models with the given chances to be right, on images of unlike difficulty."""
    rng = np.random.default_rng(seed)
    difficulty = rng.normal(size=images)
    margin = np.array(quality)[:, None] - difficulty + 0.3 * rng.normal(size=(len(quality), images))
    return np.logaddexp(0, -3 * margin), margin > 0


def test_each_rung_alone_gives_its_own_order() -> None:
    assert recommend(known=[[1.0, 3.0, 2.0]]).order.tolist() == [1, 2, 0]
    assert recommend(metrics=[[1.0, 3.0, 2.0]]).order.tolist() == [1, 2, 0]
    losses = np.array([[0.5, 0.6], [0.1, 0.2], [0.3, 0.3]])
    assert recommend(losses=losses, correct=losses < 0.55).order.tolist() == [1, 2, 0]


def test_the_score_is_the_weighted_mean_of_places_by_hand() -> None:
    found = recommend(known=[[1.0, 2.0]], metrics=[[2.0, 1.0]], losses=[[0.2], [0.1]], correct=[[1], [1]])
    places = {"known": [0.25, 0.75], "metrics": [0.75, 0.25], "trial": [0.25, 0.75]}
    np.testing.assert_allclose(found.score, [1.125 / 2.5, 1.375 / 2.5])
    for rung, place in places.items():
        np.testing.assert_allclose(found.places[rung], place)


def test_a_metric_that_tells_nothing_apart_abstains() -> None:
    saturated = [1.0, 1.0 - 1e-14, 1.0]
    found = recommend(known=[[1.0, 2.0, 3.0]], metrics=[saturated])
    assert "metrics" not in found.places
    assert found.order.tolist() == [2, 1, 0]


def test_a_model_without_a_number_is_judged_by_the_others() -> None:
    found = recommend(known=[[NAN, 1.0, 2.0]], metrics=[[3.0, 1.0, 2.0], [NAN, NAN, NAN]])
    assert found.order.tolist() == [0, 2, 1]
    assert np.isnan(found.places["known"][0])


def test_without_any_difference_the_order_is_as_given() -> None:
    found = recommend(known=[[NAN, NAN]])
    assert (found.order.tolist(), found.score.tolist(), found.expected_regret) == ([0, 1], [0.5, 0.5], None)


@pytest.mark.parametrize("arguments", [{}, {"known": [[1.0, 2.0]], "metrics": [[1.0]]}, {"known": [[[1.0]]]}])
def test_shapes_that_do_not_fit_are_refused(arguments: Any) -> None:
    with pytest.raises(ValueError, match="one entry a model"):
        recommend(**arguments)


def test_means_are_fair_to_a_model_that_saw_the_hard_images_only() -> None:
    losses = np.array([[0.1, 0.1, 2.0, 2.0], [0.2, 0.2, 2.1, 2.1], [NAN, NAN, 2.05, 2.05]])
    np.testing.assert_allclose(mean_losses(losses), [1.05, 1.15, 1.10])


def test_the_race_keeps_what_may_be_first_and_drops_what_cannot() -> None:
    losses, _ = _trial([1.2, 1.15, 0.0, 1.18], 200)
    assert still_in_race(losses, 2).tolist() == [True, True, False, True]
    losses[3] = NAN
    assert still_in_race(losses, 2).tolist() == [True, True, False, False]


def test_the_race_rarely_drops_the_best() -> None:
    lost = 0
    for seed in range(100):
        losses, _ = _trial([0.5, 0.6, 0.4, 0.55, 0.2, 0.1], 100, seed)
        lost += not still_in_race(losses, 2)[1]
    assert lost <= 5


def test_what_the_trial_dropped_comes_last() -> None:
    evidence = {"known": [[0.0, 1.0, 9.0]], "metrics": [[0.0, 1.0, 9.0]]}
    assert recommend(**evidence).order[0] == 2
    assert recommend(**evidence, dropped=[False, False, True]).order.tolist() == [1, 0, 2]


def test_a_model_cut_off_by_the_budget_is_still_compared() -> None:
    losses, correct = _trial([0.0, 0.1, 1.5], 120)
    losses[2, 40:] = NAN
    assert recommend(losses=losses, correct=correct).order[0] == 2


def test_expected_regret_falls_with_k_and_ends_at_zero() -> None:
    losses, correct = _trial([0.5, 0.5, 0.5], 100)
    expected = recommend(losses=losses, correct=correct).expected_regret
    assert expected is not None
    assert expected[0] > expected[1] > expected[2] == 0.0
    clear = recommend(losses=[[0.1] * 50, [3.0] * 50], correct=[[1] * 50, [0] * 50])
    assert clear.expected_regret == (0.0, 0.0)
    assert clear.fine_tune == 2


def test_models_that_cannot_be_told_apart_are_three_to_fine_tune() -> None:
    losses, correct = _trial([0.5, 0.5, 0.5, 0.5], 60)
    assert recommend(losses=losses, correct=correct).fine_tune == 3


def test_every_rung_adds_to_the_choice_on_made_up_pools() -> None:
    rng = np.random.default_rng(0)
    regrets: dict[str, list[float]] = {"known": [], "metrics": [], "all": []}
    for seed in range(150):
        merit = rng.normal(size=8)
        evidence: dict[str, Any] = {
            "known": [merit + 2.0 * rng.normal(size=8)],
            "metrics": [merit + 2.0 * rng.normal(size=8) for _ in range(3)],
        }
        losses, correct = _trial(list(0.2 * merit), 150, seed)
        for name, found in {
            "known": recommend(known=evidence["known"]),
            "metrics": recommend(metrics=evidence["metrics"]),
            "all": recommend(**evidence, losses=losses, correct=correct),
        }.items():
            regrets[name].append(merit.max() - merit[found.order[0]])
    means = {name: np.mean(values) for name, values in regrets.items()}
    assert means["all"] < means["metrics"] < means["known"]
