"""Rules of evaluations: accuracies come in, scores are judged, and what was reported is remembered."""

import math
from collections.abc import Mapping

import numpy as np
from sqlalchemy.orm import Session

from app.contracts.caller import Caller
from app.contracts.evaluations import EvaluationCreate, ScoreEvaluation, ScoreTest
from app.contracts.states import RankingState
from app.contracts.summary import Summary
from app.db.advice_tables import Evaluation
from app.db.repositories.history import History
from app.db.repositories.models import Models
from app.db.repositories.rankings import Rankings
from app.db.repositories.trials import Trials
from app.db.tables import Model, Ranking
from app.errors import Conflict, Invalid
from app.evaluation import POINTS, TESTED, Truth, evaluate_target
from app.schemas.evaluations import EvaluationAnswer, EvaluationsAnswer
from app.services import rankings as ranking_rules
from estimators.comparison.evaluation import paired_difference
from estimators.comparison.history import prior

HEAD = "head"
RECOMMENDATION = "recommendation"


def create(session: Session, caller: Caller, reference: str, body: EvaluationCreate) -> EvaluationAnswer:
    """Judge every score of a ranking by the accuracies that its models reached."""
    ranking = ranking_rules.get(session, caller, reference)
    summary = ranking.summary
    if ranking.state is not RankingState.SUCCEEDED or summary is None or ranking.sample is None:
        raise Conflict(f"the ranking is {ranking.state.value}: only one that succeeded can be evaluated")
    models = Models(session).get_many(run.model_id for run in Rankings(session).models(ranking.id))
    accuracies = _by_id(models, body.accuracies)
    order = list(accuracies)
    fingerprint = ranking.sample.fingerprint
    truth = Truth(
        models=order,
        accuracies=list(accuracies.values()),
        scores={
            name: [values.get(model, math.nan) for model in order]
            for name, values in scores_of(session, caller, ranking, summary, models, fingerprint).items()
        },
    )
    judged = evaluate_target(truth, resamples=body.resamples)
    advice = summary.recommendation
    row = Evaluation(
        owner=caller.owner,
        ranking_id=ranking.id,
        target_fingerprint=fingerprint,
        remembered=body.remember,
        rungs=sorted(advice.evidence) if advice else [],
        advised_scores={model.model_id: model.score for model in advice.order} if advice else {},
        accuracies=accuracies,
        results={
            "scores": {name: ScoreEvaluation.model_validate(values).plain() for name, values in judged.items()},
            "tests": [test.plain() for test in _tests(truth, body.resamples)],
        },
    )
    session.add(row)
    if body.remember:
        History(session).remember(
            {
                "owner": caller.owner,
                "target_fingerprint": fingerprint,
                "target": ranking.request.target,
                "weights_digest": models[model].digest or model,
                "model": models[model].name,
                "accuracy": accuracy,
            }
            for model, accuracy in accuracies.items()
        )
    session.flush()
    return answer(row)


def of_ranking(session: Session, caller: Caller, reference: str) -> EvaluationsAnswer:
    """The evaluations of a ranking that the caller may see, newest first."""
    ranking = ranking_rules.get(session, caller, reference)
    rows = History(session).of_ranking(ranking.id, None if caller.is_admin else caller.owner)
    return EvaluationsAnswer(items=[answer(row) for row in rows])


def answer(row: Evaluation) -> EvaluationAnswer:
    """As a user sees it."""
    return EvaluationAnswer(
        id=row.id,
        ranking_id=row.ranking_id,
        created_at=row.created_at,
        accuracies=row.accuracies,
        remembered=row.remembered,
        scores={name: ScoreEvaluation.read(values) for name, values in row.results["scores"].items()},
        tests=[ScoreTest.read(test) for test in row.results["tests"]],
    )


