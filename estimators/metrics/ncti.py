"""NCTI: how close the features are to neural collapse, in three parts that a pool of models brings together."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from estimators.arrays.linalg import principal_axes, project
from estimators.arrays.validation import Array, check_compat, check_features, check_labels, to_numpy
from estimators.metric import COMPAT, Evidence, Metric, Subsampled
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


def projected(evidence: Evidence, parameters: Mapping[str, Any]) -> Evidence:
    """The evidence with its features in their principal components, which parts of the samples then share."""
    features = check_features(evidence.features)
    if features.shape[1] > COMPONENTS:
        features = project(features, COMPONENTS)
    return replace(evidence, features=features)


METRIC = Metric(
    name="ncti",
    title="NCTI",
    required_evidence=frozenset({"features", "labels"}),
    range=(-1.0, 2.0),
    unit="sum of shares of the pool's span",
    measures="How far the features already have the shape that the last layer takes at the end of training: spread "
    "classes, confident and compact.",
    formula="minmax(mean posterior) + minmax(nuclear norm of the discriminant projection) - minmax(ln Σ_c nuclear "
    "norm of the posteriors of class c) over the pool",
    interpretation="2 is best in all parts; adding a model to the pool changes the others' scores.",
    caveats="Means nothing for one model; sees the first 64 principal components only.",
    cost="O(N D min(N, D) + min(N, D)³)",
    cpu_only="discriminant (scikit-learn)",
    citation="Wang et al., How Far Pre-trained Models Are from Neural Collapse on the Target Dataset Informs their "
    "Transferability, ICCV 2023",
    function=ncti,
    resampling=Subsampled(prepare=projected),
    combine=combine_ncti,
    pool_parts=("spread", "compactness"),
    parameters={"compat": COMPAT},
)
