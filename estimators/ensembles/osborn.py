"""OSBORN's three terms, each on its own. All are differences or entropies: at least 0, and lower is better."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

from estimators.arrays.linalg import unit_rows
from estimators.arrays.transport import balanced_sample, transport
from estimators.arrays.validation import Array, check_choice, check_features, check_labels, from_numpy, to_numpy
from estimators.ensembles.otce import transported_joint
from estimators.metrics.nce import conditional_entropy, count_table
from estimators.score import CannotBeComputed, InvalidEvidence, Score

SCALES = ("none", "source", "rows")
DIRECTIONS = ("labels_given_predictions", "predictions_given_labels")

# Settings of the terms and of the selection. "paper" is the published protocol where the paper states it; "scale_free"
# is the default with a W_D that compares models whose features differ in scale.
PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "default": {
        "domain_difference": {"solver": "exact", "cost": "squared_euclidean", "weights": "uniform", "sample": 5000},
        "task_difference": {"direction": "labels_given_predictions"},
        "select": {"search": "auto", "standardize": "pool", "cohesion": "symmetric", "near_copies": "exclude"},
    },
    "scale_free": {
        "domain_difference": {
            "solver": "exact",
            "cost": "squared_euclidean",
            "weights": "uniform",
            "sample": 5000,
            "scale": "source",
        },
        "task_difference": {"direction": "labels_given_predictions"},
        "select": {"search": "auto", "standardize": "pool", "cohesion": "symmetric", "near_copies": "exclude"},
    },
    "paper": {
        "domain_difference": {"solver": "exact", "cost": "squared_euclidean", "weights": "uniform", "sample": 5000},
        "task_difference": {"direction": "predictions_given_labels"},
        "select": {"search": "greedy", "standardize": "pool", "cohesion": "symmetric", "near_copies": "allow"},
    },
}

# How many sorted predictions the pairwise pass holds at once.
BLOCK = 2_000_000


def domain_difference(
    *,
    source_features: Array,
    features: Array,
    source_labels: Array | None = None,
    labels: Array | None = None,
    solver: str = "exact",
    cost: str = "squared_euclidean",
    weights: str = "uniform",
    scale: str = "none",
    sample: int | None = 5000,
    regularization: float | None = None,
    max_iterations: int | None = None,
    projections: int = 200,
    seed: int = 0,
) -> Score:
    """OSBORN's W_D: what it costs to move the source features of a model onto its target features.

        W_D = Σ_ij π*_ij C_ij,   C_ij = |x_i - x'_j|²   (no root is taken)

    The paper calls this a 1-Wasserstein distance, yet its formula has the squared distance: ``cost="euclidean"`` is
    the reading of the words. The exact solver is what the paper's main results use, ``"frobenius"`` its tables on
    self-supervised models, ``"entropic"`` what its text calls Sinkhorn.

    Bai et al., "Building a Winning Team: Selecting Source Model Ensembles using a Submodular Transferability
    Estimation Approach", ICCV 2023, section 3 and appendix F.

    Args:
        source_features: (N, D) of a sample of what the model was trained on.
        features: (M, D) of the target images, from the same model.
        source_labels, labels: (N,) and (M,), to draw class-balanced samples and for ``weights="class_balanced"``.
        scale: ``"none"`` as published; ``"source"`` divides all features by the spread of the source sample, the root
            of its mean squared distance from its mean; ``"rows"`` gives every row length one. Either way W_D does not
            depend on the scale of the features.
        sample: at most this many of each side, drawn by ``balanced_sample`` (class-balanced where labels are given,
            else at random but the same every time); None takes all.
        solver, cost, weights, regularization, max_iterations, projections, seed: see ``transport.transport``.

    Returns:
        Score with a value at least 0 in the cost's unit; LOWER is better. Without a ``scale`` it grows with the square
        of the scale of the features, so that only models of like architecture compare well; the pool's
        standardisation does not repair that. Details: solver and its settings, samples and marginal error.

    Raises:
        InvalidEvidence: shapes that do not match, NaN. CannotBeComputed: the transport did not converge.
    """
    check_choice("scale", scale, SCALES)
    source_features, source_labels = _sample(source_features, source_labels, sample, seed, "source_")
    features, labels = _sample(features, labels, sample, seed, "")
    if scale != "none":
        source_features, features = _rescaled(source_features, features, scale)
    moved = transport(
        source_features=source_features,
        features=features,
        source_labels=source_labels,
        labels=labels,
        solver=solver,
        cost=cost,
        weights=weights,
        regularization=regularization,
        max_iterations=max_iterations,
        projections=projections,
        seed=seed,
    )
    return Score(moved.cost, moved.warnings, moved.details)


def _rescaled(source_features: Array, features: Array, scale: str) -> tuple[Array, Array]:
    source_features = check_features(source_features, name="source_features")
    features = check_features(features)
    if scale == "rows":
        return unit_rows(source_features), unit_rows(features)
    xp = array_namespace(source_features)
    spread = float(xp.sum(xp.var(source_features, axis=0))) ** 0.5
    if spread == 0:
        raise CannotBeComputed("all source samples have the same features, so that they have no spread to scale by")
    return source_features / spread, features / spread


def _sample(
    features: Array, labels: Array | None, size: int | None, seed: int, prefix: str
) -> tuple[Array, np.ndarray[Any, Any] | None]:
    checked = check_features(features, name=f"{prefix}features")
    length = checked.shape[0]
    codes = None if labels is None else check_labels(labels, length=length, name=f"{prefix}labels")[0]
    if size is None or length <= size:
        # Not the checked array: it may be a float64 copy, which would be held while the transport is solved.
        return features, codes
    chosen = balanced_sample(labels=np.zeros(length, dtype=np.int64) if codes is None else codes, size=size, seed=seed)
    rows = array_namespace(checked).take(checked, from_numpy(chosen, like=checked), axis=0)
    return rows, None if codes is None else codes[chosen]


def task_difference(*, source_labels: Array, labels: Array, direction: str = "labels_given_predictions") -> Score:
    """OSBORN's W_T: what one kind of label leaves open about the other, on the target images.

        labels_given_predictions   H(Y | Z) = -Σ_yz p(y,z) ln p(y|z)
        predictions_given_labels   H(Z | Y) = -Σ_yz p(y,z) ln p(z|y)      the paper's words

    with Z the source class that the model predicts and Y the target label. The default asks what a classifier on top
    needs: how well Z tells Y, as NCE, LEEP and OTCE do. H(Z | Y) counts it against a model that spreads one target
    class over several source classes of its own, though that loses nothing, and is 0 for a model that always
    predicts the same class.

    Bai et al., ICCV 2023, section 3.

    Args:
        source_labels: (N,) the source class predicted for each target image (argmax of the source probabilities).
        labels: (N,) target labels.
        direction: one of ``DIRECTIONS``.

    Returns:
        Score in nats, at least 0; LOWER is better. Details: direction, samples, classes, source_classes_predicted.

    Raises:
        InvalidEvidence: labels that are not one-dimensional or differ in length.
    """
    check_choice("direction", direction, DIRECTIONS)
    codes, classes = check_labels(labels)
    source_codes, source_classes = check_labels(source_labels, length=codes.shape[0], name="source_labels")
    table = count_table(codes, source_codes)
    value = conditional_entropy(table if direction == "labels_given_predictions" else table.T)
    warnings: tuple[str, ...] = ()
    if len(source_classes) == 1:
        warnings = ("constant: the model predicts one source class for every image, so the term says nothing",)
    details = {
        "direction": direction,
        "samples": int(codes.shape[0]),
        "classes": len(classes),
        "source_classes_predicted": len(source_classes),
    }
    # -0.0 reads as a negative difference.
    return Score(max(value, 0.0) + 0.0, warnings, details)


def transported_task_difference(
    *,
    source_features: Array,
    source_labels: Array,
    features: Array,
    labels: Array,
    direction: str = "labels_given_predictions",
) -> Score:
    """The other reading of W_T: the joint of true source labels and target labels that the transport plan pairs up.

    The paper weighs label pairs with π*, which couples source with target samples, though it speaks of predictions on
    target samples. Here π* is taken at its word: ``"labels_given_predictions"`` is H(Y_t | Y_s), the source label in
    the place of the prediction, and ``"predictions_given_labels"`` is H(Y_s | Y_t).

    Args:
        source_features, source_labels: (N, D), (N,) of a sample of what the model was trained on.
        features, labels: (M, D), (M,) of the target.
        direction: one of ``DIRECTIONS``.

    Returns:
        Score in nats, at least 0; LOWER is better.

    Raises:
        InvalidEvidence: shapes that do not match, NaN. CannotBeComputed: the transport did not converge.
    """
    check_choice("direction", direction, DIRECTIONS)
    moved = transport(source_features=source_features, features=features)
    joint, classes, source_classes = transported_joint(moved.plan, source_labels, labels)
    value = conditional_entropy(joint if direction == "labels_given_predictions" else joint.T)
    details = {"direction": direction, "classes": len(classes), "source_classes": len(source_classes)}
    return Score(max(value, 0.0) + 0.0, moved.warnings, moved.details | details)


def _codes(source_labels: Sequence[Array]) -> Array:
    """(M, N) codes without gaps, numbered in each row by itself, on the device of the first model's labels."""
    if len(source_labels) == 0:
        raise InvalidEvidence("source_labels must hold the predictions of at least one model")
    rows: list[np.ndarray[Any, Any]] = []
    for index, row in enumerate(source_labels):
        length = rows[0].shape[0] if rows else None
        rows.append(to_numpy(check_labels(row, length=length, name=f"source_labels[{index}]")[0]))
    stacked = np.stack(rows)
    # Pair codes go up to the product of two numbers of classes; half the width sorts twice as fast.
    stacked = stacked.astype(np.int32 if (int(stacked.max()) + 1) ** 2 < 2**31 else np.int64)
    first = source_labels[0]
    return from_numpy(stacked, like=first) if hasattr(first, "device") else stacked


