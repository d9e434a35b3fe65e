"""The known traps of the authors' programs, each under its name."""

import importlib
import itertools
from fractions import Fraction

import numpy as np
import pytest

import estimators
from estimators import METRICS, CannotBeComputed, Evidence
from estimators.arrays.sampling import sample_indices
from tests.estimators.examples import classes_in_space, evidence, probabilities_for
from tests.reference import formulas

CLASSIFYING = sorted(n for n in METRICS if "labels" in METRICS[n].required_evidence)
BY_FEATURES = sorted(n for n in METRICS if METRICS[n].required_evidence == {"features", "labels"})


def has_value_or_reason(name: str, given: Evidence) -> bool:
    """Whether a metric is finite or says in a sentence why it is not; any other error goes through."""
    try:
        return bool(np.isfinite(float(METRICS[name].compute(given))))
    except CannotBeComputed as reason:
        return " " in str(reason)


@pytest.mark.parametrize("name", CLASSIFYING)
def test_label_gaps(name: str) -> None:
    whole = evidence()
    gaps = Evidence(whole.features, whole.labels * 7 + 3, whole.source_probabilities, whole.reference_features)
    assert float(METRICS[name].compute(gaps)) == float(METRICS[name].compute(whole))


def test_label_gaps_are_empty_slots_to_the_authors_of_tmi() -> None:
    x, y = classes_in_space()
    five = float(estimators.tmi(features=x, labels=y, compat="author"))
    ten = float(estimators.tmi(features=x, labels=2 * y + 1, compat="author"))
    assert ten == pytest.approx(five / 2)


def test_label_gaps_are_targets_of_zeros_to_the_authors_of_logme() -> None:
    x, y = classes_in_space()
    targets = np.zeros((len(y), 10))
    targets[np.arange(len(y)), 2 * y + 1] = 1
    by_labels = estimators.logme(features=x, labels=2 * y + 1, compat="author")
    assert float(by_labels) == pytest.approx(float(estimators.logme(features=x, targets=targets, compat="author")))


@pytest.mark.parametrize("name", CLASSIFYING)
def test_classes_of_one_sample(name: str) -> None:
    whole = evidence()
    labels = whole.labels.copy()
    labels[[10, 20, 30]] = [5, 6, 7]
    lonely = Evidence(whole.features, labels, whole.source_probabilities, whole.reference_features)
    assert np.isfinite(float(METRICS[name].compute(lonely)))


def test_classes_of_one_sample_leave_tmi_to_the_others() -> None:
    x, y = classes_in_space()
    kept = y > 0
    labels = np.where(kept, y, 100 + np.arange(len(y)))
    score = estimators.tmi(features=x, labels=labels)
    assert float(score) == pytest.approx(float(estimators.tmi(features=x[kept], labels=y[kept])))
    assert score.details["classes_left_out"] == np.sum(~kept)


@pytest.mark.parametrize("name", BY_FEATURES)
def test_one_class_has_a_value_or_a_reason(name: str) -> None:
    x, _ = classes_in_space()
    assert has_value_or_reason(name, Evidence(x, np.zeros(len(x), dtype=int)))


@pytest.mark.parametrize("name", BY_FEATURES)
def test_one_class_a_sample_has_a_value_or_a_reason(name: str) -> None:
    x, _ = classes_in_space(samples=40)
    assert has_value_or_reason(name, Evidence(x, np.arange(40)))


@pytest.mark.parametrize("name", BY_FEATURES)
def test_identical_samples_have_a_value_or_a_reason(name: str) -> None:
    labels = np.arange(40) % 4
    assert has_value_or_reason(name, Evidence(np.full((40, 6), 2.5), labels))


def test_zero_mass_source_classes() -> None:
    _, y = classes_in_space()
    p = probabilities_for(y)
    padded = np.concatenate([np.zeros((len(y), 2)), p], axis=1)
    score = estimators.leep(source_probabilities=padded, labels=y)
    assert float(score) == float(estimators.leep(source_probabilities=p, labels=y))
    assert score.details["massless_source_classes"] == 2


