"""One order of models from all that is known of them, and what it may cost to follow it.

Three rungs of evidence, each of which may be missing: what is known without looking (size, accuracy on the source,
earlier fine-tunings), metrics of one forward pass, and a trial, a short fine-tuning that predicts every image once
unseen. On each rung a model has a place between 0 and 1; the score is their weighted mean. Places rather than values,
since no two rungs share a scale, and one wild value must not decide.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# A trial sees models learn, but on few images: of the weights 0, 1/2, 1, 2 and 4 the half gave the best order and the
# least regret on the development half of the study (docs/truth.md).
WEIGHTS = {"known": 1.0, "metrics": 1.0, "trial": 0.5}
# Values that differ by less, relative to the largest, differ by rounding.
ROUNDING = 1e-9
DRAWS = 1000
# Half the width of a two-sided 90 % interval, in standard errors.
NORMAL_90 = 1.645
FEWEST, MOST = 2, 3


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Attributes:
    order: (M,) models, best first: by score, those that a trial dropped after the others.
    score: (M,) weighted mean place, from 0 to 1.
    places: rung -> (M,) the model's place on it, NaN where it has none.
    fine_tune: how many of the first are worth fine-tuning.
    expected_regret: for k = 1, 2, 3 how much more accurate, as a share of the images, the best of all may be than the
        best of the first k, by the trial's predictions; None without a trial, and if the first model was tried on fewer
        images than others. It holds the noise of the sample, not
        that of training.
    """

    order: NDArray[np.int64]
    score: NDArray[np.float64]
    places: Mapping[str, NDArray[np.float64]]
    fine_tune: int
    expected_regret: tuple[float, ...] | None


def recommend(
    *,
    known: Sequence[Any] = (),
    metrics: Sequence[Any] = (),
    losses: Any = None,
    correct: Any = None,
    dropped: Sequence[bool] | None = None,
    seed: int = 0,
) -> Recommendation:
    """Combine the rungs.

    Args:
        known: lists of (M,) numbers, higher promising more; NaN where unknown.
        metrics: the same; a list whose numbers are all equal says nothing.
        losses: (M, N) -log p of the true class for every image that the trial held out; NaN where it did not, or not
            yet. A model may have no row of numbers at all.
        correct: (M, N) whether the most likely class was the true one; read where ``losses`` are numbers.
        dropped: (M,) models that a trial excluded, or that could not be fine-tuned: they come last.
        seed: of the resampling of images.

    Raises:
        ValueError: no evidence at all, or shapes that do not fit.
    """
    rungs = {
        "known": [np.asarray(values, dtype=np.float64) for values in known],
        "metrics": [np.asarray(values, dtype=np.float64) for values in metrics],
        "trial": [] if losses is None else [-mean_losses(losses)],
    }
    sizes = {values.shape for lists in rungs.values() for values in lists}
    if len(sizes) != 1 or len(next(iter(sizes))) != 1:
        raise ValueError(f"every list of numbers must have one entry a model; got shapes {sorted(sizes) or 'none'}")
    (count,) = next(iter(sizes))
    places = {}
    for rung, lists in rungs.items():
        told = [place for place in map(_places, lists) if not np.isnan(place).all()]
        if told:
            places[rung] = _mean_where_known(told, np.ones(len(told)))
    weights = np.array([WEIGHTS[rung] for rung in places])
    score = np.full(count, 0.5)
    if places:
        score = np.nan_to_num(_mean_where_known(list(places.values()), weights), nan=0.5)
    out = np.zeros(count, dtype=bool) if dropped is None else np.asarray(dropped, dtype=bool)
    order = np.lexsort((-score, out))
    expected = None
    fine_tune = min(MOST, count)
    if losses is not None and correct is not None:
        table = np.asarray(losses, dtype=np.float64)
        expected = _expected_regret(table, np.asarray(correct, dtype=np.float64), order, seed)
        fine_tune = min(count, max(FEWEST, min(MOST, int(np.sum(still_in_race(table, 1))))))
    return Recommendation(order, score, places, fine_tune, expected)


