"""What is said of a ranking when all of its models have ended: ranks, consensus, ensembles."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import structlog

from app.contracts.ensembles import EnsembleResult, EnsemblesCommand, PoolMember
from app.contracts.plain import plain
from app.contracts.problems import failure
from app.contracts.question import IntervalChoice
from app.contracts.summary import Chances, ConsensusSummary, Disagreement, Interval, Summary
from app.db.tables import Model, Ranking, RankingModel, RankingScore, Score
from app.shared_home import share_folder
from estimators.catalog import METRICS
from estimators.comparison.abstention import abstentions
from estimators.comparison.consensus import consensus
from estimators.comparison.resampling import Resamples, combine_resamples, interval, pool_summary
from estimators.comparison.ties import TIE
from estimators.score import Score as Value
from workers.errors import EvidenceMissing, Problem
from workers.runtime import Runtime
from workers.store.features import HEAD

log = structlog.stdlib.get_logger(__name__)
EVICTED = (
    "evidence was evicted before the ensembles were chosen; submit the ranking again (its scores are used again), and "
    "raise FORERANK_FEATURE_QUOTA_GIGABYTES if the evidence of all its models does not fit it"
)

Cells = Sequence[tuple[RankingScore, Score]]


def conclude(
    runtime: Runtime, ranking: Ranking, runs: Sequence[RankingModel], models: Mapping[str, Model], cells: Cells
) -> tuple[Summary, tuple[EnsembleResult, ...]]:
    """The summary and the ensembles of a ranking whose models ``runs`` have scores."""
    return summarize(ranking.request.intervals, [run.model_id for run in runs], cells), _ensembles(
        runtime, ranking, runs, models
    )


def summarize(choice: IntervalChoice | None, order: Sequence[str], cells: Cells) -> Summary:
    """Ranks, intervals and the chance to come first for each metric, and what the metrics say together."""
    layers: dict[str, dict[str, dict[str, float]]] = {}
    by_layer: dict[str, dict[str, dict[str, Score]]] = {}
    present = set(order)
    for cell, score in cells:
        if score.value is None or cell.model_id not in present:
            continue
        layers.setdefault(cell.model_id, {}).setdefault(cell.metric, {})[cell.layer] = score.value
        by_layer.setdefault(cell.layer, {}).setdefault(cell.metric, {})[cell.model_id] = score
    heads = by_layer.get(HEAD, {})
    combined = {metric: pool_values(metric, scores) for metric, scores in heads.items() if METRICS[metric].combine}
    values = {metric: combined.get(metric) or _values(scores) for metric, scores in heads.items()}
    ranks = {metric: competition_ranks(scores) for metric, scores in values.items()}
    drawn = {metric: resamples_of(metric, scores) for metric, scores in heads.items()}
    abstaining = abstentions({metric: [_value(score) for score in scores.values()] for metric, scores in heads.items()})
    placed, agreement, disagreement = consensus_of(
        {metric: places for metric, places in ranks.items() if metric not in abstaining}, order
    )
    return Summary(
        order=placed,
        ranks=ranks,
        layer_ranks={
            model_id: {metric: competition_ranks(scores) for metric, scores in metrics.items()}
            for model_id, metrics in layers.items()
        },
        pool_values=combined,
        intervals=intervals_of(drawn, choice),
        # A layer is compared with the others of its model, so the parts of a pool's metric stand for themselves.
        layer_intervals={
            layer: intervals_of({metric: draws(scores) for metric, scores in metrics.items()}, choice)
            for layer, metrics in by_layer.items()
            if len(by_layer) > 1
        },
        metrics={metric: chances(len(scores), drawn[metric]) for metric, scores in heads.items()},
        abstentions=abstaining,
        consensus=agreement,
        disagreement=disagreement,
    )


def values_of(cells: Cells, models: Sequence[str]) -> dict[str, dict[str, float]]:
    """Metric -> model -> value on the head's features; what is relative to a pool is taken over these models."""
    heads: dict[str, dict[str, Score]] = {}
    for cell, score in cells:
        if cell.layer == HEAD and score.value is not None and cell.model_id in models:
            heads.setdefault(cell.metric, {})[cell.model_id] = score
    return {
        metric: pool_values(metric, scores) if METRICS[metric].combine else _values(scores)
        for metric, scores in heads.items()
    }


def _values(scores: Mapping[str, Score]) -> dict[str, float]:
    return {model: float(score.value or 0.0) for model, score in scores.items()}


def consensus_of(
    ranks: Mapping[str, Mapping[str, int]], order: Sequence[str]
) -> tuple[tuple[str, ...], ConsensusSummary | None, Disagreement | None]:
    """One order of the models by all metrics, and how much the metrics disagree."""
    if not ranks:
        return tuple(order), None, None
    # Ranks instead of scores: what differs by rounding alone is a tie here too.
    agreed = consensus([[-ranks[metric].get(model, math.nan) for model in order] for metric in ranks])
    placed = [order[index] for index in agreed.order]
    summary = ConsensusSummary(
        ranks={model: place for place, model in enumerate(placed, start=1)},
        mean_ranks={
            model: float(mean) for model, mean in zip(order, agreed.mean_rank, strict=True) if not math.isnan(mean)
        },
        method=agreed.method,
        citation=agreed.citation,
    )
    disagreement = Disagreement(
        kendall_tau=plain(
            dict(zip(ranks, (dict(zip(ranks, row, strict=True)) for row in agreed.agreement), strict=True))
        ),
        mean_kendall_tau=agreed.mean_tau,
        kendall_w=agreed.kendall_w,
    )
    return (*placed, *(model for model in order if model not in set(placed))), summary, disagreement


