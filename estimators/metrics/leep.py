"""LEEP: how well a model's source classifier, used as it is, predicts the target labels."""

import numpy as np
from array_api_compat import array_namespace

from estimators.arrays.classes import by_class
from estimators.arrays.validation import Array, check_compat, check_labels, check_probabilities, to_numpy
from estimators.metric import COMPAT, Metric, Numbers, Reweighted
from estimators.score import Score

BLOCK_NUMBERS = 20_000_000


def expected_predictions(probabilities: Array, labels: Array) -> tuple[Array, int, int]:
    """Expected empirical prediction of each sample's own label.

        J_ys  = (1/N) Σ_{i: y_i = y} P_is          joint of target label and source class
        Q_ys  = J_ys / Σ_y J_ys                    P(y | s)
        EEP_i = Σ_s P_is Q_{y_i s}

    Source classes without any mass carry no information and are left out of the sum (0/0 otherwise).

    Args:
        probabilities: (N, S) checked probabilities.
        labels: (N,) target labels.

    Returns:
        EEP (N,) in the order of the input, the number of target classes, the number of massless source classes.
    """
    xp = array_namespace(probabilities)
    grouped = by_class(probabilities, labels)
    joint = xp.stack([xp.sum(group, axis=0) for group in grouped.groups()])
    mass = xp.sum(joint, axis=0)
    massless = mass == 0
    conditional = joint / xp.where(massless, xp.ones_like(mass), mass)
    predictions = xp.concat([group @ conditional[c, :] for c, group in enumerate(grouped.groups())])
    return grouped.restore(predictions), len(grouped.classes), int(xp.sum(xp.astype(massless, xp.int64)))


def leep(*, source_probabilities: Array, labels: Array, compat: str | None = None) -> Score:
    """Log expected empirical prediction: ``(1/N) Σ_i ln EEP_i``, at most 0.

    Nguyen et al., "LEEP: A New Measure to Evaluate Transferability of Learned Representations", ICML 2020, eq. 2.

    Args:
        source_probabilities: (N, S) softmax output of the source classifier on the target images.
        labels: (N,) target labels, integers or strings.
        compat: ``"author"`` gives the same number; the authors' program has no value where a source class is never
            predicted, which here is left out.

    Returns:
        Score in nats. Details: samples, source_classes, classes, massless_source_classes.

    Raises:
        InvalidEvidence: wrong shapes, negative numbers, rows that do not sum to one.
    """
    check_compat(compat)
    probabilities = check_probabilities(source_probabilities)
    xp = array_namespace(probabilities)
    predictions, classes, massless = expected_predictions(probabilities, labels)
    warnings = (f"massless: {massless} source classes were never predicted and are left out",) if massless else ()
    return Score(
        float(xp.mean(xp.log(predictions))),
        warnings,
        {
            "samples": int(probabilities.shape[0]),
            "source_classes": int(probabilities.shape[1]),
            "classes": classes,
            "massless_source_classes": massless,
        },
    )


def score_and_values(
    *, source_probabilities: Array, labels: Array, weights: Numbers, compat: str | None = None
) -> tuple[Score, Numbers]:
    """The Score of `leep`, and (R,) its values with each sample counted as often as its weight (R, N)."""
    score = leep(source_probabilities=source_probabilities, labels=labels, compat=compat)
    return score, reweighted(source_probabilities, labels, weights)


def reweighted(probabilities: Array, labels: Array, weights: Numbers, *, logarithm: bool = True) -> Numbers:
    """(R,) mean of ln EEP (or of EEP) with each sample counted as often as its weight (R, N).

    For each class the joint counts of all resamples are one matrix product, and so are the predictions.
    """
    table = to_numpy(check_probabilities(probabilities))
    codes = to_numpy(check_labels(labels, length=len(table))[0])
    members = [np.flatnonzero(codes == c) for c in range(int(codes.max()) + 1)]
    step = max(1, BLOCK_NUMBERS // (len(members) * table.shape[1]))
    totals = []
    for start in range(0, len(weights), step):
        block = weights[start : start + step]
        joint = np.stack([block[:, group] @ table[group] for group in members])
        mass = joint.sum(axis=0)
        joint /= np.where(mass > 0, mass, 1)
        total = np.zeros(len(block))
        for group, conditional in zip(members, joint, strict=True):
            # A sample that was not drawn may be impossible under the others; its logarithm counts nothing.
            predictions = np.where(block[:, group] > 0, conditional @ table[group].T, 1)
            total += np.sum(block[:, group] * (np.log(predictions) if logarithm else predictions), axis=1)
        totals.append(total / len(codes))
    return np.concatenate(totals)


METRIC = Metric(
    name="leep",
    title="LEEP",
    required_evidence=frozenset({"source_probabilities", "labels"}),
    range=(None, 0.0),
    unit="nats",
    measures="How well the target label can be guessed from the output of the model's own classifier, unchanged.",
    formula="(1/N) Σ_i ln Σ_s P_is p(y_i | s), with p(y | s) = Σ_{i: y_i = y} P_is / Σ_i P_is",
    interpretation="0 is perfect; -H(Y) (about -ln C for balanced classes) means that the source classes say nothing.",
    caveats="Ranks models by their source label set as much as by their features; knows nothing of models without a "
    "classifier, and little when the source classes are far from the target's.",
    cost="O(N S)",
    citation="Nguyen et al., LEEP: A New Measure to Evaluate Transferability of Learned Representations, ICML 2020",
    function=leep,
    resampling=Reweighted(score_and_values),
    parameters={"compat": COMPAT},
)