def test_fewer_samples_than_dimensions_saturate_h_score() -> None:
    x, y = classes_in_space(samples=50, dimensions=80)
    score = estimators.h_score(features=x, labels=y)
    assert float(score) == pytest.approx(4)
    assert any(warning.startswith("saturated:") for warning in score.warnings)


def test_fewer_samples_than_dimensions_inflate_the_authors_logme_only() -> None:
    """With the missing (D - k) ln α the authors' number comes down to the evidence."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 300)), np.arange(60) % 3
    inflated = float(estimators.logme(features=x, labels=y, compat="author"))
    sound = float(estimators.logme(features=x, labels=y))
    assert sound == pytest.approx(formulas.logme(x, y), abs=1e-6)
    assert inflated > sound + 1


@pytest.mark.parametrize("name", BY_FEATURES)
def test_fewer_samples_than_dimensions_have_a_value(name: str) -> None:
    assert np.isfinite(float(METRICS[name].compute(evidence(samples=60, dimensions=90))))


@pytest.mark.parametrize("name", BY_FEATURES)
def test_dead_and_copied_dimensions(name: str) -> None:
    """Rectified features have dimensions that are always zero; some models repeat a dimension."""
    whole = evidence()
    features = np.concatenate([whole.features, np.zeros((240, 3)), whole.features[:, :2]], axis=1)
    reference = np.ones((50, features.shape[1]))
    assert np.isfinite(float(METRICS[name].compute(Evidence(features, whole.labels, None, reference))))


def test_dead_and_copied_dimensions_leave_h_score_alone() -> None:
    x, y = classes_in_space()
    more = np.concatenate([x, np.zeros((len(x), 3)), x[:, :2] * 1000], axis=1)
    expected = float(estimators.h_score(features=x, labels=y))
    assert float(estimators.h_score(features=more, labels=y)) == pytest.approx(expected, rel=1e-9)


def test_identical_class_means_exert_no_force_in_ped() -> None:
    rng = np.random.default_rng(0)
    half = rng.normal(size=(30, 4))
    group = np.concatenate([half, -half])
    x = np.concatenate([group, group + 0.1, group])
    y = np.repeat([0, 1, 2], 60)
    score = estimators.ped(features=x, labels=y, reference_features=group)
    assert np.isfinite(float(score))
    assert score.details["steps"] == 6


def test_ped_without_overlap_is_its_base() -> None:
    x, y = classes_in_space(separation=50.0)
    score = estimators.ped(features=x, labels=y, reference_features=x)
    assert float(score) == float(estimators.sfda(features=x, labels=y))
    assert score.details["steps"] == 0
    assert any(warning.startswith("no motion:") for warning in score.warnings)


def test_ped_without_reference_says_that_it_is_not_the_authors_protocol() -> None:
    x, y = classes_in_space()
    score = estimators.ped(features=x, labels=y)
    assert float(score) == float(estimators.ped(features=x, labels=y, reference_features=x))
    assert any(warning.startswith("no reference:") for warning in score.warnings)


@pytest.mark.parametrize("base", ["sfda", "logme", "nleep", "h_score", "gbc"])
def test_ped_over_every_base(base: str) -> None:
    x, y = classes_in_space(separation=0.5)
    score = estimators.ped(features=x, labels=y, reference_features=x, base=base)
    assert float(score) > float(getattr(estimators, base)(features=x, labels=y))


@pytest.mark.parametrize(("classes", "steps"), [(50, 3), (102, 1)])
def test_ped_stops_by_the_number_of_classes(classes: int, steps: int) -> None:
    """When all classes overlap, a step multiplies the motion by about 1 - 0.005 C."""
    rng = np.random.default_rng(0)
    y = np.arange(classes * 12) % classes
    x = rng.normal(size=(len(y), 40))
    assert estimators.ped(features=x, labels=y, reference_features=x, overlap=2.0).details["steps"] == steps


def test_saturation() -> None:
    x, y = classes_in_space(samples=60, dimensions=100, separation=5.0)
    score = estimators.sfda(features=x, labels=y)
    assert float(score) == pytest.approx(1.0)
    assert any(warning.startswith("saturated:") for warning in score.warnings)


def test_alpha_and_beta_carried_over() -> None:
    """Each target starts afresh: the score of several is the mean of their scores alone, in any order."""
    x, y = classes_in_space()
    targets = np.stack([y, np.sin(x[:, 0]), x[:, 1] * y], axis=1).astype(float)
    for compat in (None, "author"):
        alone = [float(estimators.logme(features=x, targets=targets[:, k], compat=compat)) for k in range(3)]
        together = estimators.logme(features=x, targets=targets[:, ::-1], compat=compat)
        assert float(together) == pytest.approx(np.mean(alone), rel=1e-9)


def test_scale_dependence_of_the_floor_of_tmi() -> None:
    """Below the floor the score is a function of the dimensions and the class sizes only."""
    x, y = classes_in_space(scale=1e-4)
    score = estimators.tmi(features=x, labels=y)
    other = estimators.tmi(features=np.random.default_rng(0).permutation(x), labels=y)
    assert float(score) == float(other)
    assert score.details["clipped_share"] == 1
    assert any(warning.startswith("clipped:") for warning in score.warnings)


def test_tmi_without_floor_shifts_with_the_scale() -> None:
    x, y = classes_in_space()
    one, ten = (float(estimators.tmi(features=s * x, labels=y, floor=0.0)) for s in (1, 10))
    assert ten - one == pytest.approx(12 * np.log(10))


def test_coinciding_samples_without_floor_have_no_tmi() -> None:
    x = np.repeat(np.eye(3), 6, axis=0)
    with pytest.raises(CannotBeComputed, match="floor above zero"):
        estimators.tmi(features=x, labels=np.repeat([0, 1, 2], 6), floor=0.0)


def test_classes_of_at_most_k_samples_have_no_tmi() -> None:
    with pytest.raises(CannotBeComputed, match="more than 3 samples"):
        estimators.tmi(features=np.eye(6), labels=np.repeat([0, 1], 3))


def test_a_target_of_zeros_has_no_evidence() -> None:
    x, _ = classes_in_space()
    with pytest.raises(CannotBeComputed, match="zero for every sample"):
        estimators.logme(features=x, targets=np.zeros(len(x)))


def test_a_target_that_the_features_hold_has_a_bounded_evidence() -> None:
    x, _ = classes_in_space()
    assert np.isfinite(float(estimators.logme(features=x, targets=x[:, 0])))


def test_logme_takes_labels_or_targets_but_not_both() -> None:
    x, y = classes_in_space()
    with pytest.raises(ValueError, match="either labels or targets"):
        estimators.logme(features=x, labels=y, targets=y)
    with pytest.raises(ValueError, match="either labels or targets"):
        estimators.logme(features=x)


def test_logme_of_multi_label_targets_is_the_mean_over_the_labels() -> None:
    x, y = classes_in_space()
    onehot = np.eye(5)[y]
    score = estimators.logme(features=x, targets=onehot)
    assert float(score) == pytest.approx(float(estimators.logme(features=x, labels=y)), rel=1e-12)


def test_energy_of_few_samples_takes_at_least_one() -> None:
    x, _ = classes_in_space(samples=30)
    assert estimators.energy(features=x).details["tail_samples"] == 1


def test_constant_rows_have_no_correlation_and_are_left_out_of_parc() -> None:
    x, y = classes_in_space()
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    constant = np.zeros((3, x.shape[1])) + x.mean(axis=0)
    score = estimators.parc(features=np.concatenate([x, constant]), labels=np.append(y, [0, 1, 2]))
    assert score.details["samples_left_out"] == 3
    assert float(score) == pytest.approx(float(estimators.parc(features=x, labels=y)), rel=1e-3)


def repeated_and_coarse() -> tuple[np.ndarray, np.ndarray]:
    """Features in which many pairs of samples are equally far apart: repeated rows, and few values a dimension."""
    x, y = classes_in_space()
    x = np.round(x)
    return np.concatenate([x, x[:50]]), np.concatenate([y, y[50:100]])


@pytest.mark.parametrize("compat", [None, "author"])
@pytest.mark.parametrize(("budget", "block"), [(3000, 512), (16_000_000, 64), (3000, 7)])
def test_parc_does_not_depend_on_how_its_distances_are_split(
    monkeypatch: pytest.MonkeyPatch, compat: str | None, budget: int, block: int
) -> None:
    x, y = repeated_and_coarse()
    whole = float(estimators.parc(features=x, labels=y, compat=compat))
    module = importlib.import_module("estimators.metrics.parc")
    monkeypatch.setattr(module, "SMALLEST_BUDGET", budget)
    monkeypatch.setattr(module, "BLOCK_ROWS", block)
    assert float(estimators.parc(features=x, labels=y, compat=compat)) == whole


def test_parc_of_many_samples_is_that_of_a_part_and_says_so() -> None:
    x, y = classes_in_space()
    drawn = sample_indices(y, max_samples=60)
    score = estimators.parc(features=x, labels=y, samples=60)
    assert float(score) == float(estimators.parc(features=x[drawn], labels=y[drawn], samples=None))
    assert score.warnings == (f"60 of {len(y)} samples were compared, drawn class by class",)


def test_parc_of_as_many_samples_as_it_may_compare_is_that_of_all() -> None:
    x, y = classes_in_space()
    score = estimators.parc(features=x, labels=y, samples=len(y))
    assert (float(score), score.warnings) == (float(estimators.parc(features=x, labels=y, samples=None)), ())


def test_parc_does_not_depend_on_how_its_products_are_rounded() -> None:
    """Another order of the dimensions rounds every sum in another way."""
    x, y = repeated_and_coarse()
    scores = {float(estimators.parc(features=x[:, order], labels=y)) for order in orders(x.shape[1], 5)}
    assert len(scores) == 1


def orders(length: int, count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.permutation(length) for _ in range(count)]


def test_parc_does_not_depend_on_the_names_of_the_classes() -> None:
    x, y = classes_in_space(classes=7)
    scores = {float(estimators.parc(features=x, labels=order[y])) for order in orders(7, 5)}
    assert len(scores) == 1


@pytest.mark.parametrize("classes", [2, 3, 7, 8, 20])
def test_the_authors_label_distances_round_every_step_once(classes: int) -> None:
    """Each entry of the covariance, in exact fractions that are rounded after every product and addition."""
    rows = np.eye(classes) - 1 / classes
    covariance = np.zeros((classes, classes))
    for a, b in itertools.product(range(classes), repeat=2):
        for left, right in zip(rows[a].tolist(), rows[b].tolist(), strict=True):
            covariance[a, b] = float(Fraction(left) * Fraction(right) + Fraction(covariance[a, b]))
    covariance *= 1 / (classes - 1)
    deviations = np.sqrt(np.diag(covariance))
    expected = 1 - np.clip(covariance / deviations[:, None] / deviations[None, :], -1, 1)
    module = importlib.import_module("estimators.metrics.parc")
    assert np.array_equal(module.author_label_distances(classes), expected)


def test_the_authors_label_distances_have_more_values_than_two() -> None:
    x, y = classes_in_space(samples=600, classes=37, dimensions=30, separation=1.0)
    author, sound = (float(estimators.parc(features=x, labels=y, compat=compat)) for compat in ("author", None))
    assert abs(author - sound) > 1


def test_more_components_than_samples_are_reduced_in_nleep() -> None:
    x, _ = classes_in_space(samples=40, classes=4)
    score = estimators.nleep(features=x, labels=np.arange(40) // 2)
    assert score.details["components"] == 40
    assert any(warning.startswith("components:") for warning in score.warnings)


def test_pool_relative_metrics_combine_over_the_pool() -> None:
    for name in ("etran", "ncti"):
        combine = METRICS[name].combine
        assert combine is not None
        pool = [METRICS[name].compute(evidence(separation=s, seed=1)) for s in (0.1, 0.5, 2.0)]
        combined = combine(pool)
        assert np.argmax(combined) == 2
        assert combine(pool[:1]) == [0.0]
