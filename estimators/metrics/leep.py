"""LEEP: how well a model's source classifier, used as it is, predicts the target labels."""

from collections.abc import Iterator

import numpy as np
from array_api_compat import array_namespace, device

from estimators.arrays.classes import ClassOrder, class_order
from estimators.arrays.validation import Array, check_compat, check_probabilities, to_numpy, working_dtype
from estimators.metric import COMPAT, Metric, Numbers, Reweighted
from estimators.score import Score

JOINT_NUMBERS = 10_000_000


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
    samples, sources = probabilities.shape
    order = class_order(labels, samples)
    shape = (len(order.classes), sources)
    joint = xp.zeros(shape, dtype=working_dtype(probabilities), device=device(probabilities))
    for _, groups in order.blocks(probabilities):
        for c, rows in groups:
            joint[c, :] += xp.sum(rows, axis=0)
    mass = xp.sum(joint, axis=0)
    massless = mass == 0
    conditional = joint / xp.where(massless, xp.ones_like(mass), mass)
    predictions = [rows @ conditional[c, :] for _, groups in order.blocks(probabilities) for c, rows in groups]
    return order.restore(xp.concat(predictions)), shape[0], int(xp.sum(xp.astype(massless, xp.int64)))


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
    probabilities = check_probabilities(source_probabilities, convert=False)
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
    table = to_numpy(check_probabilities(probabilities, convert=False))
    samples, sources = table.shape
    order = class_order(labels, samples)
    step = max(1, JOINT_NUMBERS // (len(order.classes) * sources))
    totals = []
    for start in range(0, len(weights), step):
        drawn = weights[start : start + step]
        joint, total = np.zeros((len(order.classes), len(drawn), sources)), np.zeros(len(drawn))
        for counts, c, rows in _drawn_groups(drawn, order, table):
            joint[c] += counts @ rows
        mass = joint.sum(axis=0)
        joint /= np.where(mass > 0, mass, 1)
        for counts, c, rows in _drawn_groups(drawn, order, table):
            # A sample that was not drawn may be impossible under the others; its logarithm counts nothing.
            predictions = np.where(counts > 0, joint[c] @ rows.T, 1)
            total += np.sum(counts * (np.log(predictions) if logarithm else predictions), axis=1)
        totals.append(total / samples)
    return np.concatenate(totals)


def _drawn_groups(weights: Numbers, order: ClassOrder, table: Numbers) -> Iterator[tuple[Numbers, int, Numbers]]:
    """Rows of one class, a block at a time: how often each draw takes them, the class, and the rows."""
    for block, groups in order.blocks(table):
        members = order.order[block]
        for c, rows in groups:
            own, members = members[: len(rows)], members[len(rows) :]
            yield weights[:, own], c, rows


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
