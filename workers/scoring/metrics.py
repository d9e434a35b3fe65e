"""Scores from the feature store. Runs in a scorer's process; numbers and names in, JSON out."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from app.errors import failure
from app.plain import plain
from app.settings import Settings
from estimators.catalog import METRICS
from estimators.catalog import Evidence as Arrays
from estimators.comparison.resampling import resample
from estimators.score import CannotBeComputed, InvalidEvidence
from workers.store.features import FeatureStore

log = structlog.stdlib.get_logger(__name__)


def compute_scores(
    payload: Mapping[str, Any], settings: Settings, progress: Callable[[dict[str, Any]], None]
) -> list[dict[str, Any]]:
    """One result for each cell of ``payload["cells"]``, in order; a metric that fails is a result with a problem.

    Raises:
        KeyError: evidence is not in the store any more.
    """
    store = FeatureStore.of(settings)
    cells = payload["cells"]
    results = []
    for done, cell in enumerate(cells):
        progress({"stage": "scoring", "done": done, "total": len(cells)})
        results.append(_compute(store, cell))
    return results


def _compute(store: FeatureStore, cell: Mapping[str, Any]) -> dict[str, Any]:
    started = time.perf_counter()
    result: dict[str, Any] = {"value": None, "warnings": [], "details": {}, "problem": None, "resamples": None}
    with store.open(cell["evidence_key"]) as evidence:
        reference = store.open(cell["reference_key"]) if cell["reference_key"] else None
        try:
            arrays = Arrays(
                features=evidence.features,
                labels=evidence.labels,
                source_probabilities=evidence.source_probabilities,
                reference_features=reference.features if reference else None,
            )
            result |= _score(cell, arrays)
        except (CannotBeComputed, InvalidEvidence) as error:
            result["problem"] = failure("metric-problem", f"cannot be computed: {error}")
        except Exception as error:
            log.exception("metric failed", metric=cell["metric"], evidence=cell["evidence_key"])
            result["problem"] = failure("internal-error", f"{type(error).__name__}: {error}")
        finally:
            if reference is not None:
                reference.close()
    result["seconds"] = round(time.perf_counter() - started, 6)
    return result


def _score(cell: Mapping[str, Any], arrays: Arrays) -> dict[str, Any]:
    name, parameters, intervals = cell["metric"], cell["parameters"], cell["intervals"]
    if intervals is None:
        score, resamples = METRICS[name].compute(arrays, **parameters), None
    else:
        drawn = resample(name, arrays, resamples=intervals["resamples"], seed=intervals["seed"], **parameters)
        score, resamples = (
            drawn.score,
            {
                "method": drawn.method,
                "values": plain(drawn.values),
                "parts": plain(drawn.parts),
            },
        )
    if not math.isfinite(score.value):
        raise CannotBeComputed(f"its value is {score.value}")
    return {
        "value": float(score.value),
        "warnings": list(score.warnings),
        "details": plain(score.details),
        "resamples": resamples,
    }
