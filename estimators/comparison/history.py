"""What earlier fine-tunings say of a model before anything is computed on the new target.

Accuracies of models on targets differ mostly by target; what is left, in units of the target's own spread, is taken for
the model's merit and shrunk towards what its metadata say: with n targets behind it, a model's own record weighs
n / (n + kappa). Without any record the metadata stand alone. This is the posterior mean of a normal model with a merit
a model and an offset a target; Robinson, "That BLUP is a Good Thing", 1991.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators.arrays.validation import check_number

# Of 0.1 to 30, the best or as good as the best by leaving one target out of five published tables.
KAPPA = 1.0
# Merit in units of a target's spread for one standard deviation of the mean metadata, where no history says better.
DEFAULT_SLOPE = 0.5
# Pulls the fitted slope to the default one, in models.
SLOPE_WEIGHT = 5.0
SMALLEST_SPREAD = 1e-6
SWEEPS = 200


@dataclass(frozen=True, slots=True)
class Prior:
    """Attributes:
    merit: (M,) in units of the spread of accuracies on a target; 0 is an average model of the pool.
    targets: (M,) how many targets each model's own record holds.
    weight: (M,) share of the record in the merit, the rest being metadata.
    slope: merit for one standard deviation of the mean metadata.
    """

    merit: NDArray[np.float64]
    targets: NDArray[np.int64]
    weight: NDArray[np.float64]
    slope: float


def prior(accuracies: Any, metadata: Any, *, kappa: float = KAPPA) -> Prior:
    """The merit of M models from accuracies on T earlier targets and from K numbers known of each.

    Args:
        accuracies: (M, T), NaN where a model was not fine-tuned on a target; T may be 0. A target counts if at least
            two models differ on it. The target that is to be predicted must not be among them.
        metadata: (M, K), higher promising more (log10 of the parameters, accuracy on the source), NaN where unknown.
        kappa: with this many targets a model's record weighs as much as its metadata.

    Raises:
        ValueError: shapes do not fit.
    """
    check_number("kappa", kappa, minimum=0, exclusive=True)
    table, known = np.asarray(accuracies, dtype=np.float64), np.asarray(metadata, dtype=np.float64)
    if table.ndim != 2 or known.ndim != 2 or table.shape[0] != known.shape[0]:
        raise ValueError(f"accuracies (M, T) and metadata (M, K) do not fit: {table.shape} and {known.shape}")
    promise = _promise(known)
    scaled = _scaled(table)
    present = ~np.isnan(scaled)
    counts = present.sum(axis=1)
    weight = counts / (counts + kappa)
    merit, slope = DEFAULT_SLOPE * promise, DEFAULT_SLOPE
    values = np.where(present, scaled, 0.0)
    for _ in range(SWEEPS if present.any() else 0):
        offset = np.where(present, values - merit[:, None], 0.0).sum(axis=0) / present.sum(axis=0)
        total = np.where(present, values - offset, 0.0).sum(axis=1)
        slope = _slope(promise, np.divide(total, counts, out=np.zeros_like(total), where=counts > 0), counts > 0)
        moved = (total + kappa * slope * promise) / (counts + kappa)
        settled = np.abs(moved - merit).max() < 1e-10
        merit = moved
        if settled:
            break
    return Prior(merit - merit.mean(), counts, weight, float(slope))


def _promise(metadata: NDArray[np.float64]) -> NDArray[np.float64]:
    """(M,) mean of the standardised columns; what is unknown counts as average."""
    if metadata.shape[1] == 0:
        return np.zeros(metadata.shape[0])
    columns = []
    for column in metadata.T:
        given = ~np.isnan(column)
        spread = column[given].std() if given.any() else 0.0
        centred = np.where(given, column - (column[given].mean() if given.any() else 0.0), 0.0)
        columns.append(centred / spread if spread > 0 else np.zeros_like(centred))
    mean: NDArray[np.float64] = np.mean(columns, axis=0)
    return mean


def _scaled(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """(M, T') accuracies in units of their spread on each target that tells models apart."""
    kept = []
    for column in table.T:
        given = column[~np.isnan(column)]
        if given.size >= 2 and given.std() > SMALLEST_SPREAD:
            kept.append(column / given.std())
    return np.stack(kept, axis=1) if kept else np.empty((table.shape[0], 0))


def _slope(promise: NDArray[np.float64], merit: NDArray[np.float64], known: NDArray[np.bool_]) -> float:
    """Least squares through zero, pulled to the default as by ``SLOPE_WEIGHT`` models of unit promise."""
    x, y = promise[known], merit[known]
    return float((x @ y + SLOPE_WEIGHT * DEFAULT_SLOPE) / (x @ x + SLOPE_WEIGHT))
