"""How well scores agree with the truth: rank correlations, and intervals by resampling models."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from estimators.arrays.validation import check_choice, check_number, to_numpy
from estimators.score import CannotBeComputed, InvalidEvidence

STATISTICS = ("weighted_kendall", "kendall", "spearman", "pearson")


@dataclass(frozen=True, slots=True)
class Agreement:
    """A statistic with its interval.

    Attributes:
        statistic: one of ``STATISTICS``.
        value: in [-1, 1].
        low, high: percentile interval over the resamples.
        confidence: the interval's nominal coverage.
        entries: how many scores were compared.
        units: how many models were resampled.
        resamples: how many of the draws had a value (a draw whose scores are all equal has none).
    """

    statistic: str
    value: float
    low: float
    high: float
    confidence: float
    entries: int
    units: int
    resamples: int


def pair_of(scores: Any, truth: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Both as (M,) arrays of 64 bits; ``InvalidEvidence`` unless they are finite and of one length of two or more."""
    x = np.asarray(to_numpy(scores), dtype=np.float64)
    y = np.asarray(to_numpy(truth), dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise InvalidEvidence(f"scores and truth must be two equally long lists; got shapes {x.shape} and {y.shape}")
    if x.size < 2:
        raise InvalidEvidence("scores and truth must have at least two entries")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InvalidEvidence("scores and truth must be finite; leave out the models that have no score")
    return x, y


def statistic_of(name: str, x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> float:
    """One of ``STATISTICS`` of two (M,) arrays; NaN where it has no value."""
    if (x == x[0]).all() or (y == y[0]).all():
        return float("nan")
    if name == "spearman":
        from scipy.stats import rankdata

        x, y = rankdata(x), rankdata(y)
    if name in ("pearson", "spearman"):
        x, y = x - x.mean(), y - y.mean()
        scale = np.sqrt(np.sum(x * x) * np.sum(y * y))
        return float(np.clip(np.sum(x * y) / scale, -1.0, 1.0)) if scale > 0 else float("nan")
    from scipy import stats

    if name == "kendall":
        return float(stats.kendalltau(x, y).statistic)
    return float(stats.weightedtau(x, y).statistic)


def _value(name: str, scores: Any, truth: Any) -> float:
    value = statistic_of(name, *pair_of(scores, truth))
    if np.isnan(value):
        raise CannotBeComputed(f"{name} has no value: all scores, or all true values, are equal")
    return value


def weighted_kendall(*, scores: Any, truth: Any) -> float:
    """Vigna's weighted τ, hyperbolic and additive, averaged over the rankings by score and by truth; high places
    weigh most (``scipy.stats.weightedtau`` with its defaults).

    Args:
        scores, truth: (M,) finite numbers, higher is better in both.

    Raises:
        InvalidEvidence: shapes, NaN. CannotBeComputed: all scores or all true values are equal.
    """
    return _value("weighted_kendall", scores, truth)


def kendall(*, scores: Any, truth: Any) -> float:
    """Kendall's τ-b, which corrects for ties. Arguments and errors as ``weighted_kendall``."""
    return _value("kendall", scores, truth)


def spearman(*, scores: Any, truth: Any) -> float:
    """Spearman's ρ: Pearson's correlation of the ranks, ties sharing the mean. As ``weighted_kendall``."""
    return _value("spearman", scores, truth)


def pearson(*, scores: Any, truth: Any) -> float:
    """Pearson's correlation. Arguments and errors as ``weighted_kendall``."""
    return _value("pearson", scores, truth)


def agreement(
    *,
    scores: Any,
    truth: Any,
    statistic: str = "weighted_kendall",
    members: Sequence[Sequence[Hashable]] | None = None,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Agreement:
    """A statistic of agreement with a bootstrap interval over models.

    Models are drawn with replacement. A model drawn c times counts c times; an entry that stands for an ensemble counts
    as often as the product over its members, so that ensembles which share a model are not taken for independent.

    Args:
        scores, truth: (E,) finite numbers, higher is better in both.
        statistic: one of ``STATISTICS``.
        members: for each entry the models it is made of; without it each entry is one model.
        resamples: number of draws.
        confidence: coverage of the percentile interval, between 0 and 1.
        seed: of the draws; the same seed gives the same interval.

    Raises:
        InvalidEvidence: shapes, NaN.
        CannotBeComputed: the statistic has no value, or no resample has one.
    """
    check_choice("statistic", statistic, STATISTICS)
    check_number("resamples", resamples, minimum=1, whole=True)
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must be between 0 and 1; got {confidence!r}")
    x, y = pair_of(scores, truth)
    if members is None:
        members = [(entry,) for entry in range(x.size)]
    if len(members) != x.size:
        raise InvalidEvidence(f"members must have one entry a score: {x.size} scores, {len(members)} entries")
    value = _value(statistic, x, y)
    units = {unit: index for index, unit in enumerate(dict.fromkeys(unit for ensemble in members for unit in ensemble))}
    incidence = np.zeros((x.size, len(units)), dtype=bool)
    for row, ensemble in enumerate(members):
        incidence[row, [units[unit] for unit in ensemble]] = True
    generator = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        counts = np.bincount(generator.integers(len(units), size=len(units)), minlength=len(units))
        multiplicity = np.where(incidence, counts, 1).prod(axis=1)
        chosen = np.repeat(np.arange(x.size), multiplicity)
        if chosen.size >= 2:
            drawn.append(statistic_of(statistic, x[chosen], y[chosen]))
    kept = np.asarray([number for number in drawn if not np.isnan(number)])
    if kept.size == 0:
        raise CannotBeComputed(
            f"no resample of {len(units)} models has a value of {statistic}; there are too few models"
        )
    low, high = np.quantile(kept, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Agreement(statistic, value, float(low), float(high), confidence, int(x.size), len(units), int(kept.size))