def _entropies(codes: Array) -> np.ndarray[Any, Any]:
    """Entropy in nats of each row of (B, N) integer codes: runs of equal codes are counted after a sort."""
    xp = array_namespace(codes)
    rows, length = codes.shape
    ordered = xp.sort(codes, axis=1)
    starts = xp.concat(
        [xp.ones((rows, 1), dtype=xp.bool, device=device(codes)), ordered[:, 1:] != ordered[:, :-1]], axis=1
    )
    begin = xp.nonzero(xp.reshape(starts, (-1,)))[0]
    end = xp.concat([begin[1:], xp.full((1,), rows * length, dtype=begin.dtype, device=device(begin))])
    counts = to_numpy(end - begin)
    # The logarithms are few on the CPU, and in float64 on every device.
    weighted = counts * np.log(counts)
    first = np.searchsorted(to_numpy(begin), np.arange(rows) * length)
    entropies: np.ndarray[Any, Any] = math.log(length) - np.add.reduceat(weighted, first) / length
    return entropies


def prediction_entropy(*, source_labels: Sequence[Array]) -> np.ndarray[Any, Any]:
    """H(model i): (M,) entropies in nats of hard predictions. Arguments and errors as ``disagreement``."""
    entropies: np.ndarray[Any, Any] = np.maximum(_entropies(_codes(source_labels)), 0.0)
    return entropies


