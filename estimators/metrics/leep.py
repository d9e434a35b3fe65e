"""LEEP: how well a model's source classifier, used as it is, predicts the target labels."""

from array_api_compat import array_namespace

from estimators.arrays.classes import by_class
from estimators.arrays.validation import Array, check_compat, check_probabilities
from estimators.score import Score


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
