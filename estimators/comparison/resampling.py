"""How sure a score is: the spread that other samples of the same kind would have given it.

    resamples = resample("leep", evidence, seed=0)        # also holds the score itself
    low, high = interval(resamples)
    summary = pool_summary([resample("leep", model, seed=0).values for model in models])

The same seed, number of resamples and labels give the same draws for every model, so models are compared pair by pair
and what they have in common cancels. Three methods, whichever is honest and affordable for the metric:

- ``reweighted``: a bootstrap stratified by class. The score is computed again from re-weighted counts (LEEP, NCE, the
  energy; N-LEEP with its mixture held fixed).
- ``linear``: the same bootstrap on a first-order expansion: each sample has a share in the score, and the resample
  adds up the shares of the samples drawn. Exact for accuracies; for TMI the neighbours' distances are held fixed, for
  discriminants the fit, for the regularised H-score the shrinkage; for LogME and the H-score the share is the
  derivative of the score by the sample's weight (the infinitesimal jackknife).
- ``subsample``: the metric is computed again on parts drawn without replacement, class by class (GBC and NCTI with
  their principal components held fixed). A share f of the samples scatters sqrt((1 - f)/f) times as much as a
  bootstrap does, for which the deviations are corrected.

All are centred on the score itself, which removes the bias that a resample has by holding fewer distinct samples.
Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, ch. 6, 11, 22; Politis, Romano, Wolf, "Subsampling",
1999, ch. 2.

A metric that means something within a pool only (ETran, NCTI) is resampled in its parts; `combine_resamples` joins them
draw by draw.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from estimators.arrays.linalg import project
from estimators.arrays.validation import (
    Array,
    check_features,
    check_labels,
    check_number,
    check_probabilities,
    from_numpy,
    to_numpy,
)
from estimators.catalog import METRICS, Evidence
from estimators.metrics.baselines import neighbor_score_and_shares, probe_score_and_shares
from estimators.metrics.etran import sample_energies, tail_samples
from estimators.metrics.hscore import sample_gradients as h_score_gradients
from estimators.metrics.logme import sample_gradients as logme_gradients
from estimators.metrics.ncti import COMPONENTS
from estimators.metrics.nleep import score_and_responsibilities
from estimators.metrics.ped import describe, move
from estimators.metrics.sfda import lda_and_shares, sfda_and_shares
from estimators.metrics.tmi import score_and_shares as tmi_and_shares
from estimators.score import CannotBeComputed, Score

BOOTSTRAP_RESAMPLES = 200
SUBSAMPLES = 20
SHARE = 0.8
PROJECTED = METRICS["gbc"].parameters["components"].default
# PARC averages over pairs, so that a part of this size is of the same kind as the whole.
LARGEST_PARTS = {"parc": 1000}
BLOCK_NUMBERS = 20_000_000

Draws = np.ndarray


@dataclass(frozen=True, slots=True)
class Resamples:
    """Values that a metric took on resamples, centred on its score.

    Attributes:
        score: the metric's Score on all samples.
        values: (R,) in a fixed order of draws.
        method: ``reweighted``, ``linear`` or ``subsample``.
        parts: (R,) for each of the metric's ``parts``, centred on the detail of that name.
    """

    score: Score
    values: np.ndarray
    method: str
    parts: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PoolSummary:
    """What resamples say of a pool of M models.

    Attributes:
        probability_best: (M,) share of the resamples in which the model has the highest score; ties are shared.
        expected_rank: (M,) mean rank over the resamples, 1 being the best; ties take their mean rank.
    """

    probability_best: np.ndarray
    expected_rank: np.ndarray


def method(name: str, **parameters: Any) -> str:
    """How `resample` treats this metric."""
    if name in REWEIGHTED:
        return "reweighted"
    if name in LINEAR and parameters.get("base", "sfda") == "sfda":
        return "linear"
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
    metric.require(evidence)
    codes = to_numpy(check_labels(evidence.labels)[0])
    how = method(name, **parameters)
    parts: dict[str, np.ndarray] = {}
    if how == "reweighted":
        score, values = REWEIGHTED[name](evidence, bootstrap_weights(codes, count, seed=seed), parameters)
    elif how == "linear":
        score, shares = LINEAR[name](evidence, parameters)
        weights = bootstrap_weights(codes, count, seed=seed)
        values = weights @ to_numpy(shares)
        if name == "etran":
            parts["energy"] = reweighted_energy(evidence.features, weights)
    else:
        score = metric.compute(evidence, **parameters)
        values, parts = _subsampled(name, evidence, codes, count, seed, parameters)
    parts = {part: _centred(drawn, score.details[part]) for part, drawn in parts.items()}
    values = _centred(values, score.value)
    return Resamples(score, values if metric.combine else np.clip(values, *metric.range), how, parts)


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
    """Probability of being best and expected rank, from (M, R) values of M models on the same R draws."""
    from scipy.stats import rankdata

    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or table.size == 0:
        raise ValueError("values must be a table (models, resamples), with as many resamples for each model")
    ranks = rankdata(-table, axis=0)
    best = table == table.max(axis=0)
    return PoolSummary(np.mean(best / best.sum(axis=0), axis=1), ranks.mean(axis=1))


def bootstrap_weights(codes: np.ndarray, resamples: int, *, seed: int) -> Draws:
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
    name: str, evidence: Evidence, codes: np.ndarray, resamples: int, seed: int, parameters: dict[str, Any]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    share = min(SHARE, LARGEST_PARTS.get(name, len(codes)) / len(codes))
    labels = np.asarray(to_numpy(evidence.labels))
    kept = parameters.get("components", PROJECTED) if name == "gbc" else COMPONENTS if name == "ncti" else None
    if kept is not None:
        features = check_features(evidence.features)
        evidence = replace(evidence, features=project(features, kept) if kept < features.shape[1] else features)
    scores, taken = [], 0.0
    for part in subsamples(codes, resamples, share, seed=seed):
        taken = len(part) / len(codes)
        of_part = replace(
            evidence,
            features=_rows(evidence.features, part),
            source_probabilities=_rows(evidence.source_probabilities, part),
            labels=labels[part],
        )
        scores.append(METRICS[name].compute(of_part, **parameters))
    # A class of few samples may be taken whole; a part that is the whole has no scatter to correct.
    correction = np.sqrt(taken / (1 - taken)) if taken < 1 else 0.0
    values = correction * np.asarray([score.value for score in scores])
    return values, {
        part: correction * np.asarray([score.details[part] for score in scores]) for part in METRICS[name].parts
    }


def _rows(array: Array | None, part: np.ndarray) -> Array | None:
    if array is None:
        return None
    if isinstance(array, (list, tuple)):
        array = np.asarray(array)
    return array_namespace(array).take(array, from_numpy(part, like=array), axis=0)


def reweighted_leep(probabilities: Array, labels: Array, weights: Draws, *, logarithm: bool = True) -> np.ndarray:
    """(R,) LEEP with each sample counted as often as its weight, from (R, N) weights.

    For each class the joint counts of all resamples are one matrix product, and so are the predictions.
    """
    table = to_numpy(check_probabilities(probabilities))
    codes = to_numpy(check_labels(labels, length=len(table))[0])
    members = [np.flatnonzero(codes == c) for c in range(int(codes.max()) + 1)]
    step = max(1, BLOCK_NUMBERS // (len(members) * table.shape[1]))
    totals = []
    for start in range(0, len(weights), step):
        block = weights[start : start + step]
        joint = np.stack([block[:, group] @ table[group] for group in members])
        mass = joint.sum(axis=0)
        joint /= np.where(mass > 0, mass, 1)
        total = np.zeros(len(block))
        for group, conditional in zip(members, joint, strict=True):
            # A sample that was not drawn may be impossible under the others; its logarithm counts nothing.
            predictions = np.where(block[:, group] > 0, conditional @ table[group].T, 1)
            total += np.sum(block[:, group] * (np.log(predictions) if logarithm else predictions), axis=1)
        totals.append(total / len(codes))
    return np.concatenate(totals)


def reweighted_nce(source_labels: Array, labels: Array, weights: Draws) -> np.ndarray:
    """(R,) NCE with each sample counted as often as its weight, from (R, N) weights."""
    codes = to_numpy(check_labels(labels)[0])
    sources = to_numpy(check_labels(source_labels, length=len(codes))[0])
    pairs, place = np.unique(codes * (int(sources.max()) + 1) + sources, return_inverse=True)
    source_of_pair = pairs % (int(sources.max()) + 1)
    values = []
    for row in weights:
        joint = np.bincount(place, weights=row) / len(codes)
        marginal = np.bincount(source_of_pair, weights=joint)[source_of_pair]
        drawn = joint > 0
        values.append(np.sum(joint[drawn] * np.log(joint[drawn] / marginal[drawn])))
    return np.asarray(values)


def reweighted_energy(features: Array, weights: Draws, *, percent: float = 0.5, tail: str = "lowest") -> np.ndarray:
    """(R,) the energy with each sample counted as often as its weight, from (R, N) weights."""
    energies = to_numpy(sample_energies(check_features(features)))
    order = np.argsort(energies if tail == "lowest" else -energies)
    share = tail_samples(len(energies), percent)
    drawn = weights[:, order]
    # How many of a sample's copies still fit into the tail, those of the samples before it being in.
    taken = np.clip(share - (np.cumsum(drawn, axis=1) - drawn), 0, drawn)
    means: np.ndarray = taken @ energies[order] / share
    return means


def _leep(evidence: Evidence, weights: Draws, parameters: dict[str, Any]) -> tuple[Score, np.ndarray]:
    values = reweighted_leep(evidence.source_probabilities, evidence.labels, weights)
    return METRICS["leep"].compute(evidence, **parameters), values


def _nce(evidence: Evidence, weights: Draws, parameters: dict[str, Any]) -> tuple[Score, np.ndarray]:
    values = reweighted_nce(evidence.source_labels, evidence.labels, weights)
    return METRICS["nce"].compute(evidence, **parameters), values


def _nleep(evidence: Evidence, weights: Draws, parameters: dict[str, Any]) -> tuple[Score, np.ndarray]:
    score, table = score_and_responsibilities(features=evidence.features, labels=evidence.labels, **parameters)
    logarithm = parameters.get("compat") is None
    return score, reweighted_leep(table, evidence.labels, weights, logarithm=logarithm)


def _energy(evidence: Evidence, weights: Draws, parameters: dict[str, Any]) -> tuple[Score, np.ndarray]:
    settings = {key: value for key, value in parameters.items() if key != "compat"}
    return METRICS["energy"].compute(evidence, **parameters), reweighted_energy(evidence.features, weights, **settings)


REWEIGHTED: dict[str, Callable[[Evidence, Draws, dict[str, Any]], tuple[Score, np.ndarray]]] = {
    "energy": _energy,
    "leep": _leep,
    "nce": _nce,
    "nleep": _nleep,
}


def _by_product(
    function: Callable[..., tuple[Score, Array]], evidence: Evidence, parameters: dict[str, Any]
) -> tuple[Score, Array]:
    return function(features=evidence.features, labels=evidence.labels, **parameters)


def _ped(evidence: Evidence, parameters: dict[str, Any]) -> tuple[Score, Array]:
    settings = {key: value for key, value in parameters.items() if key not in ("base", "compat")}
    moved, motion, steps = move(
        features=evidence.features, labels=evidence.labels, reference_features=evidence.reference_features, **settings
    )
    score, shares = sfda_and_shares(features=moved, labels=evidence.labels)
    referenced = evidence.reference_features is not None
    return describe(score, base="sfda", motion=motion, steps=steps, referenced=referenced), shares


def _etran(evidence: Evidence, parameters: dict[str, Any]) -> tuple[Score, Array]:
    score = METRICS["etran"].compute(evidence, **parameters)
    return score, lda_and_shares(features=evidence.features, labels=evidence.labels, **parameters)[1]


def _logme(evidence: Evidence, parameters: dict[str, Any]) -> tuple[Score, Array]:
    if evidence.targets is not None:
        raise CannotBeComputed("resampling is stratified by class, and regression targets have none")
    return METRICS["logme"].compute(evidence, **parameters), logme_gradients(evidence.features, evidence.labels)


def _h_score(regularized: bool, evidence: Evidence, parameters: dict[str, Any]) -> tuple[Score, Array]:
    metric = METRICS["regularized_h_score" if regularized else "h_score"]
    gradients = h_score_gradients(evidence.features, evidence.labels, regularized=regularized)
    return metric.compute(evidence, **parameters), gradients


LINEAR: dict[str, Callable[[Evidence, dict[str, Any]], tuple[Score, Array]]] = {
    "tmi": partial(_by_product, tmi_and_shares),
    "sfda": partial(_by_product, sfda_and_shares),
    "lda": partial(_by_product, lda_and_shares),
    "nearest_neighbor": partial(_by_product, neighbor_score_and_shares),
    "linear_probe": partial(_by_product, probe_score_and_shares),
    "ped": _ped,
    "etran": _etran,
    "logme": _logme,
    "h_score": partial(_h_score, False),
    "regularized_h_score": partial(_h_score, True),
}
