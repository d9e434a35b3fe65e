"""One metric on one piece of evidence. Rankings and ``POST /v1/scores`` both compute here, by the same rules."""

import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import structlog

from app.errors import failure
from app.plain import plain
from estimators.catalog import METRICS, Evidence
from estimators.comparison.resampling import resample

log = structlog.stdlib.get_logger(__name__)


def compute_metric(
    name: str, evidence: Evidence, parameters: Mapping[str, Any], intervals: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """The value, or the reason why there is none; nothing that the arrays do to a metric is raised.

    Args:
        name: a name of `METRICS`.
        parameters: of the metric, checked.
        intervals: ``resamples`` and ``seed`` of what is to be drawn beside the value; None draws nothing.

    Returns:
        ``value`` (finite, or None with a ``problem``), ``warnings``, ``details``, ``problem``, ``resamples``
        (``method``, ``values`` and ``parts``, or None) and ``seconds``.
    """
    started = time.perf_counter()
    result: dict[str, Any] = {"value": None, "warnings": [], "details": {}, "problem": None, "resamples": None}
    try:
        result |= _compute(name, evidence, parameters, intervals)
    except (ValueError, np.linalg.LinAlgError) as error:  # CannotBeComputed and InvalidEvidence among them
        result["problem"] = failure("metric-problem", f"cannot be computed: {error}")
    except MemoryError:
        detail = "cannot be computed: it needs more memory than its process may take; use fewer samples"
        result["problem"] = failure("metric-problem", detail)
    except Exception as error:
        log.exception("metric failed", metric=name)
        result["problem"] = failure("internal-error", f"{type(error).__name__}: {error}")
    return result | {"seconds": round(time.perf_counter() - started, 6)}


def _compute(
    name: str, evidence: Evidence, parameters: Mapping[str, Any], intervals: Mapping[str, int] | None
) -> dict[str, Any]:
    if intervals is None:
        score, drawn = METRICS[name].compute(evidence, **parameters), None
    else:
        resampled = resample(name, evidence, resamples=intervals["resamples"], seed=intervals["seed"], **parameters)
        score = resampled.score
        drawn = {
            "method": resampled.method,
            "values": plain(resampled.values),
            "parts": plain(resampled.parts),
        }
    if not math.isfinite(score.value):
        raise ValueError(f"its value is {score.value}")
    return {
        "value": float(score.value),
        "warnings": list(score.warnings),
        "details": plain(score.details),
        "resamples": drawn,
    }
