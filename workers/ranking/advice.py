"""The recommendation of a ranking, from what is known, the metrics and the trial."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from app.contracts.advice import AdvisedModel, ExpectedRegret, Recommendation, Rung
from app.contracts.states import ModelRunState, TrialState
from app.db.advice_tables import Evaluation, FineTunedAccuracy, RankingTrial
from app.db.repositories.history import History
from app.db.repositories.models import Models
from app.db.repositories.rankings import Rankings
from app.db.tables import Model, Ranking
from estimators.comparison.calibration import PUBLISHED, Calibration, calibrate, chances
from estimators.comparison.history import prior
from estimators.comparison.recommendation import Recommendation as Order
from estimators.comparison.recommendation import recommend
from workers.ranking.conclusion import Cells, display_names, values_of

# Of the metrics that a ranking has, these advise; if it has none of them, all that it has. docs/truth.md says why.
ADVISING = ("nce", "logme", "tmi")
POINTS = 100.0


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of models without looking at the target, in the order of the models.

    Attributes:
        merit: (M,) see `estimators.comparison.history.Prior`.
        targets: on how many other targets models of this pool were fine-tuned before.
        said: in words.
    """

    merit: NDArray[np.float64]
    targets: int
    said: str


def known_of(models: Sequence[Model], records: Sequence[FineTunedAccuracy]) -> Known:
    """The prior from parameters, accuracy on the source and earlier fine-tunings."""
    targets = list(dict.fromkeys(record.target_fingerprint for record in records))
    places: dict[str, list[int]] = {}
    for place, model in enumerate(models):
        places.setdefault(model.digest or model.id, []).append(place)
    table = np.full((len(models), len(targets)), np.nan)
    for record in records:
        for place in places.get(record.weights_digest, ()):
            table[place, targets.index(record.target_fingerprint)] = record.accuracy
    metadata = np.array(
        [
            (
                math.log10(model.parameters) if model.parameters else math.nan,
                math.nan if model.top1 is None else model.top1,
            )
            for model in models
        ]
    )
    found = prior(table, metadata)
    counted = int(found.targets.max(initial=0))
    rests = ["the number of parameters"]
    if any(model.top1 is not None for model in models):
        rests.append("accuracy on ImageNet")
    if counted:
        rests.append(f"what models of this pool reached on up to {counted} other target{'s' if counted > 1 else ''}")
    return Known(found.merit, counted, listed(rests))


def metric_lists(cells: Cells, order: Sequence[str], abstaining: Collection[str] = ()) -> dict[str, list[float]]:
    """Metric -> value by model, of the metrics that advise and do not abstain; NaN where a model has none."""
    values = {metric: found for metric, found in values_of(cells, order).items() if metric not in abstaining}
    advising = [metric for metric in ADVISING if metric in values] or list(values)
    return {metric: [values[metric].get(model, math.nan) for model in order] for metric in advising}


def promising(session: Session, ranking: Ranking) -> list[str]:
    """Ids of the models that have scores, the most promising first: the order in which they are tried."""
    rankings = Rankings(session)
    runs = [run.model_id for run in rankings.models(ranking.id) if run.state is ModelRunState.SUCCEEDED]
    if not runs:
        return []
    models = Models(session).get_many(runs)
    known = known_of([models[run] for run in runs], records_of(session, ranking))
    metrics = metric_lists(rankings.scores(ranking.id), runs)
    return [runs[place] for place in recommend(known=[known.merit], metrics=list(metrics.values())).order]


def records_of(session: Session, ranking: Ranking) -> Sequence[FineTunedAccuracy]:
    """Earlier fine-tunings that may be used, unless the request leaves them out."""
    if not ranking.request.history or ranking.sample is None:
        return []
    return History(session).others(ranking.owner, ranking.sample.fingerprint)


def evaluations_of(session: Session, ranking: Ranking) -> Sequence[Evaluation]:
    """Evaluations of other targets, unless the request leaves history out."""
    if not ranking.request.history or ranking.sample is None:
        return []
    return History(session).evaluations(ranking.owner, ranking.sample.fingerprint)


