"""NCTI: how close the features are to neural collapse, in three parts that a pool of models brings together."""

import math
from collections.abc import Sequence

import numpy as np
from array_api_compat import array_namespace

from estimators.arrays.linalg import principal_axes
from estimators.arrays.validation import Array, check_compat, check_features, check_labels, to_numpy
from estimators.metrics.etran import min_max
from estimators.score import CannotBeComputed, Score

COMPONENTS = 64
SMALLEST_SHRINKAGE = 1e-10


def ncti(*, features: Array, labels: Array, compat: str | None = None) -> Score:
    """The three parts of the neural collapse transferability index of one model, ready for `combine_ncti`.

    Features are projected onto 64 principal components (fewer if N or D is smaller), and a linear discriminant with
    shrinkage exp(-sum of the first 32 variances) is fitted. The parts are the nuclear norm of the centred discriminant
    projection (feature spread, higher is better), the mean posterior of the true class (higher is better), and ln of
    the sum over classes of the nuclear norms of the posteriors of their samples (compactness, lower is better).
    Wang et al., "How Far Pre-trained Models Are from Neural Collapse on the Target Dataset Informs their
    Transferability", ICCV 2023, sec. 3. The discriminant is scikit-learn's, on the CPU.

    Args:
        features: (N, D).
        labels: (N,) integers or strings.
        compat: ``"author"`` gives the same parts where the authors' program has any (N and D at least 64).

    Returns:
        Score whose value is the mean posterior. Details: samples, dimensions, classes, shrinkage, spread, confidence,
        compactness.

    Raises:
        InvalidEvidence: wrong shapes, NaN.
        CannotBeComputed: fewer than two classes, no more samples than classes, or all samples alike.
    """
    check_compat(compat)
    features = check_features(features, minimum_samples=2)
    codes, classes = check_labels(labels, length=features.shape[0])
    if not 2 <= len(classes) < features.shape[0]:
        raise CannotBeComputed("a discriminant needs at least two classes and more samples than classes")
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from threadpoolctl import threadpool_limits

    xp = array_namespace(features)
    centred = features - xp.mean(features, axis=0)
    variances, axes = principal_axes(centred, COMPONENTS)
    projected = to_numpy(centred @ axes)
    shrinkage = math.exp(-float(xp.sum(variances[:32])))
    if shrinkage <= SMALLEST_SHRINKAGE:
        discriminant = LinearDiscriminantAnalysis(solver="svd")
    else:
        discriminant = LinearDiscriminantAnalysis(solver="eigen", shrinkage=shrinkage)
    # Many small decompositions lose more by waking threads than they gain.
    with threadpool_limits(1):
        spread = discriminant.fit_transform(projected, codes)
        posteriors = discriminant.predict_proba(projected)
        norms = [np.linalg.norm(posteriors[codes == c], ord="nuc") for c in range(len(classes))]
    confidence = float(np.mean(posteriors[np.arange(len(codes)), codes]))
    return Score(
        confidence,
        (),
        {
            "samples": int(features.shape[0]),
            "dimensions": int(features.shape[1]),
            "classes": len(classes),
            "shrinkage": shrinkage,
            "spread": float(np.linalg.norm(spread - spread.mean(axis=0), ord="nuc")),
            "confidence": confidence,
            "compactness": math.log(float(np.sum(norms))),
        },
    )


def combine_ncti(scores: Sequence[Score]) -> list[float]:
    """``minmax(confidence) + minmax(spread) - minmax(compactness)`` over the pool."""
    confidence = min_max([score.value for score in scores])
    spread, compactness = (min_max([score.details[part] for score in scores]) for part in ("spread", "compactness"))
    combined: list[float] = (confidence + spread - compactness).tolist()
    return combined
