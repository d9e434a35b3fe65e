"""PARC: whether images are alike in features when they are alike in label."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
from array_api_compat import array_namespace

from estimators.arrays.linalg import project
from estimators.arrays.sampling import sample_indices
from estimators.arrays.validation import (
    Array,
    check_compat,
    check_features,
    check_labels,
    check_number,
    from_numpy,
    to_numpy,
    working_rows,
)
from estimators.metric import COMPAT, Metric, Parameter, Subsampled
from estimators.score import CannotBeComputed, Score

BLOCK_ROWS = 512
# Pairs grow with the square: as many samples again would take four times as long.
MOST_SAMPLES = 10_000
SMALLEST_BUDGET = 16_000_000
# Distances are ranked in steps of this: far above the rounding of a product, far below what tells two pairs apart.
STEP = 2.0**-36


def parc(
    *,
    features: Array,
    labels: Array,
    components: int | None = None,
    samples: int | None = MOST_SAMPLES,
    compat: str | None = None,
) -> Score:
    """Pairwise annotation representation comparison: 100 times Spearman's correlation, over all pairs of samples, of
    ``1 - corr(x_i, x_j)`` and ``1 - corr(one-hot y_i, one-hot y_j)``; dimensions are standardised first.

    Bolya, Mittapalli, Hoffman, "Scalable Diverse Model Selection for Accessible Transfer Learning", NeurIPS 2021,
    sec. 4.

    Args:
        features: (N, D).
        labels: (N,) integers or strings.
        components: project onto this many principal components first; None to keep the features.
        samples: compare the pairs of this many samples at most, drawn class by class with a fixed seed; None for all.
        compat: ``"author"`` gives the number of the authors' program. The second distance has two values, but
            correlations of one-hot rows computed in floating point have three or four, and ranks tell them apart: the
            score then depends on the order of the classes and can differ from the definition by many points. Sums
            are taken class by class with fused multiplication and addition, which gives the recorded outputs on every
            machine. Principal components are the authors' randomised ones.

    Returns:
        Score in [-100, 100]. Details: samples, dimensions, components, classes, samples_left_out.

    Raises:
        InvalidEvidence: wrong shapes, NaN.
        CannotBeComputed: one class only, or as many classes as samples, or too few samples with a correlation.
    """
    author = check_compat(compat)
    features = check_features(features, convert=False)
    codes, classes = check_labels(labels, length=features.shape[0])
    dimensions = int(features.shape[1])
    warnings: list[str] = []
    drawn: slice | np.ndarray = slice(None)
    if samples is not None:
        check_number("samples", samples, minimum=2, whole=True)
        if len(codes) > samples:
            warnings.append(f"{samples:,} of {len(codes):,} samples were compared, drawn class by class")
            drawn = sample_indices(codes, max_samples=samples)
    features, codes = working_rows(features, drawn), codes[drawn]
    if components is not None:
        check_number("components", components, minimum=1, whole=True)
        features = _author_projection(features, components) if author else project(features, components)
    rows, kept = _unit_rows(features)
    codes = codes[kept]
    if len(np.unique(codes)) in (0, 1, len(codes)):
        raise CannotBeComputed("some pairs of samples must share a class and some must not; here all pairs are alike")
    distances = author_label_distances(len(classes)) if author else 1.0 - np.eye(len(classes))
    values, kinds = np.unique(distances, return_inverse=True)
    kinds = kinds.reshape(len(classes), -1).astype(np.uint8 if len(values) < 256 else np.int64)
    correlation = spearman(values, *rank_sums(rows, codes, kinds))
    left_out = int(np.sum(~kept))
    if left_out:
        warnings.append(f"left out: {left_out} samples have one value in all dimensions, and so no correlation")
    return Score(
        100 * correlation,
        tuple(warnings),
        {
            "samples": int(features.shape[0]),
            "dimensions": dimensions,
            "components": int(features.shape[1]),
            "classes": len(classes),
            "samples_left_out": left_out,
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


def author_label_distances(classes: int) -> np.ndarray:
    """(C, C) ``1 - corr`` of one-hot rows as NumPy computes it, rounding included: about 0 or about 1 + 1/(C - 1).

    The order of a sum and the width of its steps decide the last bit, and with it the ties. Here each entry is a sum
    over the classes in order, every product and addition rounded once (fused), whatever the processor.
    """
    high, low = 1 - 1 / classes, -1 / classes
    # Most entries share their partial sum with many others, so each different one is carried along once.
    sums, place = np.zeros(1), np.zeros((classes, classes), dtype=np.int64)
    for k in range(classes):
        so_far = sums[place[k]]
        mixed, place_of_mixed = np.unique(_fused_add(so_far, high, low), return_inverse=True)
        place[k] = place[:, k] = len(sums) + place_of_mixed
        place[k, k] = len(sums) + len(mixed)
        sums = np.concatenate([_fused_add(sums, low, low), mixed, _fused_add(so_far[k : k + 1], high, high)])
    total = sums[place] * (1 / (classes - 1))
    deviations = np.sqrt(np.diag(total))
    total /= deviations[:, None]
    total /= deviations[None, :]
    return np.asarray(1 - np.clip(total, -1, 1))


def _fused_add(total: np.ndarray, left: float, right: float) -> np.ndarray:
    """``total + left * right`` rounded once; exact remainders of the product and of the sum are carried along."""
    product = left * right
    lost = float(Fraction(left) * Fraction(right) - Fraction(product))
    added = total + product
    back = added - total
    return np.asarray(added + ((total - (added - back)) + (product - back) + lost))


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
    """Distances of rows start..stop to rows start..N in whole steps, as a NumPy matrix.

    How a product is rounded depends on the processor and on the block that it stands in. Whole steps do not, so that
    pairs which are equally far apart tie everywhere.
    """
    xp = array_namespace(rows)
    block: np.ndarray = to_numpy(rows[start:stop, :] @ xp.matrix_transpose(rows[start:, :]))
    np.subtract(1, block, out=block)
    block *= 1 / STEP
    np.rint(block, out=block)
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


METRIC = Metric(
    name="parc",
    title="PARC",
    required_evidence=frozenset({"features", "labels"}),
    range=(-100.0, 100.0),
    unit="percent",
    measures="Whether pairs of images of one class are closer in feature space than pairs of two.",
    formula="100 · Spearman over pairs of (1 - corr(x_i, x_j), 1 - corr(y_i, y_j))",
    interpretation="0 is chance. Even perfect features stay below 100 with many classes, where few pairs share one.",
    caveats="Looks at all pairs alike, so with many classes it hardly sees the few that matter.",
    cost="O(N² D + N² log N), N at most 10,000 unless asked otherwise; the first part again for each 16 million pairs, "
    "so that memory stays O(N D)",
    cpu_only="ranking (NumPy)",
    citation="Bolya, Mittapalli, Hoffman, Scalable Diverse Model Selection for Accessible Transfer Learning, "
    "NeurIPS 2021",
    function=parc,
    # An average over pairs, so that a part of this size is of the same kind as the whole.
    resampling=Subsampled(largest=1000),
    version=3,
    parameters={
        "components": Parameter(None, "principal components to keep; none: all", "integer", 1, optional=True),
        "samples": Parameter(
            MOST_SAMPLES, "samples whose pairs are compared, at most; none: all", "integer", 2, optional=True
        ),
        "compat": COMPAT,
    },
)