def advise(
    models: Sequence[Model],
    cells: Cells,
    records: Sequence[FineTunedAccuracy],
    evaluations: Sequence[Evaluation] = (),
    trials: Sequence[RankingTrial] = (),
    losses: NDArray[np.float64] | None = None,
    hits: NDArray[np.float64] | None = None,
    abstaining: Collection[str] = (),
) -> Recommendation:
    """Combine all rungs.

    Args:
        models: those that have scores.
        trials: their rows, in any order; models that were not tried have none.
        losses, hits: (T, N) of ``trials``; see `workers.trials.predictions.held_out`.
        abstaining: metrics that cannot tell these models apart.
    """
    ids = [model.id for model in models]
    known, metrics = known_of(models, records), metric_lists(cells, ids, abstaining)
    by_model = {row.model_id: place for place, row in enumerate(trials)}
    nothing = np.full(0 if losses is None else losses.shape[1], np.nan)

    def by_place(table: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
        if table is None:
            return None
        return np.stack([table[by_model[model]] if model in by_model else nothing for model in ids])

    ended = {row.model_id: row.state for row in trials}
    dropped = [ended.get(model) in (TrialState.EXCLUDED, TrialState.FAILED) for model in ids]
    found = recommend(
        known=[known.merit],
        metrics=list(metrics.values()),
        losses=by_place(losses),
        correct=by_place(hits),
        dropped=dropped,
    )
    evidence: dict[Rung, str] = {}
    if "known" in found.places:
        evidence["known"] = known.said
    if "metrics" in found.places:
        evidence["metrics"] = listed(list(metrics))
    if "trial" in found.places:
        done = sum(bool(row.keys) for row in trials)
        evidence["trial"] = f"short fine-tuning of {done} model{'s' if done > 1 else ''}, held-out likelihood"
    own = calibrate(_calibration_pairs(evaluations, evidence))
    calibration = own or PUBLISHED.get(frozenset(evidence))
    if calibration is not None and (len(ids) > calibration.most_models or any(dropped)):
        calibration = None
    stated = None if calibration is None else chances(found.score, calibration)
    names = display_names(models)
    order = tuple(
        AdvisedModel(
            model_id=ids[place],
            name=names[ids[place]],
            score=float(found.score[place]),
            places={
                rung: float(values[place]) for rung, values in found.places.items() if not math.isnan(values[place])
            },
            fine_tune=rank < found.fine_tune,
            trial=ended[ids[place]].value if ids[place] in ended else None,
            chance_best=None if stated is None else float(stated[place]),
        )
        for rank, place in enumerate(int(place) for place in found.order)
    )
    return Recommendation(
        order=order,
        fine_tune=tuple(model.model_id for model in order if model.fine_tune),
        expected_regret=tuple(
            ExpectedRegret(k=k, points=round(POINTS * value, 2))
            for k, value in enumerate(found.expected_regret or (), start=1)
        ),
        evidence=evidence,
        chances_from=None if calibration is None else calibration.targets,
        chances_basis=None if calibration is None else "evaluations" if own else "study",
        text=in_words(order, evidence, found, calibration),
    )


def _calibration_pairs(
    evaluations: Sequence[Evaluation], evidence: Mapping[Rung, str]
) -> list[tuple[list[float], list[float]]]:
    """(scores, accuracies) of recommendations that rested on the same rungs; the newest of each target."""
    newest = {row.target_fingerprint: row for row in evaluations if set(row.rungs) == set(evidence)}
    return [
        ([row.advised_scores[model] for model in row.accuracies], list(row.accuracies.values()))
        for row in newest.values()
    ]


def listed(words: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def in_words(
    order: Sequence[AdvisedModel], evidence: Mapping[Rung, str], found: Order, calibration: Calibration | None
) -> str:
    """The advice as a person would give it."""
    chosen = [model.name for model in order if model.fine_tune]
    if len(order) == 1:
        return f"{order[0].name} is the only one of these models that could be judged."
    if not evidence:
        return "Nothing tells these models apart: fine-tune any, or ask for metrics or a trial."
    if len(order) <= len(chosen):
        said = [f"Try {listed(chosen)}, in this order."]
    else:
        rest = len(order) - len(chosen)
        others = "the other is" if rest == 1 else f"the other {rest} are"
        said = [f"Fine-tune {listed(chosen)}, in this order; {others} less promising."]
    first = order[0].places
    leads = [rung for rung, place in first.items() if place == max(m.places.get(rung, 0.0) for m in order)]
    trails = [rung for rung in first if rung not in leads]
    words = {"known": f"what is known ({evidence.get('known')})", "metrics": f"the metrics ({evidence.get('metrics')})"}
    words["trial"] = f"the trial ({evidence.get('trial')})"
    if leads:
        said.append(f"{order[0].name} leads by {listed([words[rung] for rung in leads])}.")
    if trails:
        said.append(f"It does not lead by {listed([words[rung] for rung in trails])}.")
    if found.expected_regret:
        k = min(len(chosen), len(found.expected_regret))
        said.append(
            f"By the trial's predictions the best of all may be {POINTS * found.expected_regret[0]:.1f} points above "
            f"the first and {POINTS * found.expected_regret[k - 1]:.1f} above the best of these {k}; that holds the "
            "noise of the sample only."
        )
    elif "trial" in evidence:
        said.append(
            "How much another could be better is not known: the first was not tried on as many images as the others."
        )
    else:
        said.append("How much another could be better is not known without a trial.")
    if calibration is None:
        said.append("The chance that the first is the best when fine-tuned is not known.")
    elif (stated := order[0].chance_best) is not None:
        said.append(
            f"{order[0].name} is the best of these when fine-tuned with a chance of {100 * stated:.0f} %, as models "
            f"that led by as much were on {calibration.targets} earlier targets."
        )
    return " ".join(said)
