"""One metric on one piece of evidence. Rankings and ``POST /v1/scores`` both compute here, by the same rules."""

import math
import time

import numpy as np
import scipy.linalg
import structlog

from app.contracts.base import JsonObject
from app.contracts.plain import plain
from app.contracts.problems import failure
from app.contracts.question import IntervalChoice
from app.contracts.scores import DrawnScores, ScoreResult
from app.processes.role import Role, variable
from estimators.catalog import METRICS, Evidence
from estimators.comparison.resampling import resample

log = structlog.stdlib.get_logger(__name__)


def start_linear_algebra() -> None:
    """Have OpenBLAS allocate its buffers, for it ends the process when a limit of memory keeps it from doing so later.

    NumPy and SciPy bring one each.
    """
    square = np.eye(512)
    square @ square
    scipy.linalg.cholesky(square)


def compute_metric(
    name: str, evidence: Evidence, parameters: JsonObject, role: Role, intervals: IntervalChoice | None = None
) -> ScoreResult:
    """The value, or why there is none; errors that the arrays cause in a metric are not raised.

    Args:
        name: a name of `METRICS`.
        parameters: of the metric, checked.
        role: of the process, for what to do about its limit of memory.
        intervals: what to draw in addition to the value; None draws nothing.
    """
    started = time.perf_counter()
    try:
        result = _compute(name, evidence, parameters, intervals)
    except (ValueError, np.linalg.LinAlgError) as error:  # CannotBeComputed and InvalidEvidence among them
        result = ScoreResult(problem=failure("metric-problem", f"cannot be computed: {error}"))
    except MemoryError:
        detail = (
            f"cannot be computed: it needs more memory than {variable(role.memory_setting or '')} allows; {role.remedy}"
        )
        result = ScoreResult(problem=failure("metric-problem", detail))
    except Exception as error:
        log.exception("metric failed", metric=name)
        result = ScoreResult(problem=failure("internal-error", f"{type(error).__name__}: {error}"))
    return result.model_copy(update={"seconds": round(time.perf_counter() - started, 6)})


def _compute(name: str, evidence: Evidence, parameters: JsonObject, intervals: IntervalChoice | None) -> ScoreResult:
    if intervals is None:
        score, drawn = METRICS[name].compute(evidence, **parameters), None
    else:
        resampled = resample(name, evidence, resamples=intervals.resamples, seed=intervals.seed, **parameters)
        score = resampled.score
        drawn = DrawnScores(method=resampled.method, values=plain(resampled.values), parts=plain(resampled.parts))
    if not math.isfinite(score.value):
        raise ValueError(f"its value is {score.value}")
    return ScoreResult(value=float(score.value), warnings=score.warnings, details=plain(score.details), resamples=drawn)
