"""Energy: how strongly the features answer to the images that they answer least to."""

import numpy as np
from array_api_compat import array_namespace

from estimators.arrays.validation import (
    Array,
    check_choice,
    check_compat,
    check_features,
    check_number,
    row_blocks,
    to_numpy,
    working_rows,
)
from estimators.metric import COMPAT, Metric, Parameter, Reweighted
from estimators.score import Score


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
    features = check_features(features, convert=False)
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
    """(N,) ``E_i = ln Σ_d exp(x_id)`` of checked features."""
    xp = array_namespace(features)
    energies = []
    for part in row_blocks(features):
        rows = working_rows(features, part)
        highest = xp.max(rows, axis=1)
        energies.append(highest + xp.log(xp.sum(xp.exp(rows - highest[:, None]), axis=1)))
    return xp.concat(energies)


def tail_samples(samples: int, percent: float) -> int:
    """How many samples are in a tail of ``percent``."""
    return max(1, int(10 * percent) * samples // 1000)


def score_and_values(
    *, features: Array, weights: np.ndarray, percent: float = 0.5, tail: str = "lowest", compat: str | None = None
) -> tuple[Score, np.ndarray]:
    """The Score of `energy`, and (R,) its values with each sample counted as often as its weight (R, N)."""
    score = energy(features=features, percent=percent, tail=tail, compat=compat)
    energies = to_numpy(sample_energies(check_features(features, convert=False)))
    order = np.argsort(energies if tail == "lowest" else -energies)
    share = tail_samples(len(energies), percent)
    values = []
    for drawn in weights:
        drawn = drawn[order]
        # How many of a sample's copies still fit into the tail, once those of the samples before it are in.
        taken = np.clip(share - (np.cumsum(drawn) - drawn), 0, drawn)
        values.append(taken @ energies[order] / share)
    return score, np.asarray(values)


METRIC = Metric(
    name="energy",
    title="Energy",
    required_evidence=frozenset({"features"}),
    range=(None, None),
    unit="nats",
    measures="How strongly the features answer to the images they answer least to.",
    formula="mean over the lowest 0.5 % of the images of ln Σ_d exp(x_id)",
    interpretation="Only differences between models of one width mean anything. One half of ETran.",
    caveats="Knows nothing of the labels; follows the scale and the number of dimensions.",
    cost="O(N D)",
    citation="Gholami et al., ETran: Energy-Based Transferability Estimation, ICCV 2023",
    function=energy,
    resampling=Reweighted(score_and_values),
    parameters={
        "percent": Parameter(0.5, "share of the images in the tail", exclusive=True, maximum=100.0),
        "tail": Parameter("lowest", "which tail", "choice", choices=("lowest", "highest")),
        "compat": COMPAT,
    },
)
