"""Chances to be the best when fine-tuned, calibrated on targets where the best is known.

A recommendation's score says which model is ahead, not how surely. One number turns it into chances: among M models the
chance of one is proportional to exp(b sqrt(M) score), b having the highest likelihood on earlier targets. Scores are
mean places between 0 and 1, so that a lead of a tenth means more among many models than among few; with the root one b
fits pools of 2 to 12 models alike (docs/truth.md).
Guo et al., "On Calibration of Modern Neural Networks", 2017; Luce's choice model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# With fewer targets the chances would be made up.
FEWEST_TARGETS = 8
LARGEST_SHARPNESS = 50.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """Attributes:
    sharpness: the inverse temperature b; 0 means that the scores say nothing.
    targets: on how many it was fitted.
    most_models: of a target that it was fitted on. Nothing supports chances among more.
    """

    sharpness: float
    targets: int
    most_models: int


@dataclass(frozen=True, slots=True)
class Bin:
    """Stated chances between two limits, and how often they came true."""

    low: float
    high: float
    count: int
    stated: float
    observed: float


# Fitted by `benchmarks.study.chances`, for advice that rests on these rungs of evidence and a service that has not been
# told enough of its own targets.
PUBLISHED: Mapping[frozenset[str], Calibration] = {
    frozenset({"known", "metrics"}): Calibration(sharpness=3.74, targets=16, most_models=12)
}


def chances(scores: Any, calibration: Calibration) -> NDArray[np.float64]:
    """(M,) the chance of each model to be the best, summing to 1."""
    values = np.asarray(scores, dtype=np.float64)
    weights = np.exp(calibration.sharpness * np.sqrt(values.size) * (values - values.max()))
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares


def calibrate(targets: Sequence[tuple[Any, Any]]) -> Calibration | None:
    """Fit on (scores, accuracies) of earlier targets; None if they are fewer than ``FEWEST_TARGETS``.

    Where several models share the highest accuracy, each is the best in equal parts.
    """
    from scipy.optimize import minimize_scalar

    pairs = [
        (scores, _best(accuracies))
        for scores, accuracies in (
            (np.asarray(s, dtype=np.float64), np.asarray(a, dtype=np.float64)) for s, a in targets
        )
        if scores.size >= 2
    ]
    if len(pairs) < FEWEST_TARGETS:
        return None

    def cost(sharpness: float) -> float:
        total = 0.0
        for scores, best in pairs:
            logits = sharpness * np.sqrt(scores.size) * (scores - scores.max())
            total -= float(best @ (logits - np.log(np.exp(logits).sum())))
        return total

    found = minimize_scalar(cost, bounds=(0.0, LARGEST_SHARPNESS), method="bounded", options={"xatol": 1e-4})
    return Calibration(float(found.x), len(pairs), max(scores.size for scores, _ in pairs))


def reliability(stated: Any, came_true: Any, *, bins: int = 5) -> list[Bin]:
    """Stated chances against how often they came true, in ``bins`` of equal width; empty ones are left out.

    Args:
        stated: (n,) chances.
        came_true: (n,) from 0 to 1.
    """
    chance, truth = np.asarray(stated, dtype=np.float64), np.asarray(came_true, dtype=np.float64)
    place = np.minimum((chance * bins).astype(int), bins - 1)
    return [
        Bin(
            low=index / bins,
            high=(index + 1) / bins,
            count=int(inside.sum()),
            stated=float(chance[inside].mean()),
            observed=float(truth[inside].mean()),
        )
        for index in range(bins)
        if (inside := place == index).any()
    ]


def _best(accuracies: NDArray[np.float64]) -> NDArray[np.float64]:
    ties = accuracies == accuracies.max()
    shares: NDArray[np.float64] = ties / ties.sum()
    return shares
