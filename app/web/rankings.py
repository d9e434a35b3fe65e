"""Rankings: the list, one as it runs and when it has ended, and a new one."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy.orm import Session

from app.api.dependencies import JobsDep, ReaderDep, ReadSessionDep, SessionDep, SettingsDep, SubmitterDep
from app.api.model_filters import ModelFilterDep
from app.api.pagination import CursorQuery
from app.contracts.caller import Caller
from app.contracts.listing import Listing
from app.contracts.states import RankingState
from app.errors import Invalid, NotFound
from app.schemas.rankings import ModelRow, RankingAnswer, ResultsAnswer
from app.services import datasets, estimates, evaluations, models, overview, rankings, results
from app.services import zoos as zoo_rules
from app.web import charts, question
from app.web.rendering import render
from app.web.route import GenuineForm, PageRoute
from estimators.catalog import METRICS

router = APIRouter(route_class=PageRoute, include_in_schema=False)

LISTED = 50
COMPARABLE = 50
STAGES = {
    "waiting": "waits for the device",
    "load": "loading",
    "decode": "decoding images",
    "forward": "forward pass",
    "write": "storing",
    "scoring": "scoring",
}


@router.get("/rankings")
def list_rankings(
    request: Request,
    session: ReadSessionDep,
    caller: ReaderDep,
    cursor: CursorQuery = None,
) -> Response:
    """All that the reader may see, newest first."""
    page = rankings.page(session, caller, Listing(limit=LISTED, after=cursor))
    return render(
        request,
        "rankings.html",
        rows=page.items,
        best=overview.best_models(session, [row.id for row in page.items]),
        next_address=page.next_cursor and f"/rankings?cursor={page.next_cursor}",
    )


@router.get("/rankings/new")
def new_ranking(
    request: Request,
    session: ReadSessionDep,
    caller: SubmitterDep,
    wanted: ModelFilterDep,
    target: Annotated[str, Query(max_length=300)] = "",
    zoo: Annotated[str, Query(max_length=300)] = "",
    model: Annotated[list[str] | None, Query(max_length=question.CHOICES)] = None,
    metric: Annotated[list[str] | None, Query(max_length=100)] = None,
    max_samples: Annotated[str, Query(max_length=12)] = "1000",
    ensemble: Annotated[str, Query(max_length=3)] = "",
    trial: Annotated[str, Query(max_length=3)] = "",
    name: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """The form; with what is chosen so far, what it will cost."""
    body, estimate, problem = None, None, None
    if target and (zoo or model):
        try:
            body = question.of_form(target, zoo, model, metric, max_samples, ensemble, trial, name)
            estimate = estimates.of_ranking(session, caller, body)
        except (Invalid, NotFound) as error:
            problem = error.detail
    return render(
        request,
        "new_ranking.html",
        datasets=datasets.page(session, caller, Listing(limit=question.CHOICES)).items,
        zoos=zoo_rules.page(session, caller, Listing(limit=question.CHOICES)).items,
        models=models.page(session, caller, Listing(limit=question.CHOICES), wanted).items,
        metrics=METRICS.values(),
        chosen={
            "target": target,
            "zoo": zoo,
            "models": model or [],
            "metrics": metric or [],
            "max_samples": max_samples,
            "ensemble": ensemble,
            "trial": trial,
            "name": name,
        },
        estimate=estimate,
        command=question.command(request, body.model_dump(mode="json", exclude_unset=True)) if body else None,
        problem=problem,
    )


@router.post("/rankings", dependencies=[GenuineForm])
def create_ranking(
    request: Request,
    session: SessionDep,
    jobs: JobsDep,
    caller: SubmitterDep,
    target: Annotated[str, Form(max_length=300)],
    zoo: Annotated[str, Form(max_length=300)] = "",
    model: Annotated[list[str] | None, Form(max_length=question.CHOICES)] = None,
    metric: Annotated[list[str] | None, Form(max_length=100)] = None,
    max_samples: Annotated[str, Form(max_length=12)] = "1000",
    ensemble: Annotated[str, Form(max_length=3)] = "",
    trial: Annotated[str, Form(max_length=3)] = "",
    name: Annotated[str, Form(max_length=200)] = "",
) -> Response:
    """Submit it and show its live page."""
    body = question.of_form(target, zoo, model, metric, max_samples, ensemble, trial, name)
    row = rankings.create(session, jobs, caller, body, request_id=request.state.request_id)
    return RedirectResponse(f"/rankings/{row.id}", 303)


@router.get("/rankings/{ranking}")
def show_ranking(
    ranking: str,
    request: Request,
    session: ReadSessionDep,
    caller: ReaderDep,
    score: Annotated[str, Query(max_length=64)] = "",
    cost: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    """One ranking, live while it runs; ``score`` and ``cost`` are the axes of its chart."""
    row = rankings.get(session, caller, ranking)
    answer = results.answers(session, [row])[0]
    table = results.table(session, row)
    advice = answer.recommendation
    asked = question.of_ranking(row.request, table.models)
    licenses_of = overview.licenses(session, [shown.model_id for shown in table.models])
    titles = {metric.name: metric.title for metric in table.metrics}
    figures: dict[str, Any] = {"cost": None, "agreement": None}
    if answer.state.is_final:
        figures = _figures(table, titles, score, cost)
    return render(
        request,
        "ranking.html",
        ranking=answer,
        results=table,
        stages=STAGES,
        chosen=set(advice.fine_tune) if advice else set(),
        may_change="submit" in caller.scopes and caller.owns(row.owner),
        others=_comparable(session, caller, answer) if answer.state is RankingState.SUCCEEDED else [],
        licenses_of=licenses_of,
        licenses=sorted({license for license in licenses_of.values() if license}),
        scales=_scales(table.models),
        table_key=f"ranking-{','.join(answer.metrics)}",
        failures=[shown for shown in table.models if shown.state == "failed"],
        trials=[shown for shown in table.models if shown.trial],
        ensembles=rankings.ensembles(session, caller, ranking).ensembles,
        layers=[shown for shown in table.models if shown.layers],
        warnings=_warnings(table),
        titles=titles,
        names={shown.model_id: shown.model for shown in table.models},
        evaluations=evaluations.of_ranking(session, caller, row.id).items,
        **figures,
        again=question.form_address(asked),
        command=question.command(request, asked.model_dump(mode="json", exclude_defaults=True)),
    )


def _comparable(session: Session, caller: Caller, ranking: RankingAnswer) -> list[RankingAnswer]:
    """Other rankings of the same target that have ended well."""
    listing = Listing(limit=COMPARABLE)
    page = rankings.page(session, caller, listing, target=ranking.target.id, state=RankingState.SUCCEEDED)
    return [other for other in page.items if other.id != ranking.id]


def _scales(rows: Sequence[ModelRow]) -> dict[str, tuple[float, float]]:
    """Metric -> where its column's intervals begin and end."""
    ends: dict[str, list[float]] = {}
    for row in rows:
        for name, score in row.scores.items():
            if score.interval is not None and score.value is not None:
                ends.setdefault(name, []).extend((score.interval.low, score.interval.high, score.value))
    return {name: (min(values), max(values)) for name, values in ends.items()}


