"""OTCE: optimal transport pairs source with target images, and the pairs say how much one label tells of the other."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from estimators.arrays.transport import transport
from estimators.arrays.validation import Array, check_labels, to_numpy
from estimators.metrics.nce import conditional_entropy
from estimators.score import Score


def transported_joint(
    plan: Array, source_labels: Array, labels: Array
) -> tuple[np.ndarray[Any, Any], tuple[Any, ...], tuple[Any, ...]]:
    """P(y_t, y_s) = Σ of the plan's mass over the pairs with these labels: (target classes, source classes)."""
    xp = array_namespace(plan)
    codes, classes = check_labels(labels, length=plan.shape[1])
    source_codes, source_classes = check_labels(source_labels, length=plan.shape[0], name="source_labels")
    by_target = xp.stack([xp.sum(plan[:, codes == c], axis=1) for c in range(len(classes))])
    joint = np.zeros((len(classes), len(source_classes)))
    np.add.at(joint.T, source_codes, to_numpy(by_target).T)
    return joint, classes, source_classes


def otce(
    *,
    source_features: Array,
    source_labels: Array,
    features: Array,
    labels: Array,
    coefficients: Sequence[float] | None = None,
    cost: str = "squared_euclidean",
) -> Score:
    """Optimal-transport conditional entropy.

        W  = Σ_ij π*_ij |x_i - x'_j|²                 π* exact, uniform weights
        CE = H(Y_t | Y_s) under P(y_t, y_s) = Σ_{i: y_i = y_s, j: y_j = y_t} π*_ij
        F-OTCE = -CE                                  without ``coefficients``, the default
        OTCE   = λ1 W + λ2 CE + b                     with ``coefficients=(λ1, λ2, b)``

    W and CE have different units, so that a sum of the two needs coefficients; the paper fits them to fine-tuned
    accuracies on auxiliary tasks, which a ranking of new models does not have. Without them CE alone is used, as the
    authors recommend for that case. Both terms are costs: fitted λ are negative, and adding W and CE with a positive
    sign would put the worst model first.

    Tan, Li, Huang, "OTCE: A Transferability Metric for Cross-Domain Cross-Task Representations", CVPR 2021, eq. 3-8;
    Tan et al., "Transferability-Guided Cross-Domain Cross-Task Transfer Learning", 2022 (F-OTCE).

    Args:
        source_features: (N, D) of a sample of what the model was trained on.
        source_labels: (N,) the true labels of that sample.
        features: (M, D) of the target images, from the same model.
        labels: (M,) target labels.
        coefficients: (λ1, λ2, b); higher values of the result must mean better.
        cost: ``"squared_euclidean"`` or ``"euclidean"``.

    Returns:
        Score. Details: transport_cost W, conditional_entropy H(Y_t | Y_s), reverse_conditional_entropy H(Y_s | Y_t),
        coefficients, samples, source_samples, classes, source_classes. An optimal plan need not be the only one; with
        tied costs CE depends on which was found.

    Raises:
        InvalidEvidence: shapes that do not match, NaN. CannotBeComputed: the transport did not converge.
    """
    if coefficients is not None and (len(coefficients) != 3 or not np.isfinite(list(coefficients)).all()):
        raise ValueError(f"coefficients must be three numbers (λ1, λ2, b); got {coefficients!r}")
    moved = transport(source_features=source_features, features=features, cost=cost)
    joint, classes, source_classes = transported_joint(moved.plan, source_labels, labels)
    entropy = conditional_entropy(joint)
    value = -entropy
    if coefficients is not None:
        value = float(coefficients[0] * moved.cost + coefficients[1] * entropy + coefficients[2])
    return Score(
        value + 0.0,
        moved.warnings,
        {
            "transport_cost": moved.cost,
            "conditional_entropy": entropy,
            "reverse_conditional_entropy": conditional_entropy(joint.T),
            "coefficients": None if coefficients is None else [float(number) for number in coefficients],
            "samples": moved.details["samples"],
            "source_samples": moved.details["source_samples"],
            "classes": len(classes),
            "source_classes": len(source_classes),
        },
    )