def _by_id(models: Mapping[str, Model], accuracies: Mapping[str, float]) -> dict[str, float]:
    names: dict[str, list[str]] = {}
    for model in models.values():
        names.setdefault(model.name, []).append(model.id)
    found: dict[str, float] = {}
    errors = []
    for reference, accuracy in accuracies.items():
        pointer = "/accuracies/" + reference.replace("~", "~0").replace("/", "~1")
        known = [reference] if reference in models else names.get(reference, [])
        if len(known) != 1:
            why = "two models of this ranking have this name; give the id" if known else "the ranking has no such model"
            errors.append({"pointer": pointer, "detail": why})
        elif known[0] in found:
            errors.append({"pointer": pointer, "detail": "this model's accuracy is given twice, by id and by name"})
        else:
            found[known[0]] = accuracy
    if errors:
        raise Invalid("some accuracies do not belong to models of this ranking", errors=errors)
    return found


def scores_of(
    session: Session, caller: Caller, ranking: Ranking, summary: Summary, models: Mapping[str, Model], fingerprint: str
) -> dict[str, dict[str, float]]:
    """Score -> model -> number, higher being better: what the ranking said, and plain baselines."""
    scores: dict[str, dict[str, float]] = {}
    for cell, score in Rankings(session).scores(ranking.id):
        if cell.layer == HEAD and score.value is not None:
            scores.setdefault(cell.metric, {})[cell.model_id] = score.value
    scores |= summary.pool_values
    if summary.consensus is not None:
        scores["consensus"] = {model: -float(rank) for model, rank in summary.consensus.ranks.items()}
    if summary.recommendation is not None:
        order = summary.recommendation.order
        scores[RECOMMENDATION] = {model.model_id: -float(place) for place, model in enumerate(order)}
    tried = {row.model_id: -row.nll for row in Trials(session).of(ranking.id) if row.nll is not None}
    known = {
        "trial": tried,
        "parameters": {key: float(model.parameters) for key, model in models.items() if model.parameters},
        "gmacs": {key: model.gmacs for key, model in models.items() if model.gmacs is not None},
        "top1": {key: model.top1 for key, model in models.items() if model.top1 is not None},
        "history": _history(session, caller, models, fingerprint),
    }
    return scores | {name: values for name, values in known.items() if values}


def _history(session: Session, caller: Caller, models: Mapping[str, Model], fingerprint: str) -> dict[str, float]:
    """The merit of models by their own record on other targets."""
    records = History(session).others(caller.owner, fingerprint)
    targets = list(dict.fromkeys(record.target_fingerprint for record in records))
    table = np.full((len(models), len(targets)), np.nan)
    digests = [model.digest for model in models.values()]
    for record in records:
        if record.weights_digest in digests:
            table[digests.index(record.weights_digest), targets.index(record.target_fingerprint)] = record.accuracy
    found = prior(table, np.empty((len(models), 0)))
    return {key: float(merit) for key, merit, n in zip(models, found.merit, found.targets, strict=True) if n}


def _tests(truth: Truth, resamples: int) -> list[ScoreTest]:
    if RECOMMENDATION not in truth.scores or resamples == 0:
        return []
    accuracies, advised = POINTS * np.asarray(truth.accuracies), np.asarray(truth.scores[RECOMMENDATION])
    tests = []
    for name, values in truth.scores.items():
        other = np.asarray(values)
        known = ~np.isnan(other) & ~np.isnan(advised)
        if name == RECOMMENDATION or known.sum() < 2:
            continue
        for measure, sign in TESTED.items():
            found = paired_difference(
                first=advised[known],
                second=other[known],
                accuracies=accuracies[known],
                measure=measure,
                resamples=resamples,
            )
            if found is None or found.low is None or found.high is None:
                continue
            low, high = sorted((sign * found.low, sign * found.high))
            tests.append(
                ScoreTest(
                    measure=measure,
                    against=name,
                    difference=sign * found.difference,
                    low=low,
                    high=high,
                    p_value=found.p_value,
                )
            )
    return tests