def _warnings(table: ResultsAnswer) -> list[tuple[str, str, int]]:
    """Each kind of warning once: metric, its first wording, and how many models it concerns."""
    titles = {metric.name: metric.title for metric in table.metrics}
    kinds: dict[tuple[str, str], list[str]] = {}
    for row in table.models:
        for name, score in row.scores.items():
            for warning in score.warnings:
                kinds.setdefault((name, warning.partition(":")[0]), []).append(warning)
    return [(titles.get(name, name), found[0], len(found)) for (name, _), found in kinds.items()]


def _figures(table: ResultsAnswer, titles: Mapping[str, str], score: str, cost: str) -> dict[str, Any]:
    """The charts of a ranking that has ended, and what else its first one can show."""
    scores = charts.score_axes(table.models, titles)
    x = next((axis for axis in charts.COSTS if axis.name == cost), charts.COSTS[0])
    y = next((axis for axis in scores if axis.name == score), scores[0])
    disagreement = table.summary and table.summary.disagreement
    several = sum(row.state == "succeeded" for row in table.models) > 1
    return {
        "score_axes": scores,
        "cost_axes": charts.COSTS,
        "axes": (x, y),
        "cost": charts.cost(table.models, x, y) if several else None,
        "agreement": charts.agreement(disagreement.kendall_tau, titles) if several and disagreement else None,
    }


@router.post("/rankings/{ranking}/cancel", dependencies=[GenuineForm])
def cancel_ranking(ranking: str, session: SessionDep, jobs: JobsDep, caller: SubmitterDep) -> Response:
    """End it early."""
    row = rankings.cancel(session, jobs, caller, ranking)
    return RedirectResponse(f"/rankings/{row.id}", 303)


@router.post("/rankings/{ranking}/delete", dependencies=[GenuineForm])
def delete_ranking(ranking: str, session: SessionDep, settings: SettingsDep, caller: SubmitterDep) -> Response:
    """Forget it."""
    rankings.delete(session, settings, caller, ranking)
    return RedirectResponse("/rankings", 303)