def pool_values(metric: str, scores: Mapping[str, Score]) -> dict[str, float]:
    """The values of a metric that means something within a pool only."""
    combine = METRICS[metric].combine
    if combine is None:
        raise ValueError(f"{metric} needs no pool")
    return dict(zip(scores, map(float, combine([_value(score) for score in scores.values()])), strict=True))


def _value(score: Score) -> Value:
    return Value(float(score.value or 0.0), tuple(score.warnings), score.details)


def resamples_of(metric: str, scores: Mapping[str, Score]) -> dict[str, Resamples]:
    """Model -> what was drawn of its score; of a metric that needs the pool only if all models share the draws."""
    drawn = draws(scores)
    if METRICS[metric].combine is None:
        return drawn
    if not _shared(len(scores), drawn):
        return {}
    return dict(zip(drawn, combine_resamples(metric, list(drawn.values())), strict=True))


def draws(scores: Mapping[str, Score]) -> dict[str, Resamples]:
    """Model -> what was drawn of its own score."""
    return {
        model: Resamples(
            _value(score),
            np.asarray(score.resamples.values, dtype=np.float64),
            score.resamples.method,
            {part: np.asarray(values) for part, values in score.resamples.parts.items()},
        )
        for model, score in scores.items()
        if score.resamples is not None
    }


def _shared(models: int, drawn: Mapping[str, Resamples]) -> bool:
    return len(drawn) == models and len({len(resamples.values) for resamples in drawn.values()}) == 1


def intervals_of(
    drawn: Mapping[str, Mapping[str, Resamples]], choice: IntervalChoice | None
) -> dict[str, dict[str, Interval]]:
    """Model -> metric -> the interval that holds the asked share of the resamples."""
    found: dict[str, dict[str, Interval]] = {}
    if choice is None:
        return found
    for metric, models in drawn.items():
        for model_id, resamples in models.items():
            low, high = interval(resamples, choice.level)
            found.setdefault(model_id, {})[metric] = Interval(
                low=low, high=high, level=choice.level, resamples=len(resamples.values), method=resamples.method
            )
    return found


def chances(models: int, drawn: Mapping[str, Resamples]) -> Chances:
    """How likely each model comes first by one metric, over resamples that all models share."""
    if not _shared(models, drawn):
        return Chances(models=models, resamples=0)
    pool = pool_summary([resamples.values for resamples in drawn.values()])
    return Chances(
        models=models,
        resamples=len(next(iter(drawn.values())).values),
        chance_first_on_another_sample=dict(zip(drawn, map(float, pool.chance_first_on_another_sample), strict=True)),
        expected_rank=dict(zip(drawn, map(float, pool.expected_rank), strict=True)),
    )


def _ensembles(
    runtime: Runtime, ranking: Ranking, runs: Sequence[RankingModel], models: Mapping[str, Model]
) -> tuple[EnsembleResult, ...]:
    """What was chosen; if the evidence is gone or the scorer fails, each result says so and the ranking goes on."""
    choices, given = ranking.request.ensembles, ranking.request.given_ensembles
    if not choices and not given:
        return ()
    names = display_names([models[run.model_id] for run in runs])
    sources = ranking.request.sources
    samples = {sources.get(models[run.model_id].source_dataset or "") for run in runs}
    command = EnsemblesCommand(
        models=tuple(
            PoolMember(
                name=names[run.model_id],
                parameters=models[run.model_id].parameters,
                label_space=models[run.model_id].source_dataset or run.model_id,
                target_key=run.evidence.target[HEAD],
                source_key=run.evidence.source.get(HEAD),
            )
            for run in runs
            if run.evidence is not None
        ),
        source_is_one=len(samples - {None}) == 1,
        choices=choices,
        given=tuple(tuple(names.get(model_id, model_id) for model_id in members) for members in given),
        folder=str(runtime.settings.rankings_folder / ranking.id),
    )
    try:
        with runtime.features.lend(command.evidence_keys):
            answers = runtime.scorers.call("ensembles", command.plain())
        share_folder(runtime.settings, runtime.settings.rankings_folder / ranking.id)
    except Problem as problem:
        log.warning("no ensembles were chosen", code=problem.code, detail=problem.detail)
        why = failure(problem.code, EVICTED if problem.code == EvidenceMissing.code else problem.detail)
        return tuple(EnsembleResult(request=request, problem=why) for request in command.requests)
    return tuple(EnsembleResult.read(answer) for answer in answers)


def display_names(models: Sequence[Model]) -> dict[str, str]:
    """Id -> name, or the id where two models of the pool, of different owners, have one name."""
    counts = Counter(model.name for model in models)
    return {model.id: model.name if counts[model.name] == 1 else model.id for model in models}


def competition_ranks(scores: Mapping[str, float]) -> dict[str, int]:
    """1 for the highest; scores equal but for rounding share the better rank (1, 2, 2, 4)."""
    ranks: dict[str, int] = {}
    first, best = 0, math.inf
    for place, (key, value) in enumerate(sorted(scores.items(), key=lambda item: -item[1]), start=1):
        if not math.isclose(value, best, rel_tol=TIE, abs_tol=TIE):
            first, best = place, value
        ranks[key] = first
    return ranks
