"""The metrics."""

from fastapi import APIRouter

from app.api.dependencies import ReaderDep
from app.api.paths import MetricPath
from app.api.problems import problem_responses
from app.api.route import Route
from app.schemas.rankings import MetricAnswer
from app.services import metrics

router = APIRouter(prefix="/v1/metrics", tags=["metrics"], route_class=Route)


@router.get("")
def list_metrics(caller: ReaderDep) -> list[MetricAnswer]:
    """Every metric: what it needs, its parameters, how to read it, when not to trust it, and its source."""
    return metrics.every()


@router.get("/{metric}", responses=problem_responses(404))
def get_metric(metric: MetricPath, caller: ReaderDep) -> MetricAnswer:
    """One metric."""
    return metrics.show(metric)
