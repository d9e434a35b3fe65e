"""What is said of a ranking when all of its models have ended: ranks, consensus, ensembles."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from app.db.tables import Model, Ranking, RankingModel, RankingScore, Score
from workers.features import HEAD
from workers.runtime import Runtime

# What differs by less is rounding, not merit.
TIE = 1e-9
Cells = Sequence[tuple[RankingScore, Score]]


def conclude(
    runtime: Runtime, ranking: Ranking, runs: Sequence[RankingModel], models: Mapping[str, Model], cells: Cells
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The summary and the ensembles of a ranking whose models ``runs`` have scores."""
    present = {run.model_id for run in runs}
    values: dict[str, dict[str, float]] = {}
    layers: dict[str, dict[str, dict[str, float]]] = {}
    for cell, score in cells:
        if score.value is None or cell.model_id not in present:
            continue
        layers.setdefault(cell.model_id, {}).setdefault(cell.metric, {})[cell.layer] = score.value
        if cell.layer == HEAD:
            values.setdefault(cell.metric, {})[cell.model_id] = score.value
    ranks = {metric: competition_ranks(scores) for metric, scores in values.items()}
    summary: dict[str, Any] = {
        "ranks": ranks,
        "layer_ranks": {
            model_id: {metric: competition_ranks(scores) for metric, scores in metrics.items()}
            for model_id, metrics in layers.items()
        },
        "order": [run.model_id for run in runs],
    }
    return summary, _teams(runtime, ranking, runs, models)


def _teams(
    runtime: Runtime, ranking: Ranking, runs: Sequence[RankingModel], models: Mapping[str, Model]
) -> list[dict[str, Any]]:
    choices, teams = ranking.request["ensembles"], ranking.request["teams"]
    if not choices and not teams:
        return []
    names = display_names([models[run.model_id] for run in runs])
    evidence = {run.model_id: run.evidence or {} for run in runs}
    sources = ranking.request["sources"]
    samples = {sources.get(models[run.model_id].source_dataset or "") for run in runs}
    payload = {
        "models": [
            {
                "name": names[run.model_id],
                "parameters": models[run.model_id].parameters,
                "label_space": models[run.model_id].source_dataset or run.model_id,
                "target_key": evidence[run.model_id]["target"][HEAD],
                "source_key": evidence[run.model_id].get("source", {}).get(HEAD),
            }
            for run in runs
        ],
        "source_is_one": len(samples - {None}) == 1,
        "choices": choices,
        "teams": [[names.get(model_id, model_id) for model_id in team] for team in teams],
        "folder": str(runtime.settings.rankings_folder / ranking.id),
    }
    answers: list[dict[str, Any]] = runtime.scorers.call("teams", payload)
    return answers


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
