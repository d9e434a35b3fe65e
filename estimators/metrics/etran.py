"""ETran: the energy of the features, joined over a pool of models with the LDA posterior."""

from collections.abc import Sequence

import numpy as np

from estimators.arrays.validation import Array
from estimators.metric import COMPAT, Evidence, Linear, Metric, Numbers
from estimators.metrics import energy, lda
from estimators.score import Score

ENERGY_WEIGHT = 0.15
LDA_WEIGHT = 0.85


def etran(*, features: Array, labels: Array, compat: str | None = None) -> Score:
    """The LDA posterior of one model, along with its energy, ready for `combine_etran` over a pool.

    Args:
        features: (N, D).
        labels: (N,) integers or strings.
        compat: as in `lda`.

    Returns:
        Score whose value is the LDA posterior. Details: those of `lda`, and energy.

    Raises:
        InvalidEvidence, CannotBeComputed: as in `lda`.
    """
    return score_and_shares(features=features, labels=labels, compat=compat)[0]


def score_and_shares(*, features: Array, labels: Array, compat: str | None = None) -> tuple[Score, Array]:
    """The Score of `etran`, and (N,) what each sample adds to it, with the fit held fixed."""
    score, shares = lda.score_and_shares(features=features, labels=labels, compat=compat)
    details = {**score.details, "energy": energy.energy(features=features).value}
    return Score(score.value, score.warnings, details), shares


def drawn_parts(evidence: Evidence, weights: Numbers) -> dict[str, Numbers]:
    """(R,) the energy with each sample counted as often as its weight (R, N)."""
    return {"energy": energy.score_and_values(features=evidence.features, weights=weights)[1]}


def combine_etran(scores: Sequence[Score]) -> list[float]:
    """``0.15 minmax(energy) + 0.85 minmax(lda)`` over the pool; a term that all models share is 0 for each."""
    energies = min_max([score.details["energy"] for score in scores])
    posteriors = min_max([score.value for score in scores])
    combined: list[float] = (ENERGY_WEIGHT * energies + LDA_WEIGHT * posteriors).tolist()
    return combined


def min_max(values: Sequence[float]) -> np.ndarray:
    """Values moved and scaled to [0, 1]; zeros if all are equal."""
    array = np.asarray(values, dtype=np.float64)
    width = np.ptp(array) if array.size else 0.0
    return (array - array.min()) / width if width > 0 else np.zeros_like(array)


METRIC = Metric(
    name="etran",
    title="ETran",
    required_evidence=frozenset({"features", "labels"}),
    range=(0.0, 1.0),
    unit="share of the pool's span",
    measures="The LDA posterior and a little of the energy, each placed between the pool's worst and best.",
    formula="0.15 minmax(energy) + 0.85 minmax(LDA posterior) over the pool",
    interpretation="1 is best in both; adding a model to the pool changes the others' scores.",
    caveats="Means nothing for one model, and what its parts fail at.",
    cost="O(N D² + D³ + N D C)",
    citation="Gholami et al., ETran: Energy-Based Transferability Estimation, ICCV 2023",
    function=etran,
    resampling=Linear(score_and_shares, parts=drawn_parts),
    combine=combine_etran,
    pool_parts=("energy",),
    parameters={"compat": COMPAT},
)
