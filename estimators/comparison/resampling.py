"""How sure a score is: the spread that other samples of the same kind would have given it.

    resamples = resample("leep", evidence, seed=0)        # also holds the score itself
    low, high = interval(resamples)
    summary = pool_summary([resample("leep", model, seed=0).values for model in models])

The same seed, number of resamples and labels give the same draws for every model, so models are compared pair by pair
and what they have in common cancels. There are three methods; each metric's entry says which one is sound and
affordable for it:

- ``reweighted``: a bootstrap stratified by class. The score is computed again from re-weighted counts.
- ``linear``: the same bootstrap on a first-order expansion: each sample has a share in the score, and the resample
  adds up the shares of the samples drawn. Exact for accuracies; elsewhere the fit is held fixed, or the share is the
  derivative of the score by the sample's weight (the infinitesimal jackknife).
- ``subsample``: the metric is computed again on parts drawn without replacement, class by class. A share f of the
  samples scatters sqrt((1 - f)/f) times as much as a bootstrap does, and the deviations are corrected for it.

All are centred on the score itself, which removes the bias that a resample has by holding fewer distinct samples.
Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, ch. 6, 11, 22; Politis, Romano, Wolf, "Subsampling",
1999, ch. 2.

A metric that means something within a pool only is resampled in its parts; `combine_resamples` joins them draw by draw.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from estimators.arrays.validation import Array, check_labels, check_number, from_numpy, to_numpy
from estimators.catalog import METRICS
from estimators.comparison.ties import levels
from estimators.metric import Evidence, Linear, Metric, Reweighted, Subsampled
from estimators.score import CannotBeComputed, Score

BOOTSTRAP_RESAMPLES = 200
SUBSAMPLES = 20
SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Resamples:
    """Values that a metric took on resamples, centred on its score.

    Attributes:
        score: the metric's Score on all samples.
        values: (R,) in a fixed order of draws.
        method: ``reweighted``, ``linear`` or ``subsample``.
        parts: (R,) for each of the metric's ``pool_parts``, centred on the detail of that name.
    """

    score: Score
    values: np.ndarray
    method: str
    parts: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PoolSummary:
    """What resamples say of a pool of M models.

    Attributes:
        chance_first_on_another_sample: (M,) share of the resamples in which the model has the highest score. It holds
            the scatter of the images only: not whether the metric is right, and not the chance to be best once
            fine-tuned.
        expected_rank: (M,) mean rank over the resamples, 1 being the best.

    Models that are tied but for rounding share a first place and take their mean rank.
    """

    chance_first_on_another_sample: np.ndarray
    expected_rank: np.ndarray


def method(name: str, **parameters: Any) -> str:
    """How `resample` treats this metric."""
    match METRICS[name].resampling_with(parameters):
        case Reweighted():
            return "reweighted"
        case Linear():
            return "linear"
        case Subsampled():
            return "subsample"


def default_resamples(name: str, **parameters: Any) -> int:
    """How many resamples are drawn unless told: few where each costs about as much as the metric."""
    return SUBSAMPLES if method(name, **parameters) == "subsample" else BOOTSTRAP_RESAMPLES


def resample(
    name: str, evidence: Evidence, *, resamples: int | None = None, seed: int = 0, **parameters: Any
) -> Resamples:
    """The score of a metric and its values on resamples of the samples.

    Args:
        name: a name of `METRICS`.
        evidence: of one model; it must have labels.
        resamples: how many; None for `default_resamples`.
        seed: of the draws; no global state is read or changed.
        parameters: keyword arguments of the metric.

    Raises:
        KeyError: no such metric.
        CannotBeComputed, InvalidEvidence, ValueError: as the metric itself; also without labels.
    """
    metric = METRICS[name]
    count = default_resamples(name, **parameters) if resamples is None else resamples
    check_number("resamples", count, minimum=2, whole=True)
    check_number("seed", seed, minimum=0, whole=True)
    if evidence.labels is None:
        raise CannotBeComputed("resampling is stratified by class and needs labels")
    metric.check_parameters(parameters)
    given = metric.taken(evidence)
    codes = to_numpy(check_labels(evidence.labels)[0])
    parts: dict[str, np.ndarray] = {}
    match metric.resampling_with(parameters):
        case Reweighted(values=values_of):
            score, values = values_of(**given, weights=bootstrap_weights(codes, count, seed=seed), **parameters)
        case Linear(shares=shares_of, parts=parts_of):
            score, shares = shares_of(**given, **parameters)
            weights = bootstrap_weights(codes, count, seed=seed)
            values = weights @ to_numpy(shares)
            parts = parts_of(evidence, weights) if parts_of else {}
        case Subsampled() as subsampled:
            score = metric.compute(evidence, **parameters)
            values, parts = _subsampled(metric, subsampled, evidence, codes, count, seed, parameters)
    parts = {part: _centred(drawn, score.details[part]) for part, drawn in parts.items()}
    values = _centred(values, score.value)
    values = values if metric.combine else np.clip(values, *metric.range)
    return Resamples(score, values, method(name, **parameters), parts)


def combine_resamples(name: str, pool: Sequence[Resamples]) -> list[Resamples]:
    """The final values of a pool-relative metric on the same draws, centred on its value over the pool.

    Args:
        name: a metric that has ``combine``.
        pool: of each model what `resample` gave, all with the same seed, labels and number of resamples.

    Raises:
        ValueError: the metric needs no pool, or the numbers of resamples differ.
    """
    metric = METRICS[name]
    if metric.combine is None:
        raise ValueError(f"{name} needs no pool")
    finals = metric.combine([model.score for model in pool])
    draws = zip(*(_scores_of_draws(model) for model in pool), strict=True)
    table = np.asarray([metric.combine(scores) for scores in draws])
    return [
        replace(
            model,
            score=replace(model.score, value=final),
            values=np.clip(_centred(values, final), *metric.range),
            parts={},
        )
        for model, final, values in zip(pool, finals, table.T, strict=True)
    ]


def _scores_of_draws(model: Resamples) -> list[Score]:
    return [
        Score(float(value), details={part: drawn[index] for part, drawn in model.parts.items()})
        for index, value in enumerate(model.values)
    ]


def _centred(values: np.ndarray, on: float) -> np.ndarray:
    centred: np.ndarray = on + values - np.mean(values)
    return centred


def interval(resamples: Resamples, level: float = 0.9) -> tuple[float, float]:
    """The percentile interval that holds a share ``level`` of the resamples."""
    check_number("level", level, minimum=0, maximum=1, exclusive=True)
    low, high = np.quantile(resamples.values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def pool_summary(values: Sequence[np.ndarray] | np.ndarray) -> PoolSummary:
    """The chance to come first and the expected rank, from (M, R) values of M models on the same R draws."""
    from scipy.stats import rankdata

    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or table.size == 0:
        raise ValueError("values must be a table (models, resamples), with as many resamples for each model")
    places = levels(table)
    ranks = rankdata(-places, axis=0)
    best = places == places.max(axis=0)
    return PoolSummary(np.mean(best / best.sum(axis=0), axis=1), ranks.mean(axis=1))


def bootstrap_weights(codes: np.ndarray, resamples: int, *, seed: int) -> np.ndarray:
    """(R, N) how often each sample is drawn: n_c draws with replacement from each class of n_c."""
    rng = np.random.default_rng(seed)
    weights = np.zeros((resamples, len(codes)))
    for c in range(int(codes.max()) + 1):
        members = np.flatnonzero(codes == c)
        drawn = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), size=resamples)
        weights[:, members] = drawn
    return weights


def subsamples(codes: np.ndarray, resamples: int, share: float, *, seed: int) -> Iterator[np.ndarray]:
    """Indices of R parts, with about a share of each class and at least two of its samples, if it has two."""
    rng = np.random.default_rng(seed)
    groups = [np.flatnonzero(codes == c) for c in range(int(codes.max()) + 1)]
    sizes = [max(min(2, len(group)), round(share * len(group))) for group in groups]
    for _ in range(resamples):
        drawn = [rng.choice(group, size, replace=False) for group, size in zip(groups, sizes, strict=True)]
        yield np.sort(np.concatenate(drawn))


def _subsampled(
    metric: Metric,
    how: Subsampled,
    evidence: Evidence,
    codes: np.ndarray,
    resamples: int,
    seed: int,
    parameters: dict[str, Any],
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    share = min(SHARE, (how.largest or len(codes)) / len(codes))
    labels = np.asarray(to_numpy(evidence.labels))
    evidence = how.prepare(evidence, parameters)
    scores, taken = [], 0.0
    for part in subsamples(codes, resamples, share, seed=seed):
        taken = len(part) / len(codes)
        of_part = replace(
            evidence,
            features=_rows(evidence.features, part),
            source_probabilities=_rows(evidence.source_probabilities, part),
            labels=labels[part],
        )
        scores.append(metric.compute(of_part, **parameters))
    # A class of few samples may be taken whole; a part that is the whole has no scatter to correct.
    correction = np.sqrt(taken / (1 - taken)) if taken < 1 else 0.0
    values = correction * np.asarray([score.value for score in scores])
    return values, {
        part: correction * np.asarray([score.details[part] for score in scores]) for part in metric.pool_parts
    }


def _rows(array: Array | None, part: np.ndarray) -> Array | None:
    if array is None:
        return None
    if isinstance(array, (list, tuple)):
        array = np.asarray(array)
    return array_namespace(array).take(array, from_numpy(part, like=array), axis=0)
