"""PARC: whether images are alike in features when they are alike in label."""

from itertools import pairwise

import numpy as np
from array_api_compat import array_namespace

from estimators.arrays.linalg import project
from estimators.arrays.validation import (
    Array,
    check_choice,
    check_compat,
    check_features,
    check_labels,
    check_number,
    from_numpy,
    to_numpy,
)
from estimators.score import CannotBeComputed, Score

BLOCK_ROWS = 512
SMALLEST_BUDGET = 16_000_000
NOTICEABLE = 0.5


def parc(
    *,
    features: Array,
    labels: Array,
    components: int | None = None,
    ties: str = "computed",
    compat: str | None = None,
) -> Score:
    """Pairwise annotation representation comparison: 100 times Spearman's correlation, over all pairs of samples, of
    ``1 - corr(x_i, x_j)`` and ``1 - corr(one-hot y_i, one-hot y_j)``; dimensions are standardised first.

    Bolya, Mittapalli, Hoffman, "Scalable Diverse Model Selection for Accessible Transfer Learning", NeurIPS 2021,
    sec. 4.

    Args:
        features: (N, D).
        labels: (N,) integers or strings.
        components: project onto so many principal components first; None to keep the features.
        ties: the second distance has two values, but correlations of one-hot rows computed in floating point have
            three or four, and ranks tell them apart. ``"computed"`` keeps them, as the authors' program does and all
            published numbers do; ``"exact"`` ties them, as the definition says, and does not depend on the order of
            the classes. The two can differ by many points; both are in the details, and a warning says so.
        compat: ``"author"`` gives the number of the authors' program with randomised principal components too.

    Returns:
        Score in [-100, 100]. Details: samples, dimensions, components, classes, samples_left_out, computed_ties,
        exact_ties.

    Raises:
        InvalidEvidence: wrong shapes, NaN.
        CannotBeComputed: one class only, or one class a sample, or too few samples that have a correlation.
    """
    author = check_compat(compat)
    check_choice("ties", ties, ("computed", "exact"))
    features = check_features(features)
    codes, classes = check_labels(labels, length=features.shape[0])
    dimensions = int(features.shape[1])
    if components is not None:
        check_number("components", components, minimum=1, whole=True)
        features = _author_projection(features, components) if author else project(features, components)
    rows, kept = _unit_rows(features)
    codes = codes[kept]
    if len(np.unique(codes)) in (0, 1, len(codes)):
        raise CannotBeComputed("some pairs of samples must share a class and some must not; here all pairs are alike")
    values, kinds = np.unique(label_distances(len(classes)), return_inverse=True)
    kinds = kinds.reshape(len(classes), -1).astype(np.uint8 if len(values) < 256 else np.int64)
    sizes, sums, spread = rank_sums(rows, codes, kinds)
    correlations = {
        "computed": 100 * spearman(values, sizes, sums, spread),
        "exact": 100 * spearman(values > 0.5, sizes, sums, spread),
    }
    left_out = int(np.sum(~kept))
    warnings = []
    if left_out:
        warnings.append(f"left out: {left_out} samples have one value in all dimensions, and so no correlation")
    if ties == "computed" and abs(correlations["computed"] - correlations["exact"]) > NOTICEABLE:
        warnings.append(
            f"rounding: label distances that only rounding tells apart, as in the authors' program, move the score "
            f"from {correlations['exact']:.1f}; ties='exact' avoids it"
        )
    return Score(
        correlations[ties],
        tuple(warnings),
        {
            "samples": int(features.shape[0]),
            "dimensions": dimensions,
            "components": int(features.shape[1]),
            "classes": len(classes),
            "samples_left_out": left_out,
            "computed_ties": correlations["computed"],
            "exact_ties": correlations["exact"],
        },
    )


def _author_projection(features: Array, components: int) -> Array:
    from sklearn.decomposition import PCA

    pca = PCA(components, svd_solver="randomized", iterated_power=1, random_state=1919)
    return from_numpy(pca.fit_transform(to_numpy(features)), like=features)


def _unit_rows(features: Array) -> tuple[Array, np.ndarray]:
    """Rows of length one whose products are correlations, and which rows have any."""
    xp = array_namespace(features)
    scale = xp.std(features, axis=0)
    rows = (features - xp.mean(features, axis=0)) / xp.where(scale > 0, scale, xp.ones_like(scale))
    rows -= xp.mean(rows, axis=1, keepdims=True)
    lengths = xp.linalg.vector_norm(rows, axis=1)
    kept = lengths > 1e-12 * features.shape[1] ** 0.5
    if not bool(xp.all(kept)):
        rows, lengths = rows[kept, :], lengths[kept]
    rows /= lengths[:, None]
    return rows, to_numpy(kept)


def label_distances(classes: int) -> np.ndarray:
    """(C, C) ``1 - corr`` of one-hot rows: 0 or 1 + 1/(C - 1), but for rounding, which ranks can tell apart."""
    return np.asarray(1 - np.corrcoef(np.eye(classes)))


