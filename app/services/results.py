"""Puts a ranking's table together from the rows that the workers wrote."""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from app.contracts.ensembles import EnsembleResult
from app.contracts.summary import Interval, Summary
from app.db.advice_tables import RankingTrial
from app.db.repositories.datasets import Datasets
from app.db.repositories.models import Models
from app.db.repositories.rankings import Rankings
from app.db.repositories.trials import Trials
from app.db.tables import Dataset, Model, Ranking, RankingModel, Score
from app.schemas.base import Problem
from app.schemas.rankings import (
    EnsembleAnswer,
    EnsemblesAnswer,
    ModelRow,
    RankedMetric,
    RankingAnswer,
    ResultsAnswer,
    ScoreAnswer,
    SummaryAnswer,
    TargetAnswer,
    TrialAnswer,
)
from app.services.estimates import seconds_left
from estimators.catalog import METRICS

HEAD = "head"


def answers(session: Session, rankings: list[Ranking]) -> list[RankingAnswer]:
    """Where these rankings stand."""
    counts = Rankings(session).model_counts([ranking.id for ranking in rankings])
    counters = Rankings(session).counters(rankings)
    left = seconds_left(session, rankings)
    targets = Datasets(session).get_many(ranking.target_id for ranking in rankings)
    return [
        RankingAnswer(
            id=ranking.id,
            name=ranking.name,
            owner=ranking.owner,
            shared=ranking.shared,
            created_at=ranking.created_at,
            state=ranking.state,
            problem=Problem.of(ranking.problem),
            target=_target(ranking, targets.get(ranking.target_id)),
            zoo=ranking.request.zoo,
            metrics=[metric.name for metric in ranking.request.metrics],
            priority=ranking.request.priority,
            models_by_state=counts[ranking.id],
            counters=counters[ranking.id],
            recommendation=ranking.summary and ranking.summary.recommendation,
            seconds_left=left.get(ranking.id),
            started_at=ranking.started_at,
            finished_at=ranking.finished_at,
        )
        for ranking in rankings
    ]


def _target(ranking: Ranking, dataset: Dataset | None) -> TargetAnswer:
    return TargetAnswer(
        id=ranking.target_id,
        name=dataset.name if dataset else ranking.request.target,
        sample=ranking.sample,
    )


def table(session: Session, ranking: Ranking) -> ResultsAnswer:
    """Every model's row, best first once the ranking has ended."""
    rankings = Rankings(session)
    runs = rankings.models(ranking.id)
    models = Models(session).get_many(run.model_id for run in runs)
    cells: dict[str, dict[str, dict[str, Score]]] = {}
    for cell, score in rankings.scores(ranking.id):
        cells.setdefault(cell.model_id, {}).setdefault(cell.layer, {})[cell.metric] = score
    summary = ranking.summary or Summary(order=())
    trials = {trial.model_id: trial for trial in Trials(session).of(ranking.id)}
    rows = [
        _row(run, models[run.model_id], cells.get(run.model_id, {}), summary, trials.get(run.model_id)) for run in runs
    ]
    place = {identifier: index for index, identifier in enumerate(summary.advised_order)}
    rows.sort(key=lambda row: place.get(row.model_id, len(place)))
    return ResultsAnswer(
        ranking_id=ranking.id,
        state=ranking.state,
        target=_target(ranking, Datasets(session).get(ranking.target_id)),
        metrics=[
            RankedMetric(
                name=metric.name,
                parameters=metric.parameters,
                title=METRICS[metric.name].title,
                unit=METRICS[metric.name].unit,
                interpretation=METRICS[metric.name].interpretation,
            )
            for metric in ranking.request.metrics
        ],
        models=rows,
        recommendation=summary.recommendation,
        summary=ranking.summary and SummaryAnswer.model_validate(ranking.summary),
        counters=rankings.counters([ranking])[ranking.id],
    )


def _row(
    run: RankingModel,
    model: Model,
    layers: dict[str, dict[str, Score]],
    summary: Summary,
    trial: RankingTrial | None,
) -> ModelRow:
    intervals = summary.intervals.get(run.model_id, {})
    layer_ranks = summary.layer_ranks.get(run.model_id, {})
    return ModelRow(
        model_id=run.model_id,
        model=model.name,
        state=run.state,
        stage=run.stage,
        done=run.done,
        total=run.total,
        scores={
            name: _score(
                score,
                summary.ranks.get(name, {}).get(run.model_id),
                intervals.get(name),
                summary.pool_values.get(name, {}).get(run.model_id, score.value),
            )
            for name, score in layers.get(HEAD, {}).items()
        },
        layers={
            layer: {
                name: _score(
                    score,
                    layer_ranks.get(name, {}).get(layer),
                    summary.layer_intervals.get(layer, {}).get(run.model_id, {}).get(name),
                    score.value,
                )
                for name, score in scores.items()
            }
            for layer, scores in layers.items()
            if len(layers) > 1
        },
        consensus_rank=summary.consensus and summary.consensus.ranks.get(run.model_id),
        trial=None if trial is None else _trial(trial),
        parameters=model.parameters,
        seconds=run.seconds,
        images_per_second=run.images_per_second,
        evidence_reused=run.reused,
        warnings=list(run.warnings or ()),
        problem=Problem.of(run.problem),
    )


def _trial(row: RankingTrial) -> TrialAnswer:
    return TrialAnswer(
        state=row.state,
        reason=row.reason,
        folds_done=row.folds_done,
        accuracy=row.accuracy,
        log_loss=row.nll,
        image_side=row.side,
        stage=row.stage,
        done=row.done,
        total=row.total,
        seconds=row.seconds,
        seconds_left=row.seconds_left,
        warnings=row.warnings or [],
        problem=Problem.of(row.problem),
    )


def _score(score: Score, rank: int | None, interval: Interval | None, value: float | None) -> ScoreAnswer:
    return ScoreAnswer(
        value=value,
        rank=rank,
        seconds=score.seconds,
        warnings=list(score.warnings),
        details=score.details,
        problem=Problem.of(score.problem),
        interval=interval,
    )


def ensembles(ranking: Ranking, ensembles: Sequence[EnsembleResult]) -> EnsemblesAnswer:
    """Ensembles of a ranking: its own, or those that were scored in its pool afterwards."""
    shown = [EnsembleAnswer.model_validate(ensemble) for ensemble in ensembles]
    return EnsemblesAnswer(ranking_id=ranking.id, state=ranking.state, ensembles=shown)
