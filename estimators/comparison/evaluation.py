"""How good advice was, once models are fine-tuned: correlations, regret, and tests over targets."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import comb
from typing import Any

import numpy as np

from estimators.arrays.validation import check_number
from estimators.comparison.agreement import STATISTICS, pair_of, statistic_of

# All sign changes are tried up to this many targets; beyond that, this many are drawn.
EXACT_TARGETS, DRAWN_SIGNS = 15, 20_000


@dataclass(frozen=True, slots=True)
class Measure:
    """A number with a percentile interval.

    Attributes:
        value: None if it has none, as a correlation of scores that are all equal.
        low, high: None if there are too few models or targets to resample.
    """

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class PairedTest:
    """Whether one score is better than another on the same targets.

    Attributes:
        targets: on which both have a value.
        difference: mean of first minus second.
        low, high: its 95 % percentile interval over targets; None with one target.
        p_value: two-sided, of the sign-flip test; with few targets it cannot be small (2 / 2^targets at best).
    """

    targets: int
    difference: float
    low: float | None
    high: float | None
    p_value: float


def regret(*, scores: Any, accuracies: Any, k: int = 1) -> float:
    """How far the best of the k models with the highest scores is below the best of all, in the accuracies' unit.

    Where equal scores leave open which k models those are, all choices are taken for equally likely and the mean is
    given, so that scores which are all equal have the regret of a random choice.

    Args:
        scores, accuracies: (M,) finite numbers, higher is better in both.
        k: how many models are fine-tuned.
    """
    check_number("k", k, minimum=1, whole=True)
    x, y = pair_of(scores, accuracies)
    return float(y.max() - _best_of_first(x, y, k))


def relative_accuracy(*, scores: Any, accuracies: Any, k: int = 1) -> float:
    """Rel@k: accuracy of the best of the first k models, as a share of the best of all. Ties as in `regret`."""
    check_number("k", k, minimum=1, whole=True)
    x, y = pair_of(scores, accuracies)
    return float(_best_of_first(x, y, k) / y.max())


def _best_of_first(scores: np.ndarray[Any, Any], accuracies: np.ndarray[Any, Any], k: int) -> float:
    if k >= scores.size:
        return float(accuracies.max())
    border = np.sort(scores)[-k]
    sure, tied = accuracies[scores > border], np.sort(accuracies[scores == border])
    drawn = k - sure.size
    floor = sure.max() if sure.size else -np.inf
    # The tied model in place j (from the worst, from 0) is the best of those drawn in C(j, drawn - 1) of the choices.
    ways = np.array([comb(j, drawn - 1) for j in range(tied.size)], dtype=np.float64)
    return float(np.sum(np.maximum(tied, floor) * ways) / comb(tied.size, drawn))


def _correlation(name: str, scores: np.ndarray[Any, Any], accuracies: np.ndarray[Any, Any]) -> float:
    return statistic_of(name, scores, accuracies)


def _regret(k: int, scores: np.ndarray[Any, Any], accuracies: np.ndarray[Any, Any]) -> float:
    return float(accuracies.max() - _best_of_first(scores, accuracies, k))


def _relative(k: int, scores: np.ndarray[Any, Any], accuracies: np.ndarray[Any, Any]) -> float:
    best = accuracies.max()
    return _best_of_first(scores, accuracies, k) / best if best > 0 else float("nan")


MEASURES: dict[str, Callable[[np.ndarray[Any, Any], np.ndarray[Any, Any]], float]] = {
    **{name: partial(_correlation, name) for name in STATISTICS},
    "regret_1": partial(_regret, 1),
    "regret_3": partial(_regret, 3),
    "rel_1": partial(_relative, 1),
    "rel_3": partial(_relative, 3),
}


def evaluate(
    *, scores: Any, accuracies: Any, resamples: int = 500, confidence: float = 0.95, seed: int = 0
) -> dict[str, Measure]:
    """Every one of ``MEASURES`` of one score on one target, with bootstrap intervals over the models.

    Args:
        scores, accuracies: (M,) finite numbers, higher is better in both; regrets have the accuracies' unit.
        resamples: draws of the models, with replacement; 0 for no intervals.
        confidence: coverage of the percentile intervals.
        seed: of the draws; scores of equally many models share them.

    Raises:
        InvalidEvidence: shapes, NaN, fewer than two models.
    """
    check_number("resamples", resamples, minimum=0, whole=True)
    check_number("confidence", confidence, minimum=0, maximum=1, exclusive=True)
    x, y = pair_of(scores, accuracies)
    draws = np.random.default_rng(seed).integers(x.size, size=(resamples, x.size))
    results = {}
    for name, measure in MEASURES.items():
        drawn = np.array([measure(x[rows], y[rows]) for rows in draws])
        results[name] = _measure(measure(x, y), drawn, confidence)
    return results


def paired_difference(
    *, first: Any, second: Any, accuracies: Any, measure: str, resamples: int = 500, seed: int = 0
) -> PairedTest | None:
    """Compare two scores on one target, over bootstrap samples of its models that both share.

    Args:
        first, second, accuracies: (M,) finite numbers.
        measure: one of ``MEASURES``; where less is better, a negative difference is in the first score's favour.

    Returns:
        The difference with its interval and twice the smaller share of resamples on either side of zero; None if the
        measure has no value for one of them.
    """
    x, y = pair_of(first, accuracies)
    z, _ = pair_of(second, accuracies)
    function = MEASURES[measure]
    difference = function(x, y) - function(z, y)
    if np.isnan(difference):
        return None
    draws = np.random.default_rng(seed).integers(x.size, size=(resamples, x.size))
    drawn = np.array([function(x[rows], y[rows]) - function(z[rows], y[rows]) for rows in draws])
    kept = drawn[~np.isnan(drawn)]
    found = _measure(difference, kept, 0.95)
    p_value = 1.0 if kept.size == 0 else min(1.0, 2 * min(float(np.mean(kept <= 0)), float(np.mean(kept >= 0))))
    return PairedTest(1, difference, found.low, found.high, p_value)


def over_targets(
    values: Sequence[float], *, resamples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> Measure:
    """The mean of one measure over targets, and its bootstrap interval over the targets.

    Args:
        values: (T,), NaN where a target has no value.
    """
    known = np.asarray([value for value in values if not np.isnan(value)], dtype=np.float64)
    if known.size == 0:
        return Measure(None, None, None)
    drawn = np.empty(0)
    if known.size > 1:
        draws = np.random.default_rng(seed).integers(known.size, size=(resamples, known.size))
        drawn = known[draws].mean(axis=1)
    return _measure(float(known.mean()), drawn, confidence)


def paired_test(first: Sequence[float], second: Sequence[float], *, seed: int = 0) -> PairedTest:
    """Compare two scores by one measure over the same targets: Fisher's sign-flip test of the mean difference.

    Args:
        first, second: (T,) the measure of each on every target; NaN where it has none, which leaves the target out.

    Raises:
        ValueError: lengths differ, or no target has both.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"first and second must be equally long lists; got shapes {a.shape} and {b.shape}")
    differences = (a - b)[~np.isnan(a - b)]
    if differences.size == 0:
        raise ValueError("no target has a value of both")
    count = differences.size
    if count <= EXACT_TARGETS:
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=count)))
    else:
        signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(DRAWN_SIGNS, count))
        signs[0] = 1.0
    means = np.abs(signs @ differences) / count
    # Sums of the same numbers in another order may differ in the last bits.
    observed = abs(differences.mean()) - 1e-12
    mean = over_targets([float(value) for value in differences], seed=seed)
    return PairedTest(
        targets=count,
        difference=float(differences.mean()),
        low=mean.low,
        high=mean.high,
        p_value=float(np.mean(means >= observed)),
    )


def against(
    table: Mapping[str, Sequence[float]], reference: str, *, higher_is_better: bool = True
) -> dict[str, PairedTest]:
    """Every score's measure over targets against the reference's; positive differences are in the score's favour."""
    sign = 1.0 if higher_is_better else -1.0
    base = sign * np.asarray(table[reference], dtype=np.float64)
    return {
        name: paired_test(list(sign * np.asarray(values, dtype=np.float64)), list(base))
        for name, values in table.items()
        if name != reference
    }


def _measure(value: float, drawn: np.ndarray[Any, Any], confidence: float) -> Measure:
    if np.isnan(value):
        return Measure(None, None, None)
    kept = drawn[~np.isnan(drawn)]
    if kept.size == 0:
        return Measure(value, None, None)
    low, high = np.quantile(kept, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Measure(value, float(low), float(high))