def mean_losses(losses: Any) -> NDArray[np.float64]:
    """(M,) mean loss of each model, as if it had predicted every image that any model has; NaN without predictions.

    Images differ in how hard they are, and a model that left the race has predicted fewer. An image's difficulty is
    its mean loss over the models that have predicted most; a model's loss is compared with it on its own images.
    """
    table = np.asarray(losses, dtype=np.float64)
    if table.ndim != 2:
        raise ValueError(f"losses must be a table (models, images); got shape {table.shape}")
    present = ~np.isnan(table)
    counts = present.sum(axis=1)
    if not counts.any():
        return np.full(len(table), np.nan)
    complete = counts == counts.max()
    covered = present[complete].all(axis=0)
    if not (present & ~covered).any():
        difficulty = table[complete].mean(axis=0)
    else:  # models that are equally far have seen unlike images: compare them on all, unadjusted
        difficulty, covered = np.zeros(table.shape[1]), np.ones(table.shape[1], dtype=bool)
    excess = np.where(present, table - difficulty, 0.0).sum(axis=1)
    means: NDArray[np.float64] = np.divide(excess, counts, out=np.full(len(table), np.nan), where=counts > 0)
    means += difficulty[covered].mean()
    return means


def still_in_race(losses: Any, winners: int) -> NDArray[np.bool_]:
    """(M,) whether a model's loss may still be among the ``winners`` lowest: successive halving by paired intervals.

    A model is out if, over the images that both predicted, the 90 % interval of its loss minus that of the last of
    the first lies above zero. Models without predictions are out.
    """
    table = np.asarray(losses, dtype=np.float64)
    means = mean_losses(table)
    ranked = np.argsort(np.where(np.isnan(means), np.inf, means), kind="stable")
    last = table[ranked[min(winners, len(ranked)) - 1]]
    race = np.zeros(len(table), dtype=bool)
    for model, row in enumerate(table):
        difference = (row - last)[~np.isnan(row - last)]
        if difference.size:
            error = difference.std(ddof=1) / np.sqrt(difference.size) if difference.size > 1 else np.inf
            race[model] = difference.mean() - NORMAL_90 * error <= 0
    race[ranked[:winners]] = ~np.isnan(means[ranked[:winners]])
    return race


def _expected_regret(
    losses: NDArray[np.float64], correct: NDArray[np.float64], order: NDArray[np.int64], seed: int
) -> tuple[float, ...] | None:
    """Over resampled images: best accuracy of all minus the best of the first k, for k = 1 to ``MOST``."""
    counts = (~np.isnan(losses)).sum(axis=1)
    complete = order[counts[order] == counts.max()]
    shared = ~np.isnan(losses[complete]).any(axis=0)
    number = int(shared.sum())
    if number == 0 or order[0] not in complete:
        return None
    draws = np.random.default_rng(seed).multinomial(number, np.full(number, 1 / number), size=DRAWS)
    accuracies = (draws @ correct[complete][:, shared].T) / number
    best = accuracies.max(axis=1)
    return tuple(float(np.mean(best - accuracies[:, :k].max(axis=1))) for k in range(1, min(MOST, len(complete)) + 1))


def _places(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(M,) from 0 for the lowest to 1 for the highest, ties sharing the mean; all NaN if nothing differs."""
    from scipy.stats import rankdata

    known = np.isfinite(values)
    places = np.full(values.shape, np.nan)
    if known.sum() < 2:
        return places
    numbers = values[known]
    step = ROUNDING * max(np.abs(numbers).max(), np.finfo(np.float64).tiny)
    rounded = np.round(numbers / step)
    if np.unique(rounded).size < 2:
        return places
    # Among few known models the first is not as surely first: ranks r of n lie at (r - 1/2) / n.
    places[known] = (rankdata(rounded) - 0.5) / known.sum()
    return places


def _mean_where_known(lists: Sequence[NDArray[np.float64]], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    table = np.asarray(lists)
    shares = np.where(np.isnan(table), 0.0, weights[:, None])
    total = shares.sum(axis=0)
    means: NDArray[np.float64] = np.full(table.shape[1], np.nan)
    np.divide((np.nan_to_num(table) * shares).sum(axis=0), total, out=means, where=total > 0)
    return means
