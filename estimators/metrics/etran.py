"""ETran: the energy of the features, joined over a pool of models with the LDA posterior."""

from collections.abc import Sequence

import numpy as np
from array_api_compat import array_namespace

from estimators.arrays.validation import Array, check_choice, check_compat, check_features, check_number
from estimators.metrics.sfda import lda
from estimators.score import Score

ENERGY_WEIGHT = 0.15
LDA_WEIGHT = 0.85


def energy(*, features: Array, percent: float = 0.5, tail: str = "lowest", compat: str | None = None) -> Score:
    """Mean over a tail of the samples of the (negative free) energy ``E_i = ln Σ_d exp(x_id)``.

    Gholami et al., "ETran: Energy-Based Transferability Estimation", ICCV 2023, sec. 3.2.

    Args:
        features: (N, D).
        percent: share of the samples in the tail, in steps of 0.1 %; at least one sample is taken.
        tail: ``"lowest"`` or ``"highest"`` energies.
        compat: ``"author"`` gives the same number; the authors' program has no value when the share is less than a
            sample.

    Returns:
        Score in nats. Details: samples, dimensions, tail_samples, mean (over all samples).

    Raises:
        InvalidEvidence: wrong shapes, NaN.
    """
    check_compat(compat)
    check_number("percent", percent, minimum=0, maximum=100, exclusive=True)
    check_choice("tail", tail, ("lowest", "highest"))
    features = check_features(features)
    xp = array_namespace(features)
    energies = xp.sort(sample_energies(features))
    samples = int(features.shape[0])
    share = tail_samples(samples, percent)
    chosen = energies[:share] if tail == "lowest" else energies[samples - share :]
    return Score(
        float(xp.mean(chosen)),
        (),
        {
            "samples": samples,
            "dimensions": int(features.shape[1]),
            "tail_samples": share,
            "mean": float(xp.mean(energies)),
        },
    )


def sample_energies(features: Array) -> Array:
    """(N,) ``E_i = ln Σ_d exp(x_id)``."""
    xp = array_namespace(features)
    highest = xp.max(features, axis=1, keepdims=True)
    energies: Array = highest[:, 0] + xp.log(xp.sum(xp.exp(features - highest), axis=1))
    return energies


def tail_samples(samples: int, percent: float) -> int:
    """How many samples are in a tail of ``percent``."""
    return max(1, int(10 * percent) * samples // 1000)


def etran(*, features: Array, labels: Array, compat: str | None = None) -> Score:
    """The LDA posterior of one model, with the energy beside it, ready for `combine_etran` over a pool.

    Args:
        features: (N, D).
        labels: (N,) integers or strings.
        compat: as in `lda`.

    Returns:
        Score whose value is the LDA posterior. Details: those of `lda`, and energy.

    Raises:
        InvalidEvidence, CannotBeComputed: as in `lda`.
    """
    score = lda(features=features, labels=labels, compat=compat)
    return Score(score.value, score.warnings, {**score.details, "energy": energy(features=features).value})


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
