"""Which metrics cannot tell the models of a pool apart here, so that they should not vote."""

from collections.abc import Mapping, Sequence

import numpy as np

from estimators.catalog import METRICS
from estimators.comparison.ties import levels
from estimators.metric import Metric
from estimators.score import Score

# A value this near the end of the metric's range is at its end.
NEAR_THE_END = 1e-6
# A metric abstains when more than this share of the models is tied, saturated or clipped.
SHARE = 0.5
# A score says little but the number of dimensions when more than this share of its distances lies under the floor.
CLIPPED = 0.5


def abstentions(pool: Mapping[str, Sequence[Score]]) -> dict[str, str]:
    """Metric -> why it abstains, for those metrics of a pool that do.

    Args:
        pool: metric -> the Scores of the models that have one, as the metric gave them for each model alone.
    """
    reasons = {name: reason_to_abstain(METRICS[name], scores) for name, scores in pool.items()}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def reason_to_abstain(metric: Metric, scores: Sequence[Score]) -> str | None:
    """Why a metric cannot order these models, or None if it can.

    It cannot when most of them have reached the end of its range (or say so by a warning ``saturated:``), when most
    have the best score up to rounding, or when most are clipped. Two reasons never to abstain: there is nothing to
    order among fewer than two models, and a metric that needs a pool is judged by its own parts.

    Returns:
        A sentence that begins with a stable word and a colon: ``saturated:``, ``tied:`` or ``clipped:``.
    """
    count = len(scores)
    if count < 2:
        return None
    saturated = sum(_is_saturated(metric, score) for score in scores)
    if saturated > SHARE * count:
        return f"saturated: {saturated} of {count} models have reached the end of the range of {metric.title}"
    clipped = sum(float(score.details.get("clipped_share", 0.0)) > CLIPPED for score in scores)
    if clipped > SHARE * count:
        return f"clipped: for {clipped} of {count} models most distances lie under the floor of {metric.title}"
    place = levels(np.asarray([score.value for score in scores]))
    first = int(np.sum(place == place.max()))
    parts = [levels(np.asarray([float(score.details[part]) for score in scores])) for part in metric.pool_parts]
    if first > SHARE * count and all(part.max() == 0 for part in parts):
        return f"tied: {first} of {count} models share the best score of {metric.title}, but for rounding"
    return None


def _is_saturated(metric: Metric, score: Score) -> bool:
    if metric.combine is not None:
        return False
    if any(warning.startswith("saturated:") for warning in score.warnings):
        return True
    return any(bound is not None and abs(score.value - bound) <= NEAR_THE_END for bound in metric.range)
