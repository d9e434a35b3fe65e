"""The linear probe (a baseline): what the features are worth with no fine-tuning, by cross-validation."""

import numpy as np

from estimators.arrays.validation import Array, check_features, check_labels, check_number, to_numpy
from estimators.metric import Linear, Metric, Parameter
from estimators.score import CannotBeComputed, Score


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
    return score_and_shares(features=features, labels=labels, folds=folds, penalty=penalty, fold_seed=fold_seed)[0]


def score_and_shares(
    *, features: Array, labels: Array, folds: int = 3, penalty: float = 1.0, fold_seed: int = 0
) -> tuple[Score, np.ndarray]:
    """The Score of `linear_probe`, and (N,) what each sample adds to it, with the classifiers held fixed."""
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
    samples, dimensions = features.shape
    details = {"samples": samples, "dimensions": dimensions, "classes": len(classes)}
    return Score(float(np.mean(correct[kept])), warnings, details), correct / np.sum(kept)


METRIC = Metric(
    name="linear_probe",
    title="Linear probe",
    required_evidence=frozenset({"features", "labels"}),
    range=(0.0, 1.0),
    unit="accuracy",
    measures="How well a linear classifier on the frozen features does on images it has not seen (a baseline).",
    formula="accuracy of logistic regression on standardised features, stratified 3-fold cross-validation",
    interpretation="An accuracy: the share of the largest class is what guessing gives.",
    caveats="Measures the features as they are, so it favours models that need no fine-tuning; slow.",
    cost="O(folds · iterations · N D C)",
    cpu_only="everything (scikit-learn)",
    citation="Alain and Bengio, Understanding intermediate layers using linear classifier probes, 2016",
    function=linear_probe,
    resampling=Linear(score_and_shares),
    parameters={
        "folds": Parameter(3, "number of folds", "integer", 2),
        "penalty": Parameter(1.0, "strength of the squared penalty on the weights", exclusive=True),
        "fold_seed": Parameter(0, "seed of the assignment to folds", "integer"),
    },
)
