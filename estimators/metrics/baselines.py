"""Baselines: how well the features classify the target with no fine-tuning at all, by cross-validation."""

import numpy as np

from estimators.arrays.validation import Array, check_features, check_labels, check_number, to_numpy
from estimators.score import CannotBeComputed, Score


def nearest_neighbor(*, features: Array, labels: Array, neighbors: int = 1) -> Score:
    """Leave-one-out accuracy of the nearest other samples' majority label (Euclidean distance; ties: the nearest).

    Cover and Hart, "Nearest neighbor pattern classification", 1967. Runs on the CPU in scikit-learn.

    Args:
        features: (N, D).
        labels: (N,) integers or strings.
        neighbors: how many vote.

    Returns:
        Score in [0, 1]. Details: samples, dimensions, classes.

    Raises:
        InvalidEvidence: wrong shapes, NaN.
        CannotBeComputed: no more samples than neighbours.
    """
    return neighbor_score_and_shares(features=features, labels=labels, neighbors=neighbors)[0]


def neighbor_score_and_shares(*, features: Array, labels: Array, neighbors: int = 1) -> tuple[Score, np.ndarray]:
    """The Score of `nearest_neighbor`, and (N,) what each sample adds to it."""
    check_number("neighbors", neighbors, minimum=1, whole=True)
    features = to_numpy(check_features(features))
    codes, classes = check_labels(labels, length=features.shape[0])
    if features.shape[0] <= neighbors:
        raise CannotBeComputed(f"{neighbors} neighbours need more than {features.shape[0]} samples")
    from sklearn.neighbors import NearestNeighbors

    found = NearestNeighbors(n_neighbors=neighbors).fit(features).kneighbors(return_distance=False)
    votes = codes[found]
    same = votes[:, :, None] == votes[:, None, :]
    # argmax takes the first, and so the nearest, of equally frequent labels.
    winners = votes[np.arange(len(votes)), np.argmax(same.sum(axis=2), axis=1)]
    return _accuracy(winners == codes, np.ones(len(codes), dtype=bool), features, classes)


def linear_probe(*, features: Array, labels: Array, folds: int = 3, penalty: float = 1.0, fold_seed: int = 0) -> Score:
    """Cross-validated accuracy of logistic regression on standardised features.

    Stratified folds; classes with fewer samples than folds are left out. Alain and Bengio, "Understanding
    intermediate layers using linear classifier probes", 2016. Runs on the CPU in scikit-learn.

    Args:
        features: (N, D).
        labels: (N,) integers or strings.
        folds: number of folds.
        penalty: strength of the squared penalty on the weights, summed over the samples (scikit-learn's 1/C).
        fold_seed: of the assignment to folds.

    Returns:
        Score in [0, 1]. Details: samples, dimensions, classes.

    Raises:
        InvalidEvidence: wrong shapes, NaN.
        CannotBeComputed: fewer than two classes have as many samples as there are folds.
    """
    return probe_score_and_shares(features=features, labels=labels, folds=folds, penalty=penalty, fold_seed=fold_seed)[
        0
    ]


def probe_score_and_shares(
    *, features: Array, labels: Array, folds: int = 3, penalty: float = 1.0, fold_seed: int = 0
) -> tuple[Score, np.ndarray]:
    """The Score of `linear_probe`, and (N,) what each sample adds to it, the classifiers being what they are."""
    check_number("folds", folds, minimum=2, whole=True)
    check_number("penalty", penalty, minimum=0, exclusive=True)
    check_number("fold_seed", fold_seed, minimum=0, whole=True)
    features = to_numpy(check_features(features))
    codes, classes = check_labels(labels, length=features.shape[0])
    large = np.bincount(codes) >= folds
    if np.sum(large) < 2:
        raise CannotBeComputed(f"fewer than two classes have {folds} samples, one for each fold")
    kept = large[codes]
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # Single precision halves the time and cannot change an accuracy by more than a borderline sample.
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=1 / penalty, max_iter=200, tol=1e-3))
    split = StratifiedKFold(folds, shuffle=True, random_state=fold_seed)
    correct = np.zeros(len(codes), dtype=bool)
    correct[kept] = cross_val_predict(probe, features[kept].astype(np.float32), codes[kept], cv=split) == codes[kept]
    left_out = int(np.sum(~large))
    warnings = (f"left out: {left_out} classes have fewer than {folds} samples",) if left_out else ()
    return _accuracy(correct, kept, features, classes, warnings)


def _accuracy(
    correct: np.ndarray,
    kept: np.ndarray,
    features: np.ndarray,
    classes: tuple[object, ...],
    warnings: tuple[str, ...] = (),
) -> tuple[Score, np.ndarray]:
    shares = correct / np.sum(kept)
    samples, dimensions = features.shape
    details = {"samples": samples, "dimensions": dimensions, "classes": len(classes)}
    return Score(float(np.mean(correct[kept])), warnings, details), shares
