"""GBC: how little the classes overlap, each taken for a Gaussian."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from estimators.arrays.classes import by_class
from estimators.arrays.linalg import project
from estimators.arrays.validation import Array, check_choice, check_compat, check_features, check_number
from estimators.metric import COMPAT, Evidence, Metric, Parameter, Subsampled
from estimators.score import CannotBeComputed, Score

SMALLEST_VARIANCE = 1e-4
COMPONENTS = 64


def gbc(
    *,
    features: Array,
    labels: Array,
    covariance: str = "spherical",
    components: int | None = COMPONENTS,
    compat: str | None = None,
) -> Score:
    """Gaussian Bhattacharyya coefficient: ``-Σ_{a≠b} exp(-D_ab)`` over ordered pairs of classes, at most 0.

        D_ab = Σ_d (μ_ad - μ_bd)² / 8 v_d + 1/2 Σ_d (ln v_d - 1/2 ln v_ad - 1/2 ln v_bd),   v = (v_a + v_b)/2

    with the class variances v_a (population, at least 1e-4). ``spherical`` replaces v_a by its mean over the
    dimensions and, as the authors' program does, counts the logarithms once and not D times.
    Pándy et al., "Transferability Estimation using Bhattacharyya Class Separability", CVPR 2022, eq. 4.

    Args:
        features: (N, D).
        labels: (N,) integers or strings.
        covariance: ``"spherical"`` or ``"diagonal"``.
        components: project onto this many principal components first, if D is larger; None to keep the features.
        compat: ``"author"`` gives the same number; the authors' program casts the projection to float32.

    Returns:
        Score without unit. Details: samples, dimensions, components, classes.

    Raises:
        InvalidEvidence: wrong shapes, NaN.
        CannotBeComputed: there is one class.
    """
    check_compat(compat)
    check_choice("covariance", covariance, ("spherical", "diagonal"))
    features = check_features(features)
    xp = array_namespace(features)
    samples, dimensions = (int(n) for n in features.shape)
    if components is not None:
        check_number("components", components, minimum=1, whole=True)
        if components < dimensions:
            features = project(features, components)
    grouped = by_class(features, labels)
    classes = len(grouped.classes)
    if classes < 2:
        raise CannotBeComputed("the overlap of classes needs at least two; there is one")
    means = grouped.means()
    variances = xp.stack([xp.mean((group - xp.mean(group, axis=0)) ** 2, axis=0) for group in grouped.groups()])
    variances = xp.clip(variances, min=SMALLEST_VARIANCE)
    if covariance == "spherical":
        variances = xp.mean(variances, axis=1, keepdims=True)
    total = 0.0
    for a in range(classes - 1):
        mean = (variances[a, :] + variances[a + 1 :, :]) / 2
        distance = xp.sum((means[a, :] - means[a + 1 :, :]) ** 2 / (8 * mean), axis=1) + 0.5 * xp.sum(
            xp.log(mean) - 0.5 * xp.log(variances[a, :]) - 0.5 * xp.log(variances[a + 1 :, :]), axis=1
        )
        total += 2 * float(xp.sum(xp.exp(-distance)))
    single = int(np.sum(grouped.counts == 1))
    warnings = (
        (f"one sample: {single} classes have one sample, whose variance is set to {SMALLEST_VARIANCE:g}",)
        if single
        else ()
    )
    return Score(
        -total + 0.0,
        warnings,
        {
            "samples": samples,
            "dimensions": dimensions,
            "components": int(features.shape[1]),
            "classes": classes,
        },
    )


def projected(evidence: Evidence, parameters: Mapping[str, Any]) -> Evidence:
    """The evidence with its features in their principal components, which parts of the samples then share."""
    features = check_features(evidence.features)
    components = parameters.get("components", COMPONENTS)
    if components is not None and components < features.shape[1]:
        features = project(features, components)
    return replace(evidence, features=features)


METRIC = Metric(
    name="gbc",
    title="GBC",
    required_evidence=frozenset({"features", "labels"}),
    range=(None, 0.0),
    unit="",
    measures="How much the classes overlap, each seen as a Gaussian.",
    formula="-Σ_{a≠b} exp(-D_B(a, b)), D_B the Bhattacharyya distance",
    interpretation="0 means no overlap; -C (C - 1) that all classes coincide.",
    caveats="Depends on the scale of the features through the smallest variance of 1e-4; a few close classes decide "
    "it, because the others' terms vanish.",
    cost="O(N D min(N, D) + min(N, D)³) to project, O(N d + C² d) after",
    citation="Pándy et al., Transferability Estimation using Bhattacharyya Class Separability, CVPR 2022",
    function=gbc,
    resampling=Subsampled(prepare=projected),
    parameters={
        "covariance": Parameter("spherical", "shape of a class", "choice", choices=("spherical", "diagonal")),
        "components": Parameter(COMPONENTS, "principal components to keep; none: all", "integer", 1, optional=True),
        "compat": COMPAT,
    },
)
