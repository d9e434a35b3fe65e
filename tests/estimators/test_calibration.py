"""Chances to be best on made-up targets whose truth is known."""

import numpy as np
import pytest

from estimators.comparison.calibration import FEWEST_TARGETS, Calibration, calibrate, chances, reliability


def _targets(count: int, sharpness: float, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Scores, and accuracies whose best model is drawn with chances that the sharpness gives."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        scores = rng.random(6)
        # The highest of these is a draw from the choice model.
        accuracies = sharpness * np.sqrt(6) * scores + rng.gumbel(size=6)
        found.append((scores, accuracies))
    return found


@pytest.mark.parametrize("sharpness", [0.0, 2.0, 5.0])
def test_the_sharpness_that_made_the_data_is_found(sharpness: float) -> None:
    found = calibrate(_targets(1500, sharpness, 0))
    assert found is not None
    assert found.sharpness == pytest.approx(sharpness, abs=0.3)
    assert found.targets == 1500


def test_stated_chances_come_true_on_targets_not_fitted_on() -> None:
    fitted = calibrate(_targets(400, 2.5, 1))
    assert fitted is not None
    stated, came_true = [], []
    for scores, accuracies in _targets(2000, 2.5, 2):
        stated.extend(chances(scores, fitted))
        came_true.extend(accuracies == accuracies.max())
    for each in reliability(stated, came_true):
        error = np.sqrt(each.stated * (1 - each.stated) / each.count)
        assert each.observed == pytest.approx(each.stated, abs=4 * error)


def test_too_few_targets_support_nothing() -> None:
    assert calibrate(_targets(FEWEST_TARGETS - 1, 5.0, 0)) is None
    assert calibrate(_targets(FEWEST_TARGETS, 5.0, 0)) is not None


def test_chances_by_hand() -> None:
    # Two models: exp(sqrt(2) x difference of scores).
    np.testing.assert_allclose(chances([0.0, np.log(3.0) / np.sqrt(2)], Calibration(1.0, 9, 12)), [0.25, 0.75])
    np.testing.assert_allclose(chances([0.0, 5.0], Calibration(0.0, 9, 12)), [0.5, 0.5])


def test_models_that_share_the_highest_accuracy_are_best_in_equal_parts() -> None:
    tied = [(np.array([0.0, 1.0]), np.array([0.9, 0.9]))] * 10
    found = calibrate(tied)
    assert found is not None
    assert found.sharpness == pytest.approx(0.0, abs=1e-2)


def test_reliability_by_hand() -> None:
    bins = reliability([0.1, 0.15, 0.9], [0, 1, 1], bins=2)
    assert [(each.count, each.observed) for each in bins] == [(2, 0.5), (1, 1.0)]
    assert bins[1].stated == pytest.approx(0.9)
