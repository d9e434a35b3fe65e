"""Fine-tuning on made-up images: what it learns, that it repeats itself, and that short memory changes nothing."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import nn

from app.contracts.progress import Progress
from app.tasks.catalog import TASKS
from estimators.arrays.sampling import stratified_folds
from workers.device import fine_tuning
from workers.device.fine_tuning import (
    FineTuner,
    Images,
    Recipe,
    default_body_rate,
    negative_log_likelihood,
    rate_factor,
)
from workers.device.probe import probe_layer
from workers.device.training import TUNERS
from workers.errors import FineTuningFailed, Stopped

CPU = torch.device("cpu")
SIDE = 32
RECIPE = Recipe(epochs=2, batch_size=8, shift=0.1, flip=True)


def _images(count: int = 48, classes: int = 3) -> Images:
    """Noise with a stripe whose place is the class."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % classes
    pixels = rng.integers(0, 120, (count, SIDE, SIDE, 3), dtype=np.uint8)
    for row, label in enumerate(labels):
        pixels[row, 8 * label : 8 * label + 8, :, :] += 120
    return Images(pixels, labels.astype(np.int64), classes, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


def _body(name: str = "test_resnet") -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return timm.create_model(name, num_classes=5)


def _run(tuner: FineTuner, **more: Any) -> Any:
    rows = np.arange(48)
    return tuner.run(rows[rows % 4 != 0], rows[rows % 4 == 0], replace(RECIPE, **more.pop("recipe", {})), **more)


def test_the_stripes_are_learned_beyond_the_probe() -> None:
    tuner = FineTuner(_body(), _images(), CPU)
    outcome = _run(tuner, recipe={"epochs": 12, "body_rate": 2e-3, "shift": 0.0, "flip": False})
    assert outcome.probabilities.shape == (12, 3)
    np.testing.assert_allclose(outcome.probabilities.sum(axis=1), 1, rtol=1e-5)
    assert outcome.accuracy == 1.0
    assert outcome.accuracy >= outcome.probe_accuracy
    assert outcome.nll < 0.5


def test_a_seed_gives_the_same_numbers_again_and_another_seed_others() -> None:
    tuner = FineTuner(_body(), _images(), CPU)
    first, again, other = _run(tuner, seed=1), _run(tuner, seed=1), _run(tuner, seed=2)
    afresh = _run(FineTuner(_body(), _images(), CPU), seed=1)
    np.testing.assert_array_equal(first.probabilities, again.probabilities)
    np.testing.assert_array_equal(first.probabilities, afresh.probabilities)
    assert not np.array_equal(first.probabilities, other.probabilities)


@pytest.mark.parametrize("architecture", ["test_resnet", "test_vit", "test_efficientnet"])
def test_a_batch_that_does_not_fit_is_computed_in_parts(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _run(FineTuner(_body(architecture), _images(), CPU))
    body = _body(architecture)
    forward = body.forward_features

    def short_of_memory(images: torch.Tensor) -> torch.Tensor:
        if images.shape[0] > 4:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return forward(images)

    monkeypatch.setattr(body, "forward_features", short_of_memory)
    in_parts = _run(FineTuner(body, _images(), CPU))
    assert (whole.part, in_parts.part) == (8, 4)
    np.testing.assert_allclose(whole.probabilities, in_parts.probabilities, atol=1e-3)


def test_one_image_that_does_not_fit_is_a_failure_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    body = _body()

    def no_memory(images: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(body, "forward_features", no_memory)
    with pytest.raises(FineTuningFailed, match="one image does not fit"):
        _run(FineTuner(body, _images(), CPU))


def test_statistics_of_batch_normalisation_stay_those_of_the_source() -> None:
    body = _body()
    before = {name: value.clone() for name, value in body.named_buffers()}
    weights = {name: value.clone() for name, value in body.named_parameters()}
    _run(FineTuner(body, _images(), CPU))
    assert all(torch.equal(value, before[name]) for name, value in body.named_buffers())
    assert sum(not torch.equal(value, weights[name]) for name, value in body.named_parameters()) > len(weights) / 2


def test_it_stops_at_the_next_step_and_says_how_long_it_will_take() -> None:
    events: list[Progress] = []
    with pytest.raises(Stopped):
        _run(FineTuner(_body(), _images(), CPU), progress=events.append, should_stop=lambda: len(events) >= 7)
    assert [event.stage for event in events] == ["frozen features"] + ["fine-tuning"] * 6
    assert events[-1].total == 2 * 5
    assert events[-1].seconds_left is not None
    assert 0 < events[-1].seconds_left < 60


def test_images_of_one_class_cannot_be_trained_on() -> None:
    rows = np.flatnonzero(_images().labels == 0)
    with pytest.raises(FineTuningFailed, match="one class"):
        FineTuner(_body(), _images(), CPU).run(rows, np.arange(3), RECIPE)


def test_a_rate_that_blows_up_is_a_failure_that_says_so() -> None:
    with pytest.raises(FineTuningFailed, match="smaller learning rate"):
        _run(FineTuner(_body(), _images(), CPU), recipe={"body_rate": 1e30, "head_rate": 1e30})


def test_a_network_that_the_usual_rate_ruins_is_trained_again_at_a_lower_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fine_tuning, "BODY_RATE", 0.5)
    tuner = FineTuner(_body(), _images(), CPU)
    events: list[Progress] = []
    outcome = _run(tuner, progress=events.append)
    assert outcome.slowed
    assert outcome.body_rate == pytest.approx(fine_tuning.SLOWER * 0.5)
    assert sum(event.stage == "fine-tuning" for event in events) == 2 * 2 * 5
    exact = _run(tuner, recipe={"body_rate": fine_tuning.SLOWER * 0.5})
    np.testing.assert_array_equal(outcome.probabilities, exact.probabilities)


def test_a_rate_that_was_asked_for_is_kept_whatever_it_does() -> None:
    outcome = _run(FineTuner(_body(), _images(), CPU), recipe={"body_rate": 0.5})
    assert (outcome.slowed, outcome.body_rate) == (False, 0.5)


def test_a_network_that_learns_is_trained_once() -> None:
    outcome = _run(FineTuner(_body(), _images(), CPU), recipe={"epochs": 6})
    assert (outcome.slowed, outcome.body_rate) == (False, fine_tuning.BODY_RATE)


@pytest.mark.parametrize("classes", [2, 4])
def test_the_probe_as_a_layer_is_scikit_learns_classifier(classes: int) -> None:
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    labels = np.arange(80) % classes
    features = np.float32(5 + rng.normal(size=(80, 6)) + labels[:, None] * rng.normal(size=6))
    layer = probe_layer(features, labels, classes)
    standard = (features - features.mean(axis=0)) / features.std(axis=0)
    expected = LogisticRegression(C=0.01).fit(standard, labels).predict_proba(standard)
    with torch.no_grad():
        found = layer(torch.from_numpy(features)).softmax(dim=1).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_the_probe_has_an_output_for_a_class_it_has_not_seen() -> None:
    rng = np.random.default_rng(0)
    layer = probe_layer(np.float32(rng.normal(size=(20, 4))), np.arange(20) % 2 * 2, 3)
    assert layer.weight.shape == (3, 4)
    assert torch.all(layer.weight[1] == 0)


def test_rates_rise_then_fall_to_zero() -> None:
    factors = [rate_factor(step, 40, 6.5) for step in range(40)]
    peak = int(np.argmax(factors))
    assert peak == 7
    assert factors[7] == pytest.approx(1.0, abs=0.01)
    assert np.all(np.diff(factors[:7]) > 0)
    assert np.all(np.diff(factors[7:]) < 0)
    assert factors[-1] < 0.01


def test_networks_without_batch_normalisation_take_smaller_steps() -> None:
    assert default_body_rate(_body("test_vit")) < default_body_rate(_body("test_resnet"))


def test_the_likelihood_of_a_certain_mistake_is_finite() -> None:
    assert negative_log_likelihood(np.array([[1.0, 0.0], [0.25, 0.75]], dtype=np.float32), np.array([1, 1])) < 50


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_folds_cover_the_sample_and_share_out_each_class(folds: int) -> None:
    labels = np.repeat([0, 1, 2], [17, 8, 5])
    assigned = stratified_folds(labels, folds, seed=4)
    counts = np.array([np.bincount(assigned[labels == label], minlength=folds) for label in range(3)])
    assert counts.sum() == 30
    assert np.ptp(counts, axis=1).max() <= 1
    assert np.ptp(counts.sum(axis=0)) <= 1
    np.testing.assert_array_equal(assigned, stratified_folds(labels, folds, seed=4))


@pytest.mark.parametrize("folds", [1, 31])
def test_folds_that_cannot_be_are_refused(folds: int) -> None:
    with pytest.raises(ValueError, match="folds must be"):
        stratified_folds(np.arange(30), folds)


def test_networks_of_every_task_can_be_fine_tuned() -> None:
    assert set(TUNERS) == set(TASKS)
