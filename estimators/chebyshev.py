"""The k-th nearest neighbour in the Chebyshev distance, exactly, where trees do not help: in hundreds of dimensions."""

import numpy as np
from array_api_compat import array_namespace, is_numpy_array

from estimators.validation import Array

BLOCK_NUMBERS = 1_000_000
# Below so many coordinate differences, the plain way takes no longer.
SMALL_WORK = 500_000_000
GRID = 32_767
BLOCK_ROWS = 128
# With so few candidates a row, looking at them exactly costs less than another look at all pairs.
FEW_CANDIDATES = 10


def permitted_threads() -> int:
    """As many threads as the linear algebra libraries of this process are allowed to use."""
    from threadpoolctl import threadpool_info

    return max((pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"), default=1)


def neighbor_distances(rows: Array, neighbors: int) -> Array:
    """(n,) Chebyshev distance of each row of (n, D) to its ``neighbors``-th nearest other row; n > ``neighbors``."""
    n, dimensions = rows.shape
    if not is_numpy_array(rows):
        return _plain(rows, neighbors)
    if n * n * dimensions > SMALL_WORK and np.ptp(rows) > 0:
        return _on_grid(rows, neighbors)
    from scipy.spatial.distance import pdist, squareform

    distances = squareform(pdist(rows, "chebyshev"), checks=False)
    # Each row is its own nearest, at distance zero, so the k-th other stands at place k.
    return np.partition(distances, neighbors, axis=1)[:, neighbors]


def _plain(rows: Array, neighbors: int) -> Array:
    xp = array_namespace(rows)
    step = max(1, BLOCK_NUMBERS // (rows.shape[0] * rows.shape[1]))
    nearest = []
    for start in range(0, rows.shape[0], step):
        block = rows[start : start + step, :]
        distances = xp.max(xp.abs(block[:, None, :] - rows[None, :, :]), axis=-1)
        nearest.append(xp.sort(distances, axis=1)[:, neighbors])
    return xp.concat(nearest)


def _on_grid(rows: np.ndarray, neighbors: int) -> np.ndarray:
    """Distances on a grid of 16-bit integers rule out nearly all pairs; the rest are computed exactly.

    With coordinates rounded to a grid of width w, a distance of Δ steps means one between (Δ - 1) w and (Δ + 1) w.
    Dimensions are taken in the order of their spread, the widest first, and no more of them than it takes.
    """
    n, dimensions = rows.shape
    low, width = rows.min(), np.ptp(rows) / GRID
    order = np.argsort(-rows.var(axis=0), kind="stable")
    grid = np.ascontiguousarray(np.round((rows[:, order] - low) / width).astype(np.int16).T)
    coarse = np.zeros((n, n), dtype=np.int16)
    candidates, first = np.ones((0, 0), dtype=bool), 0
    for share in (8, 4, 2, 1):
        last = -(-dimensions // share)
        _widen(coarse, grid[first:last])
        first = last
        # The exact distances of some k others bound that of the k-th nearest from above.
        near = np.argpartition(coarse, neighbors, axis=1)[:, : neighbors + 1]
        bound = np.max(_exact(rows, np.repeat(np.arange(n), neighbors + 1), near.ravel()).reshape(n, -1), axis=1)
        candidates = coarse <= np.floor(bound / width + 1.5)[:, None]
        if np.count_nonzero(candidates) <= (FEW_CANDIDATES + neighbors) * n:
            break
    here, there = np.nonzero(candidates)
    distances = _exact(rows, here, there)
    starts = np.searchsorted(here, np.arange(n))
    return distances[np.lexsort((distances, here))][starts + neighbors]


def _widen(coarse: np.ndarray, grid: np.ndarray) -> None:
    """Raise the (n, n) distances to those over the further dimensions ``grid`` (d, n) too; the halves are mirrored."""
    n = grid.shape[1]
    for start in range(0, n, BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, n)
        block = coarse[start:stop, start:].copy()
        difference = np.empty_like(block)
        for coordinates in grid:
            np.subtract(coordinates[start:stop, None], coordinates[None, start:], out=difference)
            np.abs(difference, out=difference)
            np.maximum(block, difference, out=block)
        coarse[start:stop, start:] = block
        coarse[start:, start:stop] = block.T


def _exact(rows: np.ndarray, here: np.ndarray, there: np.ndarray) -> np.ndarray:
    step = max(1, BLOCK_NUMBERS // rows.shape[1])
    parts = []
    for start in range(0, len(here), step):
        difference = rows[here[start : start + step]]
        difference -= rows[there[start : start + step]]
        parts.append(np.max(np.abs(difference, out=difference), axis=1))
    return np.concatenate(parts)