def disagreement(*, source_labels: Sequence[Array]) -> np.ndarray[Any, Any]:
    """OSBORN's W_C of every pair, in one pass over stored predictions: what one model's predictions leave open about
    another's.

        H(i | j) = H(i, j) - H(j),   H(i, j) from the joint frequencies of the two hard predictions on N target images

    Label spaces may differ. A pair has at most N different cells, which are counted by sorting pair codes: the
    tables of S_i x S_j cells are never built. The sorting is done on the arrays' device, in blocks.

    Entropies of counted frequencies are too low when cells are many and images few, and H(i | j) with them: with 1,000
    source classes and some hundred images, unrelated models look alike. Compare pairs on the same images only.

    Bai et al., ICCV 2023, section 3.

    Args:
        source_labels: M arrays (N,) of the predicted source class of each target image, in any label space.

    Returns:
        NumPy (M, M), entry (i, j) is H(model i | model j) in nats, at least 0; LOWER is more cohesive. The diagonal is
        0. ``cohesion="symmetric"`` in ``select`` uses ½ (H(i|j) + H(j|i)).

    Raises:
        InvalidEvidence: no models, or labels that differ in length.
    """
    codes = _codes(source_labels)
    xp = array_namespace(codes)
    models, length = codes.shape
    single = _entropies(codes)
    joint = np.diag(single)
    classes = int(xp.max(codes)) + 1
    rows = max(1, BLOCK // length)
    for i in range(models - 1):
        for start in range(i + 1, models, rows):
            stop = min(start + rows, models)
            joint[i, start:stop] = _entropies(codes[i : i + 1, :] * classes + codes[start:stop, :])
            joint[start:stop, i] = joint[i, start:stop]
    # Rounding may leave -1e-16 where one model determines the other.
    conditional: np.ndarray[Any, Any] = np.maximum(joint - single[None, :], 0.0)
    return conditional


def same_predictions(*, source_labels: Sequence[Array]) -> np.ndarray[Any, Any]:
    """(M, M) share of the target images for which two models predict the same label; only for models that share a
    label space. Arguments and errors as ``disagreement``."""
    columns = [to_numpy(row) for row in source_labels]
    length = columns[0].shape[0] if columns else 0
    for index, row in enumerate(columns):
        check_labels(row, length=length, name=f"source_labels[{index}]")
    if not columns:
        raise InvalidEvidence("source_labels must hold the predictions of at least one model")
    codes = check_labels(np.concatenate(columns), name="source_labels")[0].reshape(len(columns), length)
    return np.stack([np.mean(row == codes, axis=1) for row in codes])


def mutual_information_share(*, disagreement: Array, entropy: Array) -> np.ndarray[Any, Any]:
    """Normalised mutual information of every pair: ``1 - (H(i|j) + H(j|i)) / (H(i) + H(j))``, in [0, 1].

    1 where the predictions determine one another, whatever the labels are called (two constant models included).

    Args:
        disagreement: (M, M) H(i | j) in nats.
        entropy: (M,) H(i) in nats; NaN where it is not known gives NaN.
    """
    left = to_numpy(disagreement)
    variation = left + left.T
    total = to_numpy(entropy)[:, None] + to_numpy(entropy)[None, :]
    # 0/0 is two constant models, which determine one another; an unknown entropy stays unknown.
    share = np.divide(variation, total, out=np.where(total == 0, 0.0, np.nan), where=total > 0)
    clipped: np.ndarray[Any, Any] = np.clip(1.0 - share, 0.0, 1.0)
    return clipped