def spearman(values: np.ndarray, sizes: np.ndarray, sums: np.ndarray, spread: float) -> float:
    """Spearman's correlation of P pairs' distances with a variable of few values, ties at their mean rank.

        ρ = Σ_g (R_g - r) (T_g - n_g r) / sqrt( spread · Σ_g n_g (R_g - r)² ),   r = (P + 1)/2

    Args:
        values: (G,) the values of the second variable, in any order; equal ones are tied.
        sizes: n_g, how many pairs have each.
        sums: T_g, the sum of the ranks that those pairs' distances take among all P.
        spread: Σ (rank - r)² of the distances.
    """
    _, order = np.unique(values, return_inverse=True)
    sizes, sums = np.bincount(order, weights=sizes), np.bincount(order, weights=sums)
    middle = (sizes.sum() + 1) / 2
    ranks = np.cumsum(sizes) - (sizes - 1) / 2
    variation = spread * float(np.sum(sizes * (ranks - middle) ** 2))
    if variation <= 0:
        raise CannotBeComputed("all pairs of samples are equally far apart, or all are of one kind")
    return float(np.sum((ranks - middle) * (sums - sizes * middle))) / float(np.sqrt(variation))


def rank_sums(rows: Array, codes: np.ndarray, kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """n_g, T_g and the spread of `spearman` for the distances ``1 - rows_i · rows_j`` (i < j) of kind
    ``kinds[codes_i, codes_j]``.

    Only pairs of the rarer kinds are looked up among the sorted distances: the sums of the commonest follow from the
    total. Distances are recomputed and ranked range by range once there are more of them than numbers in the features,
    so that memory stays O(N D).
    """
    samples = int(rows.shape[0])
    pairs = samples * (samples - 1) // 2
    shares = np.bincount(codes, minlength=len(kinds))
    commonest = int(np.argmax(np.bincount(kinds.ravel(), weights=np.outer(shares, shares).ravel())))
    sizes = np.zeros(int(kinds.max()) + 1)
    sums, ties, below = np.zeros(len(sizes)), 0.0, 0
    edges = _range_edges(rows, pairs, budget=max(SMALLEST_BUDGET, samples * int(rows.shape[1])))
    for low, high in pairwise(edges):
        distances, kind = _distances_between(rows, codes, kinds, low, high)
        sizes += np.bincount(kind, minlength=len(sizes))
        rare = [np.sort(distances[kind == g]) if g != commonest else None for g in range(len(sizes))]
        del kind
        distances.sort()
        for g, values in enumerate(rare):
            if values is not None:
                ends = np.searchsorted(distances, values, "left") + np.searchsorted(distances, values, "right")
                sums[g] += float(np.sum(ends, dtype=np.float64)) / 2 + (below + 0.5) * len(values)
        ties += _tie_term(distances)
        below += len(distances)
    sums[commonest] = pairs * (pairs + 1) / 2 - np.sum(sums)
    return sizes, sums, (float(pairs) ** 3 - pairs - ties) / 12


def _row_blocks(rows: Array) -> list[tuple[int, int]]:
    samples = int(rows.shape[0])
    return [(start, min(start + BLOCK_ROWS, samples)) for start in range(0, samples, BLOCK_ROWS)]


def _block(rows: Array, start: int, stop: int) -> np.ndarray:
    """Distances of rows start..stop to rows start..N, as a NumPy matrix."""
    xp = array_namespace(rows)
    block: np.ndarray = to_numpy(rows[start:stop, :] @ xp.matrix_transpose(rows[start:, :]))
    np.subtract(1, block, out=block)
    return block


def _distances_between(
    rows: Array, codes: np.ndarray, kinds: np.ndarray, low: float, high: float
) -> tuple[np.ndarray, np.ndarray]:
    """All distances d of pairs i < j with low < d <= high, and the kinds of those pairs."""
    everything = not (np.isfinite(low) or np.isfinite(high))
    distances, kind = [], []
    for start, stop in _row_blocks(rows):
        block, own = _block(rows, start, stop), stop - start
        of_block = kinds[codes[start:stop]][:, codes[start:]]
        # The block's square on the diagonal holds its pairs twice; beyond it each pair stands once.
        upper = np.triu(np.ones((own, own), dtype=bool), 1)
        for part, names in (
            (block[:, :own][upper], of_block[:, :own][upper]),
            (block[:, own:].ravel(), of_block[:, own:].ravel()),
        ):
            wanted = slice(None) if everything else (part > low) & (part <= high)
            distances.append(part[wanted])
            kind.append(names[wanted])
    return np.concatenate(distances), np.concatenate(kind)


def _range_edges(rows: Array, pairs: int, budget: int) -> list[float]:
    """Distances that cut the pairs into ranges of about ``budget`` at most, judged by some evenly spaced rows."""
    ranges = -(-pairs // budget)
    if ranges <= 1:
        return [-np.inf, np.inf]
    sample = rows[:: max(1, rows.shape[0] // 1000), :]
    distances = np.concatenate([_block(sample, start, stop).ravel() for start, stop in _row_blocks(sample)])
    inner = np.quantile(distances, np.arange(1, ranges) / ranges)
    return [-np.inf, *np.unique(inner).tolist(), np.inf]


def _tie_term(ordered: np.ndarray) -> float:
    """Σ(t³ - t) over groups of t equal numbers."""
    equal = ordered[1:] == ordered[:-1]
    if not equal.any():
        return 0.0
    starts = np.concatenate([[0], np.flatnonzero(~equal) + 1, [len(ordered)]])
    groups = np.diff(starts).astype(np.float64)
    return float(np.sum(groups**3 - groups))
