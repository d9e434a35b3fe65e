"""What is said of a ranking when all of its models have ended: ranks, consensus, ensembles."""

import math
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
    return summary, []


def competition_ranks(scores: Mapping[str, float]) -> dict[str, int]:
    """1 for the highest; scores equal but for rounding share the better rank (1, 2, 2, 4)."""
    ranks: dict[str, int] = {}
    first, best = 0, math.inf
    for place, (key, value) in enumerate(sorted(scores.items(), key=lambda item: -item[1]), start=1):
        if not math.isclose(value, best, rel_tol=TIE, abs_tol=TIE):
            first, best = place, value
        ranks[key] = first
    return ranks
