"""The catalog of metrics, for people."""

from app.errors import NotFound
from app.schemas.rankings import MetricAnswer, MetricParameter
from estimators.catalog import METRICS, Metric


def every() -> list[MetricAnswer]:
    """All metrics."""
    return [answer(metric) for metric in METRICS.values()]


def show(name: str) -> MetricAnswer:
    """One metric.

    Raises:
        NotFound: there is none of that name.
    """
    if name not in METRICS:
        raise NotFound(f"there is no metric {name!r}; GET /v1/metrics lists them")
    return answer(METRICS[name])


def answer(metric: Metric) -> MetricAnswer:
    """A metric's catalog entry for people."""
    return MetricAnswer(
        name=metric.name,
        title=metric.title,
        required_evidence=sorted(metric.required_evidence),
        optional_evidence=sorted(metric.optional_evidence),
        tasks=sorted(metric.tasks),
        range=list(metric.range),
        unit=metric.unit,
        measures=metric.measures,
        formula=metric.formula,
        interpretation=metric.interpretation,
        caveats=metric.caveats,
        cost=metric.cost,
        cpu_only=metric.cpu_only,
        citation=metric.citation,
        version=metric.version,
        parameters={
            name: MetricParameter(
                default=parameter.default,
                description=parameter.description,
                kind=parameter.kind,
                minimum=parameter.minimum if parameter.kind != "choice" else None,
                choices=list(parameter.choices) or None,
            )
            for name, parameter in metric.parameters.items()
        },
    )
