"""The metrics."""

from fastapi import APIRouter

from app.api.dependencies import ReaderDep
from app.api.paths import MetricPath
from app.api.problems import problem_responses
from app.api.route import Route
from app.errors import NotFound
from app.schemas.rankings import MetricAnswer
from app.services.results import metric_answer
from estimators.catalog import METRICS

router = APIRouter(prefix="/v1/metrics", tags=["metrics"], route_class=Route)


@router.get("")
def list_metrics(caller: ReaderDep) -> list[MetricAnswer]:
    """Every metric: what it needs, its parameters, how to read it, when not to trust it, and its source."""
    return [metric_answer(metric) for metric in METRICS.values()]


@router.get("/{metric}", responses=problem_responses(404))
def get_metric(metric: MetricPath, caller: ReaderDep) -> MetricAnswer:
    """One metric."""
    if metric not in METRICS:
        raise NotFound(f"there is no metric {metric!r}; GET /v1/metrics lists them")
    return metric_answer(METRICS[metric])
