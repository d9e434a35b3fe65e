"""One order of the models from the scores of several metrics, and how much the metrics disagree."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from estimators.score import CannotBeComputed

# Kemeny's order is exact up to this many models; its cost doubles with each.
LARGEST_EXACT = 12


@dataclass(frozen=True, slots=True)
class Consensus:
    """Attributes:
    order: models (their indices), best first; models without any score are left out.
    mean_rank: (M,) mean over the metrics of the model's rank, 1 being the best; NaN without any score.
    method: ``"kemeny"`` or ``"borda"``.
    citation: the citation of the method.
    agreement: (K, K) Kendall's tau-b between the metrics' orders; NaN where there is none.
    mean_tau: its mean over pairs of metrics; None for one metric.
    kendall_w: Kendall's coefficient of concordance, 0 to 1; None for one metric or with missing scores.
    """

    order: tuple[int, ...]
    mean_rank: np.ndarray
    method: str
    citation: str
    agreement: np.ndarray
    mean_tau: float | None
    kendall_w: float | None


SOURCES = {
    "kemeny": "Kemeny, Mathematics without Numbers, 1959; Young and Levenglick, A Consistent Extension of Condorcet's "
    "Election Principle, 1978",
    "borda": "Borda, Mémoire sur les élections au scrutin, 1781; Dwork et al., Rank Aggregation Methods for the Web, "
    "2001",
}


def consensus(scores: Sequence[Sequence[float]] | np.ndarray[Any, Any]) -> Consensus:
    """The order of models that contradicts the metrics least.

    Kemeny's order has the fewest pairs (metric, two models) that the metric ranks the other way round; it is found
    exactly for up to ``LARGEST_EXACT`` models, and of several such orders the one that follows the mean ranks is taken.
    For more models it is Borda's, the order of the mean ranks. A metric without a score for a model says nothing of
    it: ranks among m of M models are stretched by (M + 1)/(m + 1).

    Args:
        scores: (K metrics, M models), higher being better; NaN where a metric has no score for a model.

    Raises:
        ValueError: not a table, or infinite.
        CannotBeComputed: there is no score at all.
    """
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or np.isinf(table).any():
        raise ValueError("scores must be a table (metrics, models) of finite numbers, NaN where there is none")
    if np.isnan(table).all():
        raise CannotBeComputed("no metric has a score for any model")
    ranks = _ranks(table)
    present = ~np.isnan(ranks)
    totals = np.where(present, ranks, 0).sum(axis=0)
    mean_rank = np.divide(totals, present.sum(axis=0), out=np.full(table.shape[1], np.nan), where=present.any(axis=0))
    models = [int(m) for m in np.argsort(mean_rank, kind="stable") if present[:, m].any()]
    method = "kemeny" if len(models) <= LARGEST_EXACT else "borda"
    order = _kemeny(table[:, models], models) if method == "kemeny" else models
    agreement = _agreement(table)
    pairs = agreement[np.triu_indices(len(table), 1)]
    return Consensus(
        order=tuple(order),
        mean_rank=mean_rank,
        method=method,
        citation=SOURCES[method],
        agreement=agreement,
        mean_tau=float(np.nanmean(pairs)) if pairs.size and not np.isnan(pairs).all() else None,
        kendall_w=_concordance(ranks),
    )


def _ranks(table: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    from scipy.stats import rankdata

    ranks = np.full(table.shape, np.nan)
    for row, values in enumerate(table):
        known = ~np.isnan(values)
        ranks[row, known] = rankdata(-values[known]) * (table.shape[1] + 1) / (known.sum() + 1)
    return ranks


def _kemeny(table: np.ndarray[Any, Any], models: list[int]) -> list[int]:
    """Dynamic programming over sets of models: the best order of a set ends with the model that costs least there."""
    count = len(models)
    # against[a, b]: how many metrics put b above a, the cost of placing a above b. NaN compares false.
    against = np.sum(table[:, :, None] < table[:, None, :], axis=0)
    best: list[tuple[float, float, tuple[int, ...]]] = [(0.0, 0.0, ())] * (1 << count)
    for members in range(1, 1 << count):
        inside = [m for m in range(count) if members >> m & 1]
        candidates = []
        for last in inside:
            cost, shift, order = best[members & ~(1 << last)]
            above = sum(int(against[m, last]) for m in inside)
            # Models come in the order of their mean ranks, so this prefers orders that follow it.
            candidates.append((cost + above, shift + abs(last - len(order)), (*order, last)))
        best[members] = min(candidates)
    return [models[m] for m in best[-1][2]]


def _agreement(table: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    from scipy.stats import kendalltau

    agreement = np.eye(len(table))
    for a in range(len(table)):
        for b in range(a + 1, len(table)):
            known = ~np.isnan(table[a]) & ~np.isnan(table[b])
            varied = all(len(np.unique(table[row, known])) > 1 for row in (a, b))
            tau = kendalltau(table[a, known], table[b, known])[0] if varied else np.nan
            agreement[a, b] = agreement[b, a] = tau
    return agreement


def _concordance(ranks: np.ndarray[Any, Any]) -> float | None:
    """W = 12 Σ (R_m - mean R)² / (K² (M³ - M) - K Σ(t³ - t)); Kendall and Babington Smith, 1939."""
    metrics, models = ranks.shape
    if metrics < 2 or models < 2 or np.isnan(ranks).any():
        return None
    sums = ranks.sum(axis=0)
    ties = sum(float(np.sum(sizes**3 - sizes)) for sizes in (np.unique(row, return_counts=True)[1] for row in ranks))
    denominator = metrics**2 * (models**3 - models) - metrics * ties
    return float(12 * np.sum((sums - sums.mean()) ** 2) / denominator) if denominator > 0 else None
