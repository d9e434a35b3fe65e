"""The k-th nearest neighbour in the Chebyshev distance, exactly, where trees do not help: in hundreds of dimensions."""

from collections.abc import Iterator

import numpy as np
from array_api_compat import array_namespace, is_numpy_array

from estimators.arrays.validation import Array

BLOCK_NUMBERS = 1_000_000
# Below this many coordinate differences, the plain way is as fast.
SMALL_WORK = 500_000_000
# Two steps short of the largest 16-bit integer, so that a distance and two steps of rounding still fit.
GRID = 32_765
BLOCK_ROWS = 128
# With so few candidates a row, looking at them one by one costs less than another look at all pairs.
FEW_CANDIDATES = 100


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
    # A copy, for a view would keep all the distances.
    return np.partition(distances, neighbors, axis=1)[:, neighbors].copy()


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
    Rows are taken in chunks, so that memory stays O(n D).
    """
    n, dimensions = rows.shape
    low, width = rows.min(), np.ptp(rows) / GRID
    grid = np.empty(rows.shape, dtype=np.int16)
    for block in _blocks(0, n):
        grid[block] = np.rint((rows[block] - low) / width)
    grid = np.take(grid, np.argsort(-rows.var(axis=0), kind="stable"), axis=1)
    nearest, size = np.empty(n), max(dimensions, BLOCK_ROWS)
    for start in range(0, n, size):
        chunk = slice(start, min(start + size, n))
        coarse, bounds = _coarse(rows, grid, chunk, neighbors, width)
        for block in _blocks(chunk.start, chunk.stop):
            own = _shifted(block, start)
            here, there = np.nonzero(coarse[own] <= bounds[own, None])
            here += block.start
            steps = _distances(grid, here, there)
            near = steps <= _kth(here, steps, neighbors)[here - block.start] + 2
            here, there = here[near], there[near]
            nearest[block] = _kth(here, _distances(rows, here, there), neighbors)
    return nearest


def _coarse(
    rows: np.ndarray, grid: np.ndarray, chunk: slice, neighbors: int, width: float
) -> tuple[np.ndarray, np.ndarray]:
    """(m, n) steps between the rows of a chunk and all rows over some dimensions of ``grid`` (n, D), which come widest
    first, and (m,) a bound that those of the k nearest keep; no more dimensions than leave few pairs within it."""
    n, dimensions = grid.shape
    coarse = np.zeros((chunk.stop - chunk.start, n), dtype=np.int16)
    bounds, first = np.empty(len(coarse)), 0
    for share in (8, 4, 2, 1):
        last = -(-dimensions // share)
        _widen(coarse, np.ascontiguousarray(grid[:, first:last].T), chunk)
        first, candidates = last, 0
        for block in _blocks(chunk.start, chunk.stop):
            own = _shifted(block, chunk.start)
            part = coarse[own]
            # The exact distances of some k others bound that of the k-th nearest from above.
            near = np.argpartition(part, neighbors, axis=1)[:, : neighbors + 1]
            here = np.repeat(np.arange(block.start, block.stop), neighbors + 1)
            bound = np.max(_distances(rows, here, near.ravel()).reshape(len(part), -1), axis=1)
            bounds[own] = np.floor(bound / width + 1.5)
            candidates += int(np.count_nonzero(part <= bounds[own, None]))
        if candidates <= FEW_CANDIDATES * len(coarse):
            break
    return coarse, bounds


def _widen(coarse: np.ndarray, grid: np.ndarray, chunk: slice) -> None:
    """Raise the (m, n) distances to those over the further dimensions ``grid`` (d, n) too; within the chunk half of
    them are mirrored."""
    for block in _blocks(chunk.start, chunk.stop):
        own = coarse[_shifted(block, chunk.start)]
        for columns in (slice(0, chunk.start), slice(block.start, grid.shape[1])):
            part = own[:, columns].copy()
            difference = np.empty_like(part)
            for coordinates in grid:
                np.subtract(coordinates[block, None], coordinates[None, columns], out=difference)
                np.abs(difference, out=difference)
                np.maximum(part, difference, out=part)
            own[:, columns] = part
        coarse[block.stop - chunk.start :, block] = own[:, block.stop : chunk.stop].T


def _blocks(start: int, stop: int) -> Iterator[slice]:
    for first in range(start, stop, BLOCK_ROWS):
        yield slice(first, min(first + BLOCK_ROWS, stop))


def _shifted(part: slice, start: int) -> slice:
    return slice(part.start - start, part.stop - start)


def _distances(rows: np.ndarray, here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """(pairs,) Chebyshev distances of rows ``here`` to rows ``there``."""
    parts = []
    for start in range(0, len(here), BLOCK_ROWS):
        difference = rows[here[start : start + BLOCK_ROWS]]
        difference -= rows[there[start : start + BLOCK_ROWS]]
        parts.append(np.max(np.abs(difference, out=difference), axis=1))
    return np.concatenate(parts)


def _kth(here: np.ndarray, distances: np.ndarray, neighbors: int) -> np.ndarray:
    """The ``neighbors``-th nearest distance of each row, itself at zero not counted, from pairs sorted by row."""
    starts = np.flatnonzero(np.diff(here, prepend=-1))
    return distances[np.lexsort((distances, here))][starts + neighbors]
